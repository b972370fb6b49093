"""torch beside cnnfast: conversions, and its functions on NumPy arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

Array = np.ndarray[Any, Any]


def tensor(value: Any) -> Any:
    """A torch tensor of the same values and dtype; what isn't an array stays."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(value.copy())


def array(value: Any) -> Array:
    if value.dtype == torch.bfloat16:
        return value.to(torch.float32).numpy().astype(bfloat16)  # type: ignore[no-any-return]
    return value.numpy()  # type: ignore[no-any-return]


def peer(name: str, *args: Any, **kwargs: Any) -> Any:
    """Torch's function on copies of the arguments, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = [tensor(value) for value in args]
        return getattr(F, name)(*values, **{key: tensor(kwargs[key]) for key in kwargs})


def eps_of(dtype: Any) -> float:
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)


def close(result: Array, expected: Array, bound: Any) -> None:
    """Same shape, dtype, NaN and infinities; the rest within ``bound``."""
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    mine, other = result.astype(np.float64), expected.astype(np.float64)
    usual = np.isfinite(other)
    np.testing.assert_array_equal(np.where(usual, 0, mine), np.where(usual, 0, other))
    difference = np.abs(np.where(usual, mine - np.where(usual, other, 0), 0))
    assert (difference <= bound).all(), (difference - bound).max()
