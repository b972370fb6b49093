"""Whether arrays hold finite numbers alone, as some rows must know before they skip a product."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def all_finite(array: Array) -> bool:
    """Whether no element of a five-axis array that kernels take is infinite or NaN.

    >>> all_finite(np.ones((1, 1, 1, 1, 2))), all_finite(np.full((1, 1, 1, 1, 2), np.inf))
    (True, False)
    """
    if array.dtype.kind != "f":
        return True
    if _compiled is not None and array.dtype.itemsize in (4, 8):
        found: bool = _compiled(array)
        return found
    return bool(np.isfinite(array).all())


try:
    from .cython_cpu._launch import finite as _compiled
except ImportError:
    _compiled = None
