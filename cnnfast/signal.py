"""``scipy.signal``'s correlate, convolve, correlate2d and convolve2d, on the convolution kernels.

The same arguments, shapes and dtypes; SciPy isn't needed.

>>> import cnnfast.signal
>>> cnnfast.signal.correlate2d(np.eye(3), [[1.0, 2.0], [3.0, 4.0]], mode="valid")
array([[5., 3.],
       [2., 5.]])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._borders import padded
from ._core.arguments import shown
from ._core.arrays import Array, as_array
from ._windows import correlated, tap_by_tap

__all__ = ["convolve", "convolve2d", "correlate", "correlate2d"]

MODES = ("full", "valid", "same")
METHODS = ("auto", "direct", "fft")
#: SciPy's name -> what is beyond the edges.
BOUNDARIES = {
    "fill": "constant",
    "pad": "constant",
    "wrap": "wrap",
    "circular": "wrap",
    "symm": "reflect",
    "symmetric": "reflect",
}
#: Nanoseconds of a product and sum by itemsize, and of N log2 N of three transforms, in float64;
#: complex numbers take COMPLEX times as long. From two cores with AVX-512.
PRODUCT_NS = {1: 0.03, 2: 0.03, 4: 0.02, 8: 0.035, 16: 0.1}
TRANSFORM_NS = 1.0
COMPLEX = 2.5


def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Array:
    """Cross-correlation of two arrays of the same number of axes, as ``scipy.signal.correlate``.

    Parameters
    ----------
    in1, in2 : arrays
        ``in2`` slides over ``in1``, conjugated if it is complex.
    mode : "full", "valid" or "same"
        Every overlap; whole overlaps, one of the two being at least as large as the other on every
        axis; or the middle of the full result, as large as ``in1``.
    method : "auto", "direct" or "fft"
        Where Fourier transforms (in double precision) take less time "auto" means "fft". They
        serve only where they are right: integers whose sums they can't round to the exact ones,
        infinities and NaNs, bools, objects and long doubles are computed directly.

    Returns
    -------
    array of ``numpy.result_type(in1, in2)``
        Sums of integers are modulo 2**bits, those of bools an "or".

    Raises
    ------
    ValueError, TypeError
        For empty arrays, other numbers of axes, modes and methods, and what isn't a number.

    Examples
    --------
    >>> correlate([1, 2, 3], [0, 1, 5])
    array([ 5, 11, 17,  3,  0])
    """
    first, second = _operands("correlate", in1, in2)
    return _convolved("correlate", first, _adjoint(second), mode, method)


def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Array:
    """Convolution of two arrays of the same number of axes, as ``scipy.signal.convolve``.

    Parameters, results and errors are those of :func:`correlate`; ``in2`` is reversed on every
    axis, and not conjugated.

    Examples
    --------
    >>> convolve([1, 2, 3], [0, 1, 5], mode="same")
    array([ 1,  7, 13])
    """
    first, second = _operands("convolve", in1, in2)
    return _convolved("convolve", first, second, mode, method)


def correlate2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Array:
    """Cross-correlation of two matrices, as ``scipy.signal.correlate2d``.

    Parameters
    ----------
    in1, in2 : (H, W) and (R, S) arrays
        ``in2`` slides over ``in1``, conjugated if it is complex. In mode "valid" the larger one is
        slid over, and conjugated is then the smaller, ``in1`` (as in SciPy; :func:`correlate`
        conjugates ``in2`` then too).
    mode : "full", "valid" or "same"
        As for :func:`correlate`; the "same" of an even kernel lies one element further on than
        :func:`correlate`'s.
    boundary : "fill", "wrap" or "symm"
        What is around ``in1``: ``fillvalue``, itself again, or its mirror image.
    fillvalue : scalar
        In the result's dtype.

    Returns
    -------
    (P, Q) array of ``numpy.result_type(in1, in2)``

    Raises
    ------
    ValueError, TypeError
        For other than matrices, empty ones, and other modes, boundaries and values.

    Examples
    --------
    >>> correlate2d([[1, 2], [3, 4]], [[1, 1]], boundary="wrap")
    array([[3, 3, 3],
           [7, 7, 7]])
    """
    first, second = _matrices("correlate2d", in1, in2)
    swapped = _swapped("correlate2d", mode, first.shape, second.shape)
    if swapped:
        first, second = second, first
    pads = [((k - 1) // 2, k // 2) for k in second.shape]
    result = _slid("correlate2d", first, second.conj(), pads, mode, boundary, fillvalue)
    return result[::-1, ::-1] if swapped else result


def convolve2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Array:
    """Convolution of two matrices, as ``scipy.signal.convolve2d``.

    Parameters, results and errors are those of :func:`correlate2d`; ``in2`` is reversed on both
    axes, and not conjugated.

    Examples
    --------
    >>> convolve2d([[1, 2], [3, 4]], [[1, 1]], fillvalue=9)
    array([[10,  3, 11],
           [12,  7, 13]])
    """
    first, second = _matrices("convolve2d", in1, in2)
    if _swapped("convolve2d", mode, first.shape, second.shape):
        first, second = second, first
    pads = [(k // 2, (k - 1) // 2) for k in second.shape]
    return _slid("convolve2d", first, second[::-1, ::-1], pads, mode, boundary, fillvalue)


def _operands(name: str, in1: Any, in2: Any) -> tuple[Array, Array]:
    """Both in their common dtype, checked."""
    first, second = as_array(f"{name}: in1", in1), as_array(f"{name}: in2", in2)
    for which, array in (("in1", first), ("in2", second)):
        if array.dtype.kind not in "biufcO":
            raise TypeError(f"{name}: {which} must hold numbers, got dtype {array.dtype}")
        if array.size == 0:
            raise ValueError(f"{name}: {which} must not be empty, got shape {array.shape}")
    if first.ndim != second.ndim:
        raise ValueError(
            f"{name}: in1 and in2 must have the same number of axes, got shapes {first.shape} "
            f"and {second.shape}"
        )
    common = np.result_type(first, second)
    return first.astype(common, copy=False), second.astype(common, copy=False)


def _matrices(name: str, in1: Any, in2: Any) -> tuple[Array, Array]:
    first, second = _operands(name, in1, in2)
    if first.ndim != 2:
        raise ValueError(f"{name}: in1 and in2 must be matrices, got {first.ndim} axes")
    return first, second


def _adjoint(array: Array) -> Array:
    return np.flip(array).conj()


def _swapped(name: str, mode: str, shape: Sequence[int], other: Sequence[int]) -> bool:
    """Whether the second is the larger one in mode "valid", where the larger one is slid over."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"{name}: mode must be 'full', 'valid' or 'same', got {shown(mode)}")
    if mode != "valid" or all(n >= k for n, k in zip(shape, other, strict=True)):
        return False
    if any(n > k for n, k in zip(shape, other, strict=True)):
        raise ValueError(
            f"{name}: in mode 'valid' one of in1 and in2 must be at least as large as the other on "
            f"every axis, got shapes {tuple(shape)} and {tuple(other)}"
        )
    return True


