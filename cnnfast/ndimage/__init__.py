"""``scipy.ndimage``'s correlations, means, maxima and minima over windows, on the kernels.

The same arguments, shapes and dtypes; SciPy isn't needed. Sums are made in float64 (or what is
wider) and stored in the output's dtype, as SciPy does it. Masks, any number of axes and inputs of
any number type are taken. ``mode`` is what lies beyond the edges of an array ``a b c d``:

    "reflect", "grid-mirror"       d c b a | a b c d | d c b a
    "mirror"                         d c b | a b c d | c b a
    "nearest"                      a a a a | a b c d | d d d d
    "wrap", "grid-wrap"            a b c d | a b c d | a b c d
    "constant", "grid-constant"    k k k k | a b c d | k k k k      (k = cval)

>>> import cnnfast.ndimage
>>> cnnfast.ndimage.maximum_filter([1, 5, 2, 0, 0, 3], size=3)
array([5, 5, 5, 2, 3, 3])
"""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array

from .calls import correlated, correlated_1d, extremes, means

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "maximum_filter",
    "maximum_filter1d",
    "minimum_filter",
    "minimum_filter1d",
    "uniform_filter",
    "uniform_filter1d",
]


def correlate(
    input: Any, weights: Any, output: Any = None, mode: Any = "reflect", cval: complex = 0.0,
    origin: Any = 0, *, axes: Any = None,
) -> Array:  # fmt: skip
    """Correlation over all axes, as ``scipy.ndimage.correlate``.

    Parameters
    ----------
    input : array of any number of axes
    weights : array with as many axes, or as many as ``axes``
        Conjugated if complex. Taps of at most 2.2e-16 are left out, NaNs under them as well.
    output : array or dtype, optional
        Where results are stored, or in what; the input's dtype by default, complex if it or the
        weights are. Conversions to integers are towards zero and modulo 2**bits.
    mode : str
        What lies beyond the edges: see the module.
    cval : number
        That of mode "constant".
    origin : int or one per axis
        Moves the window: 0 is its middle, positive ones are towards lower indices.
    axes : int or tuple of ints, optional
        Those that ``weights`` has; all by default.

    Returns
    -------
    array of the input's shape; ``output``, if that is one

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> correlate([1.0, 2.0, 4.0], [-1.0, 0.0, 1.0])
    array([1., 3., 2.])
    """
    return correlated("correlate", input, weights, output, mode, cval, origin, axes, False)


def convolve(
    input: Any, weights: Any, output: Any = None, mode: Any = "reflect", cval: complex = 0.0,
    origin: Any = 0, *, axes: Any = None,
) -> Array:  # fmt: skip
    """Convolution over all axes, as ``scipy.ndimage.convolve``: :func:`correlate` with reversed
    weights, not conjugated, and ``origin`` the other way.

    Examples
    --------
    >>> convolve([1.0, 2.0, 4.0], [-1.0, 0.0, 1.0], mode="constant")
    array([-2., -3.,  2.])
    """
    return correlated("convolve", input, weights, output, mode, cval, origin, axes, True)


def correlate1d(
    input: Any, weights: Any, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: complex = 0.0, origin: int = 0,
) -> Array:  # fmt: skip
    """Correlation along one axis, as ``scipy.ndimage.correlate1d``: arguments, results and errors
    are :func:`correlate`'s, but that no tap is left out.

    Examples
    --------
    >>> correlate1d([[1, 2], [3, 4]], [1, 1], axis=0)
    array([[2, 4],
           [4, 6]])
    """
    return correlated_1d("correlate1d", input, weights, axis, output, mode, cval, origin, False)


def convolve1d(
    input: Any, weights: Any, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: complex = 0.0, origin: int = 0,
) -> Array:  # fmt: skip
    """Convolution along one axis, as ``scipy.ndimage.convolve1d``: see :func:`convolve`.

    Examples
    --------
    >>> convolve1d([[1, 2], [3, 4]], [1, 1], axis=0)
    array([[4, 6],
           [6, 8]])
    """
    return correlated_1d("convolve1d", input, weights, axis, output, mode, cval, origin, True)


