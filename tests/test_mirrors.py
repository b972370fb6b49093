"""What stands in C because it must is the same as in Python."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from cnnfast.kernels import blocking, blocking_gradients, blocking_rows, costs, parallel, problem

#: The sources of this checkout: an installed package has no .pyx files.
HERE = Path(__file__).resolve().parents[1] / "kernels" / "cython_cpu"
TUPLES = (
    problem.ConvProblem, problem.PoolProblem,
    blocking.GemmCut, blocking.TiledCut, blocking_rows.RowsCut,
    blocking_gradients.DgradCut, blocking_gradients.WgradCut, blocking_gradients.WgradDirectCut,
)  # fmt: skip


@pytest.mark.parametrize("fields", TUPLES, ids=lambda fields: fields.__name__)
def test_c_structs_list_the_fields_of_their_tuples(fields: type) -> None:
    text = (HERE / "_problem.pxd").read_text()
    found = re.search(rf"cdef struct {fields.__name__}:\n((?: +int64_t .*\n)+)", text)
    assert found is not None
    names = re.findall(r"\w+", found[1].replace("int64_t", ""))
    assert tuple(names) == fields._fields  # type: ignore[attr-defined]


def defined(file: str, name: str) -> int:
    found = re.search(rf"{name}\s*=?\s*(\d+)", (HERE / file).read_text())
    assert found is not None
    return int(found[1])


def test_the_loops_of_pooling_know_its_fields() -> None:
    text = (HERE / "pool_windows.h").read_text()
    found = re.search(r"typedef struct \{\n((?: +int64_t .*;\n)+)\} PoolProblem;", text)
    assert found is not None
    names = re.findall(r"\w+", found[1].replace("int64_t", ""))
    assert tuple(names) == problem.PoolProblem._fields


def test_c_constants_are_those_of_blocking() -> None:
    assert defined("microkernel.h", "define MOST_PIXELS") == blocking.MOST_PIXELS
    assert defined("_microkernel.pxd", "MOST_PIXELS") == blocking.MOST_PIXELS
    assert defined("_tiled.pyx", "CACHE_SETS_BYTES") == blocking.CACHE_SETS_BYTES
    assert blocking.TILE_BYTES == 64, "WIDTH of microkernel.h, in bytes"
    assert defined("_im2col.pyx", "GEMM_TAPS") == costs.GEMM_TAPS
    assert defined("gemm.h", "define GEMM_TAPS") == costs.GEMM_TAPS
    assert defined("_im2col.pyx", "GEMM_STRIPS") == blocking.GEMM_STRIPS
    assert defined("_packing.pyx", "TAPS_LENGTH") == defined("storage.h", "define TAPS_LENGTH")
    assert defined("direct.h", "define DIRECT_CHANNELS") == blocking.DIRECT_CHANNELS
    assert defined("direct_rows.h", "define SHARED_ROWS") == blocking_rows.SHARED_ROWS
    assert defined("dgrad_direct.h", "define MOST_CHANNELS") == blocking.DIRECT_CHANNELS
    assert defined("dgrad_direct.h", "define MOST_TAPS") == blocking_gradients.PAIR_TAPS
    assert defined("_dgrad_direct.pyx", "PLACES") == blocking_gradients.PAIR_PLACES
    assert defined("wgrad.h", "define MOST_WEIGHTS") == blocking_gradients.WGRAD_WEIGHTS


def test_queues_of_threads_are_cut_alike() -> None:
    assert defined("_team.pxd", "CHUNKS_PER_THREAD") == parallel.CHUNKS_PER_THREAD


@pytest.mark.parametrize(("tasks", "threads"), [(100, 1), (100, 2), (3, 2), (1000, 8)])
def test_queues_have_one_layout(tasks: int, threads: int) -> None:
    """The next chunk, chunks, tasks, finished chunks: as ``queue_of`` makes a queue, ``fill_queue``
    fills one, and ``next_tasks`` and ``wait_for`` read it."""
    text = (HERE / "_team.pyx").read_text()
    body = re.search(r"cdef void fill_queue\(.*\n +\"\"\".*\n((?: +.*\n)+)", text)
    assert body is not None
    constants = {"CHUNKS_PER_THREAD": parallel.CHUNKS_PER_THREAD, "min": min}
    queue = [-1] * 4
    exec(textwrap.dedent(body[1]), constants, {"queue": queue, "tasks": tasks, "threads": threads})
    assert queue == parallel.queue_of(tasks, threads).tolist()

    reads = (HERE / "_problem.pxd").read_text(), text
    assert "__atomic_fetch_add(&queue[0]" in reads[0], "the next chunk"
    assert "chunks = queue[1], tasks = queue[2]" in reads[0]
    assert "__atomic_fetch_add(&queue[3]" in reads[0], "finished chunks"
    assert "__atomic_load_n(&queue[3], __ATOMIC_ACQUIRE) < queue[1]" in reads[1]
