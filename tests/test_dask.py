"""``cnnfast.dask``: equal to the same function of the whole array, however that is chunked."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask_cases import chunked, network, same, whole_numbers

import cnnfast
from cnnfast._core.config import on_threads
from cnnfast.kernels.registry import engine_missing
from cnnfast.transform import to_fully_convolutional

dask = pytest.importorskip("dask", reason="the drop-in for dask needs dask")
da = pytest.importorskip("dask.array", reason="the drop-in for dask needs dask")

pytestmark = pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")

Array = np.ndarray[Any, Any]
#: Kernels that add products in one order, whatever the block: on either engine, the same bits.
ONE_ORDER = "tiled"


def both(name: str, x: Array, lazy: Any, *arguments: Any, **keywords: Any) -> tuple[Any, Any]:
    """The whole array's result and the dask array's; an error's type where there is one."""
    found: list[Any] = []
    for module, source in ((cnnfast, x), (cnnfast.dask, lazy)):
        try:
            result = getattr(module, name)(source, *arguments, **keywords)
        except (ValueError, TypeError) as error:
            result = type(error)
        found.append(result)
    return found[0], found[1]


def random_shape(rng: np.random.Generator, rank: int) -> tuple[tuple[int, ...], int, str | None]:
    """Shape, channels and layout of an input."""
    batch, channels = int(rng.integers(0, 3)), int(rng.integers(1, 5))
    spatial = tuple(map(int, rng.integers(1, (40, 18, 9)[rank - 1], rank)))
    last = "N" + "DHW"[3 - rank :] + "C"
    layout = last if rng.random() < 0.3 else None
    shape = (batch, channels, *spatial) if layout is None else (batch, *spatial, channels)
    return (shape[1:] if rng.random() < 0.15 else shape), channels, layout


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_convolutions(seed: int, rank: int) -> None:
    rng = np.random.default_rng((seed, rank))
    computed = 0
    for _ in range(15):
        shape, channels, layout = random_shape(rng, rank)
        x = whole_numbers(rng, shape)
        groups = int(rng.choice([1, 1, channels]))
        kernel = tuple(map(int, rng.integers(1, 5, rank)))
        outs = groups * int(rng.integers(1, 4))
        weight = whole_numbers(rng, (outs, channels // groups, *kernel))
        pairs = tuple((int(a), int(b)) for a, b in rng.integers(0, 6, (rank, 2)))
        paddings = (0, 2, pairs, "valid", "same", "same_upper", "same_lower")
        mode = str(rng.choice(["constant", "constant", "reflect", "replicate", "circular"]))
        expected, lazy = both(
            f"conv{rank}d", x, chunked(rng, x), weight, whole_numbers(rng, (outs,)),
            tuple(map(int, rng.integers(1, 5, rank))), paddings[rng.integers(len(paddings))],
            tuple(map(int, rng.integers(1, 3, rank))), groups, layout=layout,
            weight_layout="OI" + "DHW"[3 - rank :], padding_mode=mode,
            padding_value=int(rng.integers(2)) if mode == "constant" else 0,
            activation=[None, "relu"][rng.integers(2)],
        )  # fmt: skip
        same(expected, lazy)
        computed += not isinstance(expected, type)
    assert computed > 4


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_pools(seed: int, rank: int) -> None:
    rng = np.random.default_rng((seed, rank))
    computed = 0
    for _ in range(15):
        shape, _, layout = random_shape(rng, rank)
        x = 64 * 27 * 25 * whole_numbers(rng, shape)  # whole means
        kernel = tuple(map(int, rng.integers(1, 5, rank)))
        half = [[int(rng.integers(0, k // 2 + 1)) for _ in range(2)] for k in kernel]
        paddings = (0, half, "same_upper", "same_lower", "valid")
        window = {
            "stride": [None, tuple(map(int, rng.integers(1, 5, rank)))][rng.integers(2)],
            "padding": paddings[rng.integers(len(paddings))],
            "ceil_mode": bool(rng.integers(2)),
            "layout": layout,
        }
        lazy = chunked(rng, x)
        spread = tuple(map(int, rng.integers(1, 3, rank)))
        expected, result = both(f"max_pool{rank}d", x, lazy, kernel, dilation=spread, **window)
        same(expected, result)
        computed += not isinstance(expected, type)
        counted = bool(rng.integers(2))
        name = f"avg_pool{rank}d"
        expected, result = both(name, x, lazy, kernel, count_include_pad=counted, **window)
        same(expected, result)
    assert computed > 4


def test_chunks_follow_the_inputs_under_the_stride() -> None:
    x = da.zeros((3, 4, 20, 30), chunks=((1, 2), (3, 1), (8, 8, 4), (10, 15, 5)))
    y = cnnfast.dask.conv2d(x, np.zeros((6, 4, 3, 3)), stride=(2, 1), padding=1)
    assert y.chunks == ((1, 2), (6,), (4, 4, 2), (10, 15, 5))
    y = cnnfast.dask.max_pool2d(x, 2)
    assert y.chunks == ((1, 2), (3, 1), (4, 4, 2), (5, 7, 3))
    y = cnnfast.dask.avg_pool2d(da.zeros((1, 1, 4, 40), chunks=(1, 1, 4, 1)), (1, 1), (1, 4))
    assert y.chunks[3] == (1,) * 10


def test_a_block_reads_its_halo_and_no_more() -> None:
    read = np.zeros((40, 40), int)

    def block(block_info: Any = None) -> Array:
        (rows, columns) = block_info[None]["array-location"][2:]
        read[slice(*rows), slice(*columns)] += 1
        return np.ones((1, 1, 10, 10))

    x = da.map_blocks(block, chunks=((1,), (1,), (10,) * 4, (10,) * 4), dtype=float)
    y = cnnfast.dask.conv2d(x, np.ones((1, 1, 3, 3)), padding=1)
    y.blocks[0, 0, 1, 0].compute(scheduler="synchronous")
    made = read[::10, ::10].tolist()
    assert made == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


def test_the_same_bits_as_the_whole() -> None:
    if engine_missing("cython_cpu") and engine_missing("numba_cpu"):
        pytest.skip("compiled kernels alone add in one order")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 6, 50, 41)).astype(np.float32)
    weight = rng.normal(size=(5, 6, 3, 4)).astype(np.float32)
    keywords = {"stride": (2, 1), "padding": "same_upper", "backend": ONE_ORDER}
    expected, lazy = both("conv2d", x, chunked(rng, x), weight, **keywords)
    same(expected, lazy, "threads")
    large = da.from_array(x, chunks=(1, 3, 25, 20))
    same(cnnfast.conv2d(x, weight, padding=1), cnnfast.dask.conv2d(large, weight, padding=1))


@pytest.mark.parametrize("code", ["e", "d", "D", "b", "h", "q"])
def test_dtypes(code: str) -> None:
    rng = np.random.default_rng(0)
    x, weight = whole_numbers(rng, (1, 2, 12, 9)), whole_numbers(rng, (3, 2, 3, 3))
    x, weight = x.astype(code), weight.astype(code)
    lazy = da.from_array(x, chunks=(1, 1, 5, 4))
    same(cnnfast.conv2d(x, weight, padding=1), cnnfast.dask.conv2d(lazy, weight, padding=1))
    if code != "D":
        same(cnnfast.max_pool2d(x, 3, 2, 1), cnnfast.dask.max_pool2d(lazy, 3, 2, 1))


def test_weights_of_dask() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = (whole_numbers(rng, s) for s in ((1, 4, 9), (6, 4, 3), (6,)))
    lazy = cnnfast.dask.conv1d(
        da.from_array(x, chunks=4), da.from_array(weight, chunks=2), da.from_array(bias, chunks=4)
    )
    same(cnnfast.conv1d(x, weight, bias), lazy)


# Schedulers, memory, errors.


def test_two_processes_of_distributed() -> None:
    distributed = pytest.importorskip("distributed", reason="compared under its scheduler")
    rng = np.random.default_rng(0)
    x, weight = whole_numbers(rng, (1, 3, 60, 50)), whole_numbers(rng, (4, 3, 5, 5))
    lazy = da.from_array(x, chunks=(1, 2, 16, 20))
    y = cnnfast.dask.conv2d(lazy, weight, stride=2, padding=2, activation="relu")
    y = cnnfast.dask.max_pool2d(y, 3, 2, 1)
    sliding = to_fully_convolutional(network(), (1, 2, 16, 16))
    scores = cnnfast.dask.slide(sliding, lazy[:, :2])
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "90s"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster, timeout=90) as client,
    ):
        futures = client.compute([y, scores])
        pooled, slid = client.gather(futures)
        pids = set(client.run(os.getpid).values())
    assert len(pids) == 2
    assert os.getpid() not in pids
    expected = cnnfast.conv2d(x, weight, stride=2, padding=2, activation="relu")
    np.testing.assert_array_equal(pooled, cnnfast.max_pool2d(expected, 3, 2, 1))
    np.testing.assert_array_equal(slid, sliding(x[:, :2]))


def test_tasks_beside_each_other_take_one_thread_each() -> None:
    cnnfast.set_num_threads(3)
    with on_threads(2):
        assert cnnfast.get_num_threads() == 2
        with on_threads(None):
            assert cnnfast.get_num_threads() == 3
        elsewhere: list[int] = []
        thread = threading.Thread(target=lambda: elsewhere.append(cnnfast.get_num_threads()))
        thread.start()
        thread.join()
        assert elsewhere == [3]
    assert cnnfast.get_num_threads() == 3


@pytest.mark.parametrize(("scheduler", "threads"), [("synchronous", 3), ("threads", 1)])
def test_threads_of_a_task(scheduler: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    conv2d = cnnfast.functional.conv2d

    def counting(*arguments: Any, **keywords: Any) -> Any:
        seen.append(cnnfast.get_num_threads())
        return conv2d(*arguments, **keywords)

    monkeypatch.setattr(cnnfast.functional, "conv2d", counting)
    cnnfast.set_num_threads(3)
    y = cnnfast.dask.conv2d(da.ones((1, 1, 8, 8), chunks=4), np.ones((1, 1, 3, 3)))
    seen.clear()
    y.compute(scheduler=scheduler)
    assert seen == [threads] * y.npartitions


def test_memory_stays_far_below_the_images(tmp_path: Path) -> None:
    """6000 x 6000 of float32, 144 MB, filtered into a file; what is counted is what comes on top of
    a small image's."""
    pytest.importorskip("resource", reason="peak memory is asked of Unix")
    program = """
import sys
import numpy as np
from cnnfast.benchmarks.drop_ins import dask_image as program
program.filtered(program.image(600, 300), sys.argv[1] + "/small.npy")
before = program.peak_bytes()
program.filtered(program.image(6000, 500), sys.argv[1] + "/large.npy")
print(program.peak_bytes() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 144e6 / 2
    means = np.load(tmp_path / "large.npy", mmap_mode="r")
    assert means.shape == (1, 1, 3000, 3000)
    assert 0 < np.abs(means[0, 0, ::50]).max() < 0.5


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def refuse(*_: Any) -> Array:
        raise AssertionError("computed")

    x = da.map_blocks(refuse, da.zeros((1, 1, 8, 8), chunks=4), dtype=float, meta=np.empty(0))
    y = cnnfast.dask.max_pool2d(cnnfast.dask.conv2d(x, np.ones((1, 1, 3, 3))), 2)
    with pytest.raises(AssertionError, match="computed"):
        y.compute()


def test_weights_are_those_at_the_time_of_the_call() -> None:
    weight, bias = np.ones((1, 1, 3)), np.zeros(1)
    y = cnnfast.dask.conv1d(da.ones((1, 1, 8), chunks=4), weight, bias)
    weight[...] = bias[...] = 7
    np.testing.assert_array_equal(y.compute(), np.full((1, 1, 6), 3.0))


def test_empty_chunks_are_passed_over() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    lazy = da.from_array(x, chunks=((0, 1, 0, 1), (2, 0, 1), (3, 1, 0)))
    weight = np.ones((1, 3, 2))
    same(*both("max_pool1d", x, lazy, 2))
    same(*both("conv1d", x, lazy, weight, padding=1, padding_mode="replicate"))


def test_graphs_are_sent_and_named_by_what_they_compute() -> None:
    y = cnnfast.dask.conv1d(da.ones((1, 1, 8), chunks=4), np.ones((1, 1, 3)))
    again = pickle.loads(pickle.dumps(y))
    np.testing.assert_array_equal(again.compute(), np.full((1, 1, 6), 3.0))
    alike = cnnfast.dask.conv1d(da.ones((1, 1, 8), chunks=4), np.ones((1, 1, 3)))
    assert alike.name == y.name
    other = cnnfast.dask.conv1d(da.ones((1, 1, 8), chunks=4), np.full((1, 1, 3), 2.0))
    assert other.name != y.name


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "message"),
    [
        ("conv1d", (np.ones((1, 1, 9)), np.ones((1, 1, 3))), {}, "must be a dask array"),
        ("conv1d", (None, np.ones((1, 2, 3))), {}, "channels"),
        ("conv1d", (None, np.ones((1, 1, 12))), {}, "must fit"),
        ("conv1d", (None, np.ones((1, 1, 3))), {"padding": -1}, "padding"),
        ("conv1d", (None, np.ones((1, 1, 3))), {"padding_mode": "odd", "padding": 1}, "must be"),
        ("conv1d", (None, np.ones((1, 1, 3))), {"activation": "odd"}, "activation"),
        ("conv1d", (None, np.ones((1, 1, 3)), np.ones(2)), {}, "bias"),
        ("conv1d", (None, np.ones((1, 1, 3))), {"backend": "odd"}, "backend"),
        ("max_pool1d", (None, 3), {"padding": 2}, "half"),
        ("avg_pool1d", (None, 0), {}, "positive"),
        ("avg_pool2d", (None, 2), {"divisor_override": 0}, "divisor"),
    ],
)
def test_errors_come_before_anything_is_computed(
    name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], message: str
) -> None:
    x = da.zeros((1, 1) + (9,) * int(name[-2]), chunks=4) if arguments[0] is None else arguments[0]
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(cnnfast.dask, name)(x, *arguments[1:], **keywords)


def test_unknown_chunks_are_refused() -> None:
    x = da.zeros((4, 1, 9), chunks=3)
    unknown = x[x[:, 0, 0] == 0]
    with pytest.raises(ValueError, match="known chunks"):
        cnnfast.dask.max_pool1d(unknown, 2)


def test_without_dask_the_install_command_is_told(tmp_path: Path) -> None:
    program = "import sys; sys.modules['dask'] = None; import cnnfast; cnnfast.dask"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "cnnfast.dask needs dask: pip install 'cnnfast[dask]'" in done.stderr