def uniform_filter(
    input: Any, size: Any = 3, output: Any = None, mode: Any = "reflect", cval: complex = 0.0,
    origin: Any = 0, *, axes: Any = None,
) -> Array:  # fmt: skip
    """Means over rectangular windows, as ``scipy.ndimage.uniform_filter``.

    Axis after axis, in the order of ``axes``, each stored in the output's dtype: means of integers
    are cut off after every axis. A NaN or an infinity reaches the windows that hold it, where
    SciPy's running sums carry it to the end of the line.

    Parameters
    ----------
    input, output, cval
        As for :func:`correlate`.
    size : int or one per axis
        0 and 1 leave an axis as it is.
    mode, origin : as for :func:`correlate`, or one per axis
    axes : int or tuple of ints, optional
        Those to filter; all by default.

    Returns
    -------
    array of the input's shape; ``output``, if that is one

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> uniform_filter([2.0, 8.0, 0.0, 4.0], size=2)
    array([2., 5., 4., 2.])
    """
    return means("uniform_filter", input, size, output, mode, cval, origin, axes)


def uniform_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: complex = 0.0, origin: int = 0,
) -> Array:  # fmt: skip
    """Means over windows of one axis, as ``scipy.ndimage.uniform_filter1d``: see
    :func:`uniform_filter`.

    Examples
    --------
    >>> uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    return uniform_filter(input, size, output, mode, cval, origin, axes=axis)


def maximum_filter(
    input: Any, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect",
    cval: float = 0.0, origin: Any = 0, *, axes: Any = None,
) -> Array:  # fmt: skip
    """Maxima over windows, as ``scipy.ndimage.maximum_filter``.

    A NaN wins everything (in SciPy that depends on where it stands), integers are compared exactly,
    and ``cval`` is brought into their range.

    Parameters
    ----------
    input : array of real numbers or bools
    size : int or one per axis
        Of a rectangular window.
    footprint : array of bools, instead of ``size``
        True for the elements of the window.
    output, mode, cval, origin, axes
        As for :func:`uniform_filter`; ``mode`` is one string if the footprint is not all True.

    Returns
    -------
    array of the input's shape; ``output``, if that is one

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> maximum_filter([1, 0, 0, 5, 0], footprint=[True, False, True])
    array([1, 1, 5, 0, 5])
    """
    return extremes("maximum_filter", input, size, footprint, output, mode, cval, origin, axes)


def maximum_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: float = 0.0, origin: int = 0,
) -> Array:  # fmt: skip
    """Maxima over windows of one axis, as ``scipy.ndimage.maximum_filter1d``: see
    :func:`maximum_filter`.

    Examples
    --------
    >>> maximum_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([8, 8, 8, 4, 9, 9, 9, 9])
    """
    return maximum_filter(input, size, None, output, mode, cval, origin, axes=axis)


def minimum_filter(
    input: Any, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect",
    cval: float = 0.0, origin: Any = 0, *, axes: Any = None,
) -> Array:  # fmt: skip
    """Minima over windows, as ``scipy.ndimage.minimum_filter``: see :func:`maximum_filter`.

    Examples
    --------
    >>> minimum_filter([[3, 1], [2, 5]], size=(1, 2), mode="constant", cval=9)
    array([[3, 1],
           [2, 2]])
    """
    return extremes("minimum_filter", input, size, footprint, output, mode, cval, origin, axes)


def minimum_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: float = 0.0, origin: int = 0,
) -> Array:  # fmt: skip
    """Minima over windows of one axis, as ``scipy.ndimage.minimum_filter1d``: see
    :func:`maximum_filter`.

    Examples
    --------
    >>> minimum_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([2, 0, 0, 0, 1, 1, 0, 0])
    """
    return minimum_filter(input, size, None, output, mode, cval, origin, axes=axis)
