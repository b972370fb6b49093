"""Real numbers as arguments: slopes, momenta, epsilons."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from .arguments import shown


def real(name: str, value: Any) -> float:
    """``value`` as a float; TypeError unless it is a real number, ValueError where none holds it.

    >>> real("eps", np.float32(0.5))
    0.5
    """
    if isinstance(value, np.timedelta64) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must fit a float, got {shown(value)}") from None


def finite(name: str, value: Any) -> float:
    """``real``, and ValueError for infinities and NaN."""
    result = real(name, value)
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite, got {shown(value)}")
    return result
