"""Helpers of compiled calls: right answers whether they are awake, asleep, late or missing."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
import time
from typing import Any

import numpy as np
import pytest

import cnnfast

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("cnnfast.kernels.cython_cpu._team") is None,
    reason="the Cython kernels aren't installed",
)

Array = np.ndarray[Any, Any]


def layer(seed: int) -> tuple[Array, Array]:
    """A layer with enough work for several threads."""
    random = np.random.default_rng(seed)
    x, w = random.standard_normal((1, 16, 24, 24)), random.standard_normal((32, 16, 3, 3))
    return x.astype("float32"), w.astype("float32")


def on_one_thread(x: Array, w: Array) -> bytes:
    cnnfast.set_num_threads(1)
    return cnnfast.conv2d(x, w, backend="cython").tobytes()


@pytest.mark.parametrize("threads", [2, 3, 8, 40])
@pytest.mark.parametrize("pause", [0.0, 50e-6, 2e-3])
def test_awake_or_asleep(threads: int, pause: float) -> None:
    x, w = layer(1)
    expected = on_one_thread(x, w)
    cnnfast.set_num_threads(threads)
    for _ in range(200 if pause < 1e-3 else 20):
        assert cnnfast.conv2d(x, w, backend="cython").tobytes() == expected
        time.sleep(pause)


def test_callers_share_helpers() -> None:
    """Six callers claim helpers from each other, take calls back, and call again at once."""
    layers = [layer(seed) for seed in range(6)]
    expected = [on_one_thread(*arrays) for arrays in layers]
    cnnfast.set_num_threads(4)
    wrong: list[int] = []

    def call(i: int) -> None:
        found = {cnnfast.conv2d(*layers[i], backend="cython").tobytes() for _ in range(300)}
        if found != {expected[i]}:
            wrong.append(i)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_child_has_helpers_of_its_own() -> None:
    x, w = layer(2)
    expected = on_one_thread(x, w)
    cnnfast.set_num_threads(3)
    assert cnnfast.conv2d(x, w, backend="cython").tobytes() == expected
    child = os.fork()
    if child == 0:
        found = [cnnfast.conv2d(x, w, backend="cython").tobytes() for _ in range(50)]
        os._exit(found != [expected] * 50)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this platform has no affinities")
def test_callers_keep_their_cores() -> None:
    x, w = layer(3)
    before = os.sched_getaffinity(0)
    cnnfast.set_num_threads(2)
    for _ in range(5):
        cnnfast.conv2d(x, w, backend="cython")
        cnnfast.grad.conv2d_weight(x, w.shape, cnnfast.conv2d(x, w))
        time.sleep(2e-3)
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("members", [1, 2, 5])
def test_a_borrowed_region_has_the_work_done(members: int) -> None:
    """By fewer members than wanted, by as many, and beside some that have nothing to do."""
    from cnnfast.kernels.cython_cpu._team import borrow

    x, w = layer(3)
    expected = on_one_thread(x, w)
    regions = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    def region(member: int, given: int, threads: int, flags: int) -> None:
        regions.append((threads, flags))
        for _ in range(members):
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(member)(given)

    cnnfast.set_num_threads(2)
    for _ in range(3):  # a call that is prepared, and launched
        borrow(ctypes.cast(region, ctypes.c_void_p).value)
        try:
            found = cnnfast.conv2d(x, w, backend="cython").tobytes()
        finally:
            borrow(0)
        assert found == expected
    assert regions == [(0, 0)] * 3
    assert cnnfast.conv2d(x, w, backend="cython").tobytes() == expected
    assert len(regions) == 3
