"""Functions of ``kernels.numba_cpu``: what they refuse, how they cut, their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast.kernels.registry import engine_missing

if engine_missing("numba_cpu"):
    pytest.skip(f"numba engine: {engine_missing('numba_cpu')}", allow_module_level=True)

import numba
from numba.core.errors import TypingError

from cnnfast import ConvGeometry, PoolGeometry
from cnnfast.kernels import numba_cpu
from cnnfast.kernels.blocking_rows import rows_cut
from cnnfast.kernels.numba_cpu import conv2d_into, max_pool2d_into

from numba_arrays import RANDOM, Array, W, X, reference_conv, run_python


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((X, W), "the weight must have in-channels / groups channels"),
        ((X, W, 1, 0, 1, 3), "groups must divide the channels"),
        ((X, W, 1, 0, 1, 0), "groups must be positive"),
        ((X, W, 0, 0, 1, 2), "stride and dilation must be positive"),
        ((X, W, 1, 0, -1, 2), "stride and dilation must be positive"),
        ((X, W, 1, -1, 1, 2), "padding must be non-negative"),
        ((X, W, 1, 0, 4, 2), "the kernel must fit the padded input"),
        ((X, W, 1, 2**31, 1, 2), "must be below 2\\*\\*31"),
        ((X, W, 1, 2**30, 1, 2), "must be below 2\\*\\*59"),
        ((X, W[:, :, :0], 1, 0, 1, 2), "no channel and no spatial axis may be empty"),
        ((X[:, :0], W[:, :0], 1, 0, 1, 1), "no channel and no spatial axis may be empty"),
        ((X, W, 1, 0, 1, 2, np.ones(5, np.float32)), "bias must have a value for each"),
    ],
)
def test_wrong_numbers_are_refused(arguments: tuple[Any, ...], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        numba_cpu.conv2d(*arguments)


def test_wrong_numbers_of_the_others_are_refused() -> None:
    with pytest.raises(ValueError, match="output_padding must be smaller than stride or dilation"):
        numba_cpu.conv_transpose2d(X, W[:4], 2, 0, 2)
    with pytest.raises(ValueError, match="output_padding must be non-negative"):
        numba_cpu.conv_transpose2d(X, W[:4], 2, 0, -1)
    with pytest.raises(ValueError, match="as many in-channels as the input"):
        numba_cpu.conv_transpose2d(X, W)
    with pytest.raises(ValueError, match="the output must not be empty"):
        numba_cpu.conv_transpose2d(X, W[:4], 1, 9)
    with pytest.raises(ValueError, match="padding must be at most half the window"):
        numba_cpu.max_pool2d(X, 2, 2, 2)
    with pytest.raises(ValueError, match="the kernel must fit the padded input"):
        numba_cpu.avg_pool2d(X, 9)
    with pytest.raises(ValueError, match="no channel and no spatial axis may be empty"):
        numba_cpu.max_pool2d(X, 0)
    out = np.zeros((1, 6, 6, 6), np.float32)
    with pytest.raises(ValueError, match="out must have the shape of the result"):
        numba_cpu.conv2d_into(X, W, 1, 0, 1, 2, out[:, :5])
    same = np.zeros((1, 4, 8, 8), np.float32)
    with pytest.raises(ValueError, match="out must lie in front of all inputs in memory"):
        numba_cpu.max_pool2d_into(same, 1, out=same[:, :, ::-1])
    record = np.zeros((1, 4, 8, 8), [("a", "f4"), ("b", "i2")])["a"]
    with pytest.raises((ValueError, TypingError), match="whole elements|aligned"):
        numba_cpu.max_pool2d(record, 2)


REFUSED = """
import numpy as np
from numba.core.runtime import rtsys
from cnnfast.kernels import numba_cpu

