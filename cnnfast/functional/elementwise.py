"""Activations as functions: a new array from any array, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._core import activations
from .._core.arguments import flag, shown
from .._core.arrays import Array, as_array
from .._core.dtypes import converted, promote
from .._core.reals import real

FLOATS = ("float",)
NUMBERS = ("float", "integer")


def _mapped(
    name: str, input: Any, change: Callable[[Array], None], kinds: tuple[str, ...] = FLOATS
) -> Array:
    """A C-contiguous copy of ``input``, changed in place in the dtype to compute in."""
    x = as_array(f"{name}: input", input)
    arithmetic = promote(name, (x,), kinds=kinds)
    integers = arithmetic.kind == "integer"
    result = x.astype(arithmetic.common if integers else arithmetic.computing(1), order="C")
    change(result)
    return converted(result, arithmetic.common)


def _check_not_in_place(name: str, inplace: Any) -> None:
    """ValueError for torch's ``inplace=True``."""
    if flag(f"{name}: inplace", inplace):
        raise ValueError(f"{name}: inplace must be False, got True: inputs are never modified")


def relu(input: Any, inplace: bool = False) -> Array:
    """``max(input, 0)``, as ``torch.nn.functional.relu``; NaN and the sign of a zero stay.

    Parameters
    ----------
    input : array of any shape and strides
        float16, bfloat16, float32, float64, int8, uint8, int16, int32 or int64.
    inplace : False
        As torch has it; inputs are never modified.

    Returns
    -------
    array of the same shape and dtype, C-contiguous.

    Raises
    ------
    TypeError
        For other dtypes, and an ``inplace`` that isn't a bool.
    ValueError
        For ``inplace=True``.

    Examples
    --------
    >>> import numpy as np
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    _check_not_in_place("relu", inplace)
    return _mapped("relu", input, activations.relu, NUMBERS)


def relu6(input: Any, inplace: bool = False) -> Array:
    """``min(max(input, 0), 6)``, as ``torch.nn.functional.relu6``; NaN and the sign of a zero stay.

    Parameters
    ----------
    input : array of any shape and strides
        float16, bfloat16, float32, float64, int8, uint8, int16, int32 or int64.
    inplace : False
        As torch has it; inputs are never modified.

    Returns
    -------
    array of the same shape and dtype, C-contiguous.

    Raises
    ------
    TypeError
        For other dtypes, and an ``inplace`` that isn't a bool.
    ValueError
        For ``inplace=True``.

    Examples
    --------
    >>> import numpy as np
    >>> relu6(np.array([-1, 2, 7]))
    array([0, 2, 6])
    """
    _check_not_in_place("relu6", inplace)
    return _mapped("relu6", input, activations.relu6, NUMBERS)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Array:
    """``input`` where that is positive, ``input * negative_slope`` elsewhere, as
    ``torch.nn.functional.leaky_relu``.

    Parameters
    ----------
    input : array of any shape and strides, float16, bfloat16, float32 or float64
    negative_slope : real number
        Rounded to the dtype that is computed in (float32 but for float64).
    inplace : False
        As torch has it; inputs are never modified.

    Returns
    -------
    array of the same shape and dtype, C-contiguous.

    Raises
    ------
    TypeError
        For other dtypes, a slope that isn't a real number, and an ``inplace`` that isn't a bool.
    ValueError
        For a slope beyond the dtype that is computed in, and ``inplace=True``.

    Examples
    --------
    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 2.0]), 0.5)
    array([-0.5,  2. ])
    """
    _check_not_in_place("leaky_relu", inplace)
    slope = real("leaky_relu: negative_slope", negative_slope)

    def change(x: Array) -> None:
        if math.isfinite(slope) and abs(slope) > float(np.finfo(x.dtype).max):
            raise ValueError(
                f"leaky_relu: negative_slope must fit {x.dtype}, got {shown(negative_slope)}"
            )
        activations.leaky_relu(x, slope)

    return _mapped("leaky_relu", input, change)


def sigmoid(input: Any) -> Array:
    """``1 / (1 + exp(-input))``, as ``torch.nn.functional.sigmoid``, without overflow.

    Parameters
    ----------
    input : array of any shape and strides, float16, bfloat16, float32 or float64

    Returns
    -------
    array of the same shape and dtype, C-contiguous.

    Raises
    ------
    TypeError
        For other dtypes.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return _mapped("sigmoid", input, activations.sigmoid)


def tanh(input: Any) -> Array:
    """The hyperbolic tangent, as ``torch.nn.functional.tanh``.

    Parameters
    ----------
    input : array of any shape and strides, float16, bfloat16, float32 or float64

    Returns
    -------
    array of the same shape and dtype, C-contiguous.

    Raises
    ------
    TypeError
        For other dtypes.

    Examples
    --------
    >>> import numpy as np
    >>> tanh(np.array([-1000.0, 0.0, 1000.0]))
    array([-1.,  0.,  1.])
    """
    return _mapped("tanh", input, activations.tanh)


def gelu(input: Any, approximate: str = "none") -> Array:
    """``input`` times the normal distribution function of it, as ``torch.nn.functional.gelu``.

    Parameters
    ----------
    input : array of any shape and strides, float16, bfloat16, float32 or float64
    approximate : "none" or "tanh"
        "tanh" is ``input * (1 + tanh(sqrt(2 / pi) * (input + 0.044715 * input**3))) / 2``.

    Returns
    -------
    array of the same shape and dtype, C-contiguous. Its left tail keeps its digits, where
    ``1 + erf(x)`` and ``1 + tanh(x)``, torch's formulas, cancel. Minus infinity gives NaN.

    Raises
    ------
    TypeError
        For other dtypes.
    ValueError
        For another ``approximate``.

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    >>> gelu(np.array([-1.0, 0.0, 1.0]), approximate="tanh").round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    forms = {"none": activations.gelu, "tanh": activations.gelu_tanh}
    if not isinstance(approximate, str) or approximate not in forms:
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {shown(approximate)}")
    return _mapped("gelu", input, forms[approximate])


def silu(input: Any, inplace: bool = False) -> Array:
    """``input * sigmoid(input)``, as ``torch.nn.functional.silu`` (also known as swish).

    Parameters
    ----------
    input : array of any shape and strides, float16, bfloat16, float32 or float64
    inplace : False
        As torch has it; inputs are never modified.

    Returns
    -------
    array of the same shape and dtype, C-contiguous. Minus infinity gives NaN.

    Raises
    ------
    TypeError
        For other dtypes, and an ``inplace`` that isn't a bool.
    ValueError
        For ``inplace=True``.

    Examples
    --------
    >>> import numpy as np
    >>> silu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.2689,  0.    ,  0.7311])
    """
    _check_not_in_place("silu", inplace)
    return _mapped("silu", input, activations.silu)