def _slid(
    name: str, x: Array, weight: Array, same: list[tuple[int, int]], mode: str, boundary: str,
    fillvalue: Any,
) -> Array:  # fmt: skip
    """``weight`` slid over ``x`` and what is around it; ``same``: the borders of that mode."""
    if not isinstance(boundary, str) or boundary not in BOUNDARIES:
        raise ValueError(
            f"{name}: boundary must be 'fill', 'wrap' or 'symm', got {shown(boundary)}"
        )
    fill = np.asarray(fillvalue)
    if fill.size != 1 or fill.dtype.kind not in "biufcO":
        raise ValueError(f"{name}: fillvalue must be one number, got {shown(fillvalue)}")
    if fill.dtype.kind == "c" and x.dtype.kind not in "cO":
        raise ValueError(f"{name}: fillvalue must be real for {x.dtype}, got {shown(fillvalue)}")
    pads = {
        "full": [(k - 1, k - 1) for k in weight.shape],
        "valid": [(0, 0)] * 2,
        "same": same,
    }[mode]
    value = fill.reshape(()).astype(x.dtype)
    beyond = BOUNDARIES[boundary]
    if beyond == "constant" and not value:
        return correlated(x, weight, pads)
    return correlated(padded(x, pads, [beyond] * 2, value, x.dtype), weight)


