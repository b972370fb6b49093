"""The same bits on any number of threads, from any thread, and in a forked child."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import ConvGeometry
from cnnfast.kernels import KERNELS, Kernel, parallel
from cnnfast.kernels.registry import engine_missing

import conformance as suite

ROWS = {
    kind: [row for row in suite.rows_of(*families) if row.same_bits]
    for kind, families in {
        "conv": suite.CONV_FAMILIES,
        "pool": ("pool",),
        "pool_grad": ("pool_grad",),
    }.items()
}

LAYERS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 19, 29, 31), (37, 19, 3, 3), {"padding": 1}),
    ((1, 96, 7, 7), (200, 96, 3, 3), {"padding": 1}),
    ((3, 12, 40, 200), (24, 1, 3, 5), {"padding": (1, 2), "groups": 12, "stride": (2, 1)}),
]


def random(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", suite.parameters(ROWS["conv"]))
def test_convolutions_keep_their_bits(row: Kernel, dtype: str) -> None:
    for x_shape, w_shape, arguments in LAYERS:
        geometry = cnnfast.ConvGeometry.of(x_shape, w_shape, **arguments, dtype=dtype)
        one, two, three = geometry.operands(row.family)
        first, second = random(one.shape, dtype), random(two.shape, dtype)
        kernel = cnnfast.kernels.load(row.family, *row.name.split("/"))
        results = []
        for threads in (1, 2, 3, 8):
            out = np.full(three.shape, np.nan, dtype)
            scratch = np.empty(kernel.scratch_bytes(geometry, threads), np.uint8)
            kernel(first, second, out, geometry, scratch, threads=threads)
            results.append(out.tobytes())
        assert len(set(results)) == 1


@pytest.mark.parametrize("reduction", ["max", "mean"])
@pytest.mark.parametrize("row", suite.parameters(ROWS["pool"]))
def test_poolings_keep_their_bits(row: Kernel, reduction: str) -> None:
    x = random((2, 7, 61, 67), "float32")
    geometry = cnnfast.PoolGeometry.of(x, reduction, 3, 2, 1)
    kernel = cnnfast.kernels.load("pool", *row.name.split("/"))
    results = []
    for threads in (1, 2, 3, 8):
        out = np.full(geometry.out_shape, np.nan, np.float32)
        kernel(x, out, geometry, threads=threads)
        results.append(out.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("reduction", ["max", "mean"])
@pytest.mark.parametrize("row", suite.parameters(ROWS["pool_grad"]))
def test_adjoints_of_poolings_keep_their_bits(row: Kernel, reduction: str) -> None:
    x = random((2, 7, 61, 67), "float32")
    geometry = cnnfast.PoolGeometry.of(x, reduction, 3, 2, 1)
    grad, indices = random(geometry.out_shape, "float32"), None
    if reduction == "max":
        indices = np.empty(geometry.out_shape, np.int64)
        pooled = np.empty_like(grad)
        cnnfast.kernels.load("pool", "direct", "numpy")(x, pooled, geometry, indices=indices)
    kernel = cnnfast.kernels.load("pool_grad", *row.name.split("/"))
    results = []
    for threads in (1, 2, 3, 8):
        out = np.full(x.shape, np.nan, np.float32)
        kernel(grad, out, geometry, indices=indices, threads=threads)
        results.append(out.tobytes())
    assert len(set(results)) == 1


X, W = random((2, 32, 30, 30), "float32"), random((32, 32, 3, 3), "float32")


def engines() -> list[str]:
    names = {row.engine: cnnfast.kernels.registry.ENGINES[row.engine].name for row in KERNELS}
    return [name for folder, name in names.items() if engine_missing(folder) is None]


@pytest.mark.parametrize("engine", engines())
def test_many_python_threads_at_once(engine: str) -> None:
    expected = cnnfast.conv2d(X, W, padding=1, backend=engine)
    pooled = cnnfast.max_pool2d(expected, 2, backend=engine)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            y = cnnfast.conv2d(X, W, padding=1, backend=engine)
            if not np.array_equal(y, expected):
                wrong.append("conv2d")
            if not np.array_equal(cnnfast.max_pool2d(y, 2, backend=engine), pooled):
                wrong.append("max_pool2d")

    cnnfast.set_num_threads(4)
    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert wrong == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("engine", engines())
def test_a_forked_child_after_the_parent_used_threads(engine: str) -> None:
    if engine == "numpy":
        pytest.skip("BLAS's own threads in a forked child are not ours")
    cnnfast.set_num_threads(3)
    expected = cnnfast.conv2d(X, W, padding=1, backend=engine)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(
                not np.array_equal(cnnfast.conv2d(X, W, padding=1, backend=engine), expected)
            )
        finally:
            os._exit(code)
    assert exit_code(child) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_child_forked_while_other_threads_are_in_calls() -> None:
    """Their locks stay locked in it for ever (functools.cached_property had one, for instance)."""
    x, size = random((2, 8, 40, 50), "float32"), (2, 8, 20, 25)
    calls = [
        lambda: cnnfast.max_pool2d(x, 3, 2, 1),
        lambda: cnnfast.grad.avg_pool2d_backward(np.ones(size, np.float32), x, 3, 2, 1),
    ]
    if len(engines()) > 1:
        # On NumPy's engine alone this is BLAS, and OpenBLAS waits for ever in fork itself.
        calls.append(lambda: cnnfast.grad.conv2d_weight(x, (8, 8, 3, 3), x, padding=1))
    for call in calls:
        call()
    stop = threading.Event()

    def work(call: Any) -> None:
        while not stop.is_set():
            call()

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        for call in calls * 3:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    call()
                    code = 0
                finally:
                    os._exit(code)
            assert exit_code(child) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def exit_code(child: int, seconds: float = 60) -> int:
    """The child's exit code; one that takes longer is killed."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no setitimer")
