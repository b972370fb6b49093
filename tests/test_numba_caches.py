"""Functions of ``kernels.numba_cpu``: caches, and the time of a first call."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnfast.kernels.registry import engine_missing

if engine_missing("numba_cpu"):
    pytest.skip(f"numba engine: {engine_missing('numba_cpu')}", allow_module_level=True)


from numba_arrays import run_python

USER = """
import sys
import numba, numpy as np
from numba import njit, prange
from cnnfast.kernels import numba_cpu
from cnnfast.kernels.numba_cpu import _conv_core, _pool_core

conv2d, max_pool2d = numba_cpu.conv2d, numba_cpu.max_pool2d

@njit
def clip(y):
    return min(y, 3)

@njit(parallel=True, cache=True)
def network(images, weight):
    out = np.empty((images.shape[0], weight.shape[0]), images.dtype)
    for i in prange(images.shape[0]):
        y = conv2d(images[i : i + 1], weight, 1, (1, 1), 1, 1, None, clip)
        out[i] = max_pool2d(y, 8)[0, :, 0, 0]
    return out

def main():
    x, w = np.ones((2, 1, 8, 8), np.float32), np.ones((2, 1, 3, 3), np.float32)
    print(network(x, w).sum(), conv2d(x, w).sum(), end=" ")
    for function in (network, conv2d):
        hits, misses = function.stats.cache_hits, function.stats.cache_misses
        print(sum(hits.values()), sum(misses.values()), end=" ")
    print(_conv_core.LIBRARY.compiled, _pool_core.MAX.compiled)
"""


def test_caches_serve_other_processes_and_no_code_of_other_kernels(tmp_path: Path) -> None:
    """In the second process nothing is compiled, in a users' parallel function neither; with other
    sources of the kernels everything is."""
    (tmp_path / "user.py").write_text(USER)
    paths = [str(tmp_path), *sys.path]
    variables = {
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }  # fmt: skip
    program = "import user; user.main()"
    sums = ["12.0", "1296.0"]
    first = run_python(program, variables).split()
    assert first[:4] == [*sums, "0", "1"]
    assert first[-2:] == ["1", "1"]
    assert run_python(program, variables).split() == [*sums, "1", "0", "1", "0", "0", "0"]
    other = (
        "from cnnfast.kernels.numba_cpu import _compile, _library;"
        "stamp = _compile.engine_stamp() + 'x';"
        "_compile.engine_stamp = _library.engine_stamp = lambda: stamp[::-1];"
    )
    again = run_python(other + program, variables).split()
    assert again[:4] == [*sums, "0", "1"]
    assert again[-2:] == ["1", "1"]


def test_stale_code_is_refused_as_a_file_that_isn_t_there() -> None:
    from cnnfast.kernels.numba_cpu import _library

    with pytest.raises(OSError, match="another version of cnnfast's kernels"):
        _library._need("conv", "float32", "0" * 64)


TIME = """
import sys, time
import numba, numpy as np
from cnnfast.kernels import numba_cpu

function = getattr(numba_cpu, sys.argv[1])
x, w = np.ones((1, 4, 9, 9), np.float32), np.ones((4, 4, 3, 3), np.float32)
arguments = (x, w) if "conv" in sys.argv[1] else (x, 3)

@numba.njit(cache=False)
def nothing():
    return 0

begin = time.process_time()
nothing()
middle = time.process_time()
function(*arguments)
print(middle - begin, time.process_time() - middle)
"""


def test_the_first_call_takes_at_most_3_s_and_0_3_s_from_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Besides what Numba takes for the first function of a process, whichever that is; processor
    time, which others on the machine don't lengthen."""
    times = []
    for name in ("conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d"):
        cold = np.inf
        for attempt in range(3):  # a busy machine makes processor time longer, too
            variables = {"NUMBA_CACHE_DIR": str(tmp_path / f"{name}{attempt}")}
            start, seconds = map(float, run_python(TIME, variables, name).split())
            cold = min(cold, seconds)
            if cold < 3:
                break
        warm = min(float(run_python(TIME, variables, name).split()[1]) for _ in range(2))
        times.append((name, cold, warm))
        with capsys.disabled():
            print(
                f"\n{name}: {cold:.2f} s from cold, {warm:.3f} s from the cache "
                f"(Numba's own start: {start:.2f} s)", end="",
            )  # fmt: skip
    for name, cold, warm in times:
        assert cold < 3, name
        assert warm < 0.3, name