def _convolved(name: str, first: Array, second: Array, mode: str, method: str) -> Array:
    swapped = _swapped(name, mode, first.shape, second.shape)
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"{name}: method must be 'auto', 'direct' or 'fft', got {shown(method)}")
    if first.ndim == 0:
        product: Array = first * second
        return product
    if swapped:
        first, second = second, first
    sizes = list(zip(first.shape, second.shape, strict=True))
    if mode == "full":
        window = [(0, n + k - 1) for n, k in sizes]
    elif mode == "same":
        window = [((k - 1) // 2, (k - 1) // 2 + n) for n, k in sizes]
    else:
        window = [(k - 1, n) for n, k in sizes]
    if second.size > first.size:  # convolution commutes: the kernel is the smaller one
        first, second = second, first
    if method == "fft" or (method == "auto" and _transforms_pay(first, second, window)):
        result = _by_transforms(first, second, window)
        if result is not None:
            return result
    return _directly(first, second, window)


def _directly(x: Array, kernel: Array, window: list[tuple[int, int]]) -> Array:
    """Elements start..stop-1 of the full convolution on each axis."""
    pads, inside = [], []
    for (start, stop), n, k in zip(window, x.shape, kernel.shape, strict=True):
        before, after = k - 1 - start, stop - n
        pads.append((max(before, 0), max(after, 0)))
        inside.append(slice(max(-before, 0), n + min(after, 0)))
    weight = np.flip(kernel)
    if x.ndim == 1 and kernel.dtype.kind in "fc" and not np.isfinite(kernel).all():
        # In one dimension NumPy, and with it SciPy, multiplies no padding.
        return tap_by_tap(x[tuple(inside)], weight, pads)
    return correlated(x[tuple(inside)], weight, pads)


def _transforms_pay(x: Array, kernel: Array, window: list[tuple[int, int]]) -> bool:
    products = math.prod(stop - start for start, stop in window) * kernel.size
    size = math.prod(_length(n + k - 1) for n, k in zip(x.shape, kernel.shape, strict=True))
    transforms = TRANSFORM_NS * size * math.log2(size + 1)
    is_complex = x.dtype.kind == "c"
    return PRODUCT_NS.get(x.dtype.itemsize, 1.0) * products > transforms * (
        COMPLEX if is_complex else 1
    )


def _by_transforms(x: Array, kernel: Array, window: list[tuple[int, int]]) -> Array | None:
    """As :func:`_directly`, through the frequency domain; None where that would not be right."""
    kind = x.dtype.kind
    if kind in "bO" or x.dtype.itemsize > (16 if kind == "c" else 8):
        return None
    if kind in "iu" and not _is_exact(x, kernel):
        return None
    shape = [_length(n + k - 1) for n, k in zip(x.shape, kernel.shape, strict=True)]
    axes = tuple(range(x.ndim))
    # Real ones in float64: float32's transforms lose digits that its sums keep.
    forward, back = (np.fft.fftn, np.fft.ifftn) if kind == "c" else (np.fft.rfftn, np.fft.irfftn)
    wide = np.complex128 if kind == "c" else np.float64
    with np.errstate(invalid="ignore", over="ignore"):  # looked at below
        product = forward(x.astype(wide, copy=False), shape, axes)
        product *= forward(kernel.astype(wide, copy=False), shape, axes)
        result = back(product, shape, axes)[tuple(slice(*pair) for pair in window)]
        if not np.isfinite(result).all():
            return None
        return (np.rint(result) if kind in "iu" else result).astype(x.dtype)


def _is_exact(x: Array, kernel: Array) -> bool:
    """Whether rounding the transforms' result gives the exact sums: their error grows with the
    operands' norms and the logarithm of the size.
    """
    largest = math.prod(max(abs(int(a.max())), abs(int(a.min()))) for a in (x, kernel))
    size = x.size + kernel.size
    norms = largest * math.sqrt(x.size * kernel.size)
    return 4 * math.log2(size + 1) * norms * float(np.finfo(float).eps) < 0.25


def _length(n: int) -> int:
    """The least product of twos, threes and fives that is at least ``n``.

    >>> [_length(n) for n in (1, 7, 11, 1025)]
    [1, 8, 12, 1080]
    """
    best, fives = 1 << (n - 1).bit_length(), 1
    while fives < best:
        odd = fives
        while odd < best:
            rest = -(-n // odd)
            best = min(best, odd << (rest - 1).bit_length())
            odd *= 3
        fives *= 5
    return best
