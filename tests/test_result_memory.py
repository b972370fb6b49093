"""Memory of large results is used again, bounded, and given back."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast._core import workspace

Array = np.ndarray[Any, Any]

memory = pytest.importorskip(
    "cnnfast.kernels.cython_cpu._memory", reason="the Cython engine isn't installed"
)

MIB = 1 << 20
SHAPE = (1, 1, 1024, 1024)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    gc.collect()
    cnnfast.release_scratch()
    yield
    cnnfast.release_scratch()


def address(array: Array) -> int:
    return int(array.ctypes.data)


def test_a_result_takes_the_memory_of_one_that_died() -> None:
    x, w = np.ones(SHAPE, np.float32), np.ones((1, 1, 1, 1), np.float32)
    first = cnnfast.conv2d(x, w)
    assert memory.kept() == 0
    assert first.flags.owndata
    assert first.flags.carray
    assert first.base is None
    place = address(first)
    assert place % 64 == 0
    del first
    assert 4 * MIB <= memory.kept() <= 5 * MIB
    again = cnnfast.conv2d(x, w)
    assert address(again) == place
    other = cnnfast.conv2d(x, w)
    assert address(other) != place
    np.testing.assert_array_equal(again, x)
    np.testing.assert_array_equal(other, x)
    view = again[0, 0, 5:]
    del again
    assert memory.kept() == 0
    np.testing.assert_array_equal(view, x[0, 0, 5:])


def test_small_results_have_ordinary_memory() -> None:
    cnnfast.max_pool2d(np.ones((1, 1, 64, 64), np.float32), 2)
    assert memory.kept() == 0


def test_what_is_kept_is_bounded_and_released() -> None:
    arrays = [memory.empty((40 * MIB,), np.uint8) for _ in range(8)]
    arrays.clear()
    assert 200 * MIB <= memory.kept() <= 256 * MIB
    large = memory.empty((300 * MIB,), np.uint8)
    del large
    assert memory.kept() <= 256 * MIB
    cnnfast.release_scratch()
    assert memory.kept() == 0


@pytest.mark.parametrize("size", [MIB, MIB + 1, 3 * MIB - 64, 7 * MIB + 12345, 64 * MIB])
def test_any_size(size: int) -> None:
    for _ in range(2):
        array = memory.empty((size,), np.uint8)
        array[:] = 7
        array[-1] = 9
        assert array[:-1].min() == 7
        del array
    assert size <= memory.kept() <= size + size // 4 + 128


def test_arrays_that_change_their_size() -> None:
    array = memory.empty((2 * MIB,), np.uint8)
    array[:] = np.arange(2 * MIB) % 251
    for size in (MIB // 2, 3 * MIB, 10):
        most = min(array.size, size)
        before = array[:most].copy()
        array.resize((size,), refcheck=False)
        np.testing.assert_array_equal(array[:most], before)
        if size > most:
            assert not array[most:].any()
    array.shape = (2, 5)
    array.dtype = np.int8
    del array
    assert memory.kept() % 64 == 0


def test_ordinary_arrays_are_numpy_s_own() -> None:
    """The hook is there for our own results alone."""
    name = np._core.multiarray.get_handler_name
    ours = memory.empty((2 * MIB,), np.uint8)
    assert (name(ours), name(np.empty(2 * MIB, np.uint8))) == ("cnnfast", "default_allocator")
    with pytest.raises(MemoryError):
        memory.empty((1 << 58,), np.uint8)
    assert name(np.empty(2 * MIB, np.uint8)) == "default_allocator"


def test_arrays_that_die_on_other_threads() -> None:
    wrong: list[int] = []

    def work(value: int) -> None:
        for i in range(50):
            array = memory.empty((MIB + value * 1000,), np.uint8)
            array[:] = (value + i) % 256
            handed.append(array)
            if (array != (value + i) % 256).any():
                wrong.append(value)
            if len(handed) > 6:
                handed.pop(0)

    handed: list[Array] = []
    workers = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert wrong == []
    handed.clear()
    assert memory.kept() <= 256 * MIB


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_has_memory_of_its_own() -> None:
    kept = memory.empty((4 * MIB,), np.uint8)
    kept[:] = 1
    died = memory.empty((4 * MIB,), np.uint8)
    del died
    child = os.fork()
    if child == 0:
        code = 1
        try:
            array = memory.empty((4 * MIB,), np.uint8)
            array[:] = 2
            kept[:] = 3
            code = 0 if memory.release() == 0 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (kept == 1).all()
    assert memory.kept() > 0


def test_results_that_outlive_the_interpreter() -> None:
    code = (
        "import numpy as np, cnnfast, sys, threading\n"
        "x = np.ones((1, 1, 1024, 1024), np.float32)\n"
        "sys.kept = [cnnfast.max_pool2d(x, 1) for _ in range(3)]\n"
        "class Late:\n"
        "    def __del__(self): self.array = None\n"
        "late = Late(); late.array = sys.kept[0]; np.late = late\n"
        "print(sys.kept[0].sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert (float(done.stdout), done.stderr) == (1 << 20, "")


def test_without_the_extension_numpy_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_memory", None)
    assert workspace.large_empty(SHAPE, np.dtype(np.float32)) is None
    cnnfast.release_scratch()