x, w = np.ones((1, 4, 8, 8), np.float32), np.ones((4, 4, 3, 3), np.float32)
bias, out = np.ones(8, np.float32)[::2], np.ones((1, 4, 9, 9), np.float32)
numba_cpu.max_pool2d(x, 2)  # now there are counts

def live():
    stats = rtsys.get_allocation_stats()
    return stats.alloc - stats.free

for call in (
    lambda: numba_cpu.conv2d(x, w, 1, -1, 1, 1, bias),
    lambda: numba_cpu.conv2d_into(x, w, 1, 1, 1, 1, out, bias),
    lambda: numba_cpu.conv_transpose2d(x, w, 0, bias=bias),
    lambda: numba_cpu.max_pool2d(x, 9),
    lambda: numba_cpu.avg_pool2d_into(x, 2, out=out),
):
    before = live()
    for _ in range(10):
        try:
            call()
        except ValueError:
            continue
        raise AssertionError
    print(live() - before, end=" ")
"""


def test_what_is_refused_is_let_go() -> None:
    """An error keeps neither arrays nor copies of a bias alive."""
    assert run_python(REFUSED, {"NUMBA_NRT_STATS": "1"}).split() == ["0"] * 5


def test_an_empty_batch_has_no_memory_to_share() -> None:
    room = np.ones((2, 4, 8, 8), np.float32)
    numba_cpu.conv2d_into(room[:0], W[:4], 1, 1, 1, 2, room[:0])
    assert (room == 1).all()


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((X.astype(int), W), "x must be an aligned array of 4 axes, float32 or float64"),
        ((X[0], W), "x must be an aligned array of 4 axes"),
        ((X, W.astype(float)), "weight must be an aligned array of 4 axes and x's dtype float32"),
        ((X, W, (1, 1, 1)), "must be an integer or a tuple of 2 integers"),
        ((X, W, 1.0), "must be an integer or a tuple of 2 integers"),
        ((X, W, 1, 0, 1, 2.0), "groups must be an integer"),
        ((X, W, 1, 0, 1, 2, 3.0), "bias must be None or an aligned array of 1 axis"),
        ((X, W, 1, 0, 1, 2, None, "relu"), "activation must be None or a function compiled by"),
    ],
)
def test_wrong_types_are_refused_while_code_is_compiled(
    arguments: tuple[Any, ...], rule: str
) -> None:
    with pytest.raises(TypingError, match=rule):
        numba_cpu.conv2d(*arguments)


def test_out_must_be_writeable() -> None:
    frozen = np.zeros((1, 6, 6, 6), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(TypingError, match="out must be a writeable"):
        numba_cpu.conv2d_into(X, W, 1, 0, 1, 2, frozen)
    with pytest.raises(TypingError, match="out must be a writeable"):
        numba_cpu.conv2d_into(X, W, 1, 0, 1, 2)


def test_steps_whose_products_pass_64_bits_are_no_crash() -> None:
    """Of virtual inputs, which are padding: 42 times the strides' product is 2**64 / 4."""
    x, w = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 8, 1), np.float32)
    stride = (2**33 - 8) // 42, 2**29
    with pytest.raises(MemoryError):
        numba_cpu.conv2d(x, w, stride, (stride[0] // 2 + 6, 2**28))


@numba.njit
def names_in_compiled_code(x: Array, w: Array, out: Array, small: Array) -> None:
    conv2d_into(x, w, padding=(np.int32(1), np.uint8(1)), groups=2, out=out)
    max_pool2d_into(out, (2, 2), out=small, ceil_mode=True)


def test_results_by_name_and_integers_of_any_kind() -> None:
    out, small = np.empty((1, 6, 8, 8), np.float32), np.empty((1, 6, 4, 4), np.float32)
    names_in_compiled_code(X, W, out, small)
    np.testing.assert_array_equal(out, reference_conv(X, W, groups=2, padding=1))
    np.testing.assert_array_equal(small, cnnfast.max_pool2d(out, 2))


def test_the_compiled_cut_is_the_row_s() -> None:
    """Field by field, for many problems and numbers of tasks."""
    from cnnfast.kernels.numba_cpu import _calls, _words

    @numba.njit
    def cut_of(x: Array, problem: Array, least: int) -> Array:
        words = _calls.conv_words(x, x, (1, 1, 1), (0, 0, 0), (1, 1, 1), (0, 0, 0), 1, None, None)
        for i in range(len(problem)):
            words[FIRST + i] = problem[i]
        _calls.plan_conv(x, (words, least))
        return np.array([words[CUT + i] for i in range(FIELDS)])

    FIRST, CUT = _words.CONV.problem, _words.CONV.cut
    FIELDS = _words.CONV.out_sizes - CUT
    for dtype in ("float32", "float64"):
        x = np.ones((1, 1, 1), dtype)
        for _ in range(200):
            groups = int(RANDOM.choice([1, 1, 2, 5]))
            c, k = (int(RANDOM.choice([1, 1, 3, 16, 200])) for _ in range(2))
            kernel = RANDOM.choice([1, 3, 3, 7], 3) * [1, 1, 1]
            size = kernel * 2 + RANDOM.integers(0, 200, 3)
            geometry = ConvGeometry.of(
                (int(RANDOM.integers(1, 4)), groups * c, *map(int, size)),
                (groups * k, c, *map(int, kernel)), dtype=dtype, groups=groups,
                stride=int(RANDOM.integers(1, 4)), padding=int(RANDOM.integers(0, 3)),
                dilation=int(RANDOM.integers(1, 3)),
            )  # fmt: skip
            for least in (1, 16):
                expected = rows_cut(geometry.problem, x.itemsize, least)
                got = cut_of(x, np.array(geometry.problem), least)
                np.testing.assert_array_equal(got, expected)


def test_the_names_are_there_and_cost_nothing_before_they_are_used() -> None:
    program = (
        "import sys; from cnnfast.kernels import numba_cpu; print('numba' in sys.modules);"
        "print(set(numba_cpu.__all__) <= set(dir(numba_cpu)), numba_cpu.conv2d.__name__)"
    )
    assert run_python(program, {}).split() == ["False", "True", "conv2d"]
    with pytest.raises(AttributeError, match="has no attribute 'conv4d'"):
        numba_cpu.conv4d  # noqa: B018
    for name in numba_cpu.__all__:
        assert getattr(numba_cpu, name).__name__ == name
        assert getattr(numba_cpu, name).__doc__


def test_without_numba_the_names_say_what_installs_it() -> None:
    program = (
        "import sys; sys.modules['numba'] = None; from cnnfast.kernels import numba_cpu\n"
        "try: numba_cpu.conv2d\nexcept ModuleNotFoundError as error: print(error)"
    )
    assert "pip install 'cnnfast[numba]'" in run_python(program, {})


def test_the_windows_are_the_geometry_s() -> None:
    """A pooling of positions shows them: a minimum and a maximum are the first and the last tap."""
    positions = np.arange(23.0).reshape(1, 1, -1)
    for kernel, stride, padding, dilation, ceil in (
        (3, 2, 1, 1, False), (4, 3, 2, 2, True), (2, 5, 1, 3, True), (5, 1, 2, 1, False)
    ):  # fmt: skip
        geometry = PoolGeometry.of(
            positions, "max", kernel, stride, padding, dilation, ceil, rank=1
        )
        windows = geometry.windows[2:]
        lowest = -numba_cpu.max_pool1d(-positions, kernel, stride, padding, dilation, ceil)
        np.testing.assert_array_equal(lowest[0, 0], windows[:, 0])
        highest = numba_cpu.max_pool1d(positions, kernel, stride, padding, dilation, ceil)
        taps = (windows[:, 1] - 1 - windows[:, 0]) // dilation
        np.testing.assert_array_equal(highest[0, 0], windows[:, 0] + taps * dilation)
