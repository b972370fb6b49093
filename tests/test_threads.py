"""The same bits on any number of threads, from any thread, and in a forked child."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast.kernels import KERNELS, Kernel, parallel
from cnnfast.kernels.registry import engine_missing

import conformance as suite

ROWS = {
    family: [row for row in suite.rows_of(family) if row.same_bits] for family in ("fprop", "pool")
}

LAYERS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 19, 29, 31), (37, 19, 3, 3), {"padding": 1}),
    ((1, 96, 7, 7), (200, 96, 3, 3), {"padding": 1}),
    ((3, 12, 40, 200), (24, 1, 3, 5), {"padding": (1, 2), "groups": 12, "stride": (2, 1)}),
]


def random(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", suite.DTYPES)
@pytest.mark.parametrize("row", suite.parameters(ROWS["fprop"]))
def test_convolutions_keep_their_bits(row: Kernel, dtype: str) -> None:
    for x_shape, w_shape, arguments in LAYERS:
        x, w = random(x_shape, dtype), random(w_shape, dtype)
        geometry = cnnfast.ConvGeometry.of(x, w, **arguments)
        kernel = cnnfast.kernels.load("fprop", *row.name.split("/"))
        results = []
        for threads in (1, 2, 3, 8):
            out = np.full(geometry.out_shape, np.nan, dtype)
            scratch = np.empty(kernel.scratch_bytes(geometry, threads), np.uint8)
            kernel(x, w, out, geometry, scratch, threads=threads)
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
        same = np.array_equal(cnnfast.conv2d(X, W, padding=1, backend=engine), expected)
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_every_task_runs_exactly_once() -> None:
    for tasks in (0, 1, 2, 7, 100, 1001):
        for threads in (1, 2, 5, 200):
            counts = np.zeros(tasks, int)
            workers: set[int] = set()

            def body(begin: int, end: int, worker: int) -> None:
                counts[begin:end] += 1  # noqa: B023 - called before the loop goes on
                workers.add(worker)  # noqa: B023

            parallel.run(body, tasks, threads)
            assert (counts == 1).all()
            assert workers <= set(range(threads))


def test_a_worker_number_is_one_threads_at_a_time() -> None:
    """Local scratch is told apart by the worker's number."""
    busy: set[int] = set()
    clashes: list[int] = []

    def body(begin: int, end: int, worker: int) -> None:
        if worker in busy:
            clashes.append(worker)
        busy.add(worker)
        threading.Event().wait(0.001)
        busy.discard(worker)

    parallel.run(body, 50, 6)
    assert clashes == []


def test_an_error_in_a_body_is_raised_and_the_pool_goes_on() -> None:
    def body(begin: int, end: int, worker: int) -> None:
        raise ZeroDivisionError(worker)

    with pytest.raises(ZeroDivisionError):
        parallel.run(body, 10, 3)
    done: list[int] = []
    parallel.run(lambda begin, end, worker: done.extend(range(begin, end)), 10, 3)
    assert sorted(done) == list(range(10))