def test_a_signal_handler_may_call_in_the_middle_of_a_call() -> None:
    """Neither deadlock nor scratch shared by the two calls."""
    cnnfast.set_num_threads(2)
    expected = cnnfast.conv2d(X, W, padding=1)
    results: list[np.ndarray[Any, Any]] = []
    nested: list[None] = []

    def handler(*_: Any) -> None:
        # A call may take longer than the timer: three deep is deep enough.
        if len(nested) < 3:
            nested.append(None)
            results.append(cnnfast.conv2d(X, W, padding=1))
            nested.pop()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
    try:
        stop = time.monotonic() + 2
        while time.monotonic() < stop:
            results.append(cnnfast.conv2d(X, W, padding=1))
            assert all(np.array_equal(result, expected) for result in results)
            results.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_call_goes_on_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(parallel, "_pool", parallel._Pool())
    done: list[int] = []
    parallel.run(done.append, 3)
    assert sorted(done)[0] == 0


def test_an_interrupt_leaves_no_thread_at_work() -> None:
    at_work: set[int] = set()

    def body(worker: int) -> None:
        at_work.add(worker)
        time.sleep(0.02 * (worker + 1))
        at_work.discard(worker)
        if worker == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parallel.run(body, 3)
    assert at_work == set()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiled_im2col_and_direct_agree_bit_for_bit_on_both_engines(dtype: str) -> None:
    rows = [row for row in ROWS["conv"] if row.family == "fprop" and row.algorithm != "loop"]
    rows = [row for row in rows if engine_missing(row.engine) is None]
    if not rows:
        pytest.skip("no compiled engine is installed")
    for x_shape, w_shape, arguments in LAYERS:
        x, w = random(x_shape, dtype), random(w_shape, dtype)
        results = {cnnfast.conv2d(x, w, **arguments, backend=row.name).tobytes() for row in rows}
        assert len(results) == 1


def test_more_threads_than_tasks_have_scratch_for_the_tasks_alone() -> None:
    """Of a repeated call, too, which runs without its driver (it wrote behind its scratch)."""
    x, w = random((32, 1760), "float32"), random((48, 1760), "float32")
    cnnfast.set_num_threads(1)
    expected = cnnfast.linear(x, w)
    cnnfast.set_num_threads(64)
    cnnfast.release_scratch()
    for _ in range(200):
        np.testing.assert_array_equal(cnnfast.linear(x, w), expected)


def test_a_queue_has_every_task_once() -> None:
    for tasks in (0, 1, 2, 7, 100, 1001):
        for threads in (1, 2, 5, 200):
            _, chunks, count, finished = parallel.queue_of(tasks, threads).tolist()
            ends = [chunk * count // max(chunks, 1) for chunk in range(chunks + 1)]
            assert (ends[0], ends[-1], count, finished) == (0, tasks, tasks, 0)
            assert all(begin < end for begin, end in itertools.pairwise(ends))


def test_compiled_loops_take_every_task_once() -> None:
    packing = pytest.importorskip("cnnfast.kernels.numba_cpu._packing", exc_type=ImportError)
    weight = random((1000, 1, 1, 1, 1), "float32")
    problem = ConvGeometry.of(np.zeros((1, 1, 4, 4), np.float32), weight[:, 0]).problem
    packed = np.zeros(1008, np.float32)
    panels = parallel.queue_of(63, 3)

    def body(worker: int) -> None:
        packing.pack_weight(weight, packed, problem, 16, panels)
        parallel.wait_for(panels)
        assert np.array_equal(packed[:1000], weight.ravel())

    parallel.run(body, 3)
    assert (panels[1:] == [48, 63, 48]).all()


def test_workers_have_numbers_of_their_own() -> None:
    """Local scratch is told apart by them."""
    workers: list[int] = []

    def body(worker: int) -> None:
        workers.append(worker)
        time.sleep(0.01)

    parallel.run(body, 6)
    assert len(workers) == len(set(workers))
    assert set(workers) <= set(range(6))


def test_an_error_in_a_body_is_raised_and_the_pool_goes_on() -> None:
    def body(worker: int) -> None:
        raise ZeroDivisionError(worker)

    with pytest.raises(ZeroDivisionError):
        parallel.run(body, 3)
    done: list[int] = []
    parallel.run(done.append, 3)
    assert sorted(done)[0] == 0
