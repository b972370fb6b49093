"""What the canonical problems share; every call becomes one, validated in the making."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from .arguments import INDEX_LIMIT, SIZE_LIMIT, Pairs, Triple
from .axes import Axes
from .operand import Operand, Shape

T = TypeVar("T")


class remembered(Generic[T]):
    """``functools.cached_property`` without the lock that it has before Python 3.12, one for all
    instances: a child forked while another thread held it would wait for ever."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> T:
        # What stands in the instance's own dictionary is found before this descriptor.
        value = instance.__dict__[self.function.__name__] = self.function(instance)
        return value


@dataclass(frozen=True)
class Geometry(ABC):
    """What convolution and pooling share: an input, its windows and a dtype.

    The spatial tuples ``size``, ``kernel``, ``stride``, ``dilation``, ``padding`` and ``output``
    are in canonical order (depth, height, width).
    """

    name: str
    rank: int
    dtype: np.dtype[Any]
    input: Operand
    axes: Axes

    @property
    def size(self) -> Triple:
        """Input extents."""
        return self.axes.size

    @property
    def kernel(self) -> Triple:
        """Taps."""
        return self.axes.kernel

    @property
    def stride(self) -> Triple:
        """Input positions from one output to the next."""
        return self.axes.stride

    @property
    def dilation(self) -> Triple:
        """Input positions from one tap to the next."""
        return self.axes.dilation

    @property
    def stored(self) -> np.dtype[Any] | None:
        """What the arrays hold, where a row may convert that by itself; else they are converted to
        ``dtype``."""
        return None

    @property
    def padding(self) -> Pairs:
        """Zeros before and after."""
        return self.axes.padding

    @property
    def output(self) -> Triple:
        """Output extents."""
        return self.axes.output

    @property
    def batch(self) -> int:
        """Images in the batch (1 for an input without the batch axis)."""
        return self.input.extent("N")

    @property
    def in_channels(self) -> int:
        """Channels of the input, all groups together."""
        return self.input.extent("C")

    @property
    def out_channels(self) -> int:
        """Channels of the output, all groups together."""
        return self.in_channels

    @property
    def out_shape(self) -> Shape:
        """Shape of the result in the user's layout."""
        extents = dict(zip("NCDHW", (self.batch, self.out_channels, *self.output), strict=True))
        return tuple(extents[letter] for letter in self.input.letters)

    @property
    @abstractmethod
    def flops(self) -> int:
        """Floating-point operations."""

    def _check_index(self) -> None:
        # Per image at least: the extents of an empty batch must be good as well.
        images = max(self.batch, 1)
        for what, count, limit in (
            ("the count of operations", self.flops, INDEX_LIMIT),
            (
                "the padded input's size",
                images * self.in_channels * self.axes.padded_size,
                SIZE_LIMIT,
            ),
            ("the result's size", images * self.out_channels * math.prod(self.output), SIZE_LIMIT),
        ):
            if count >= limit:
                power = limit.bit_length() - 1
                raise ValueError(f"{self.name}: {what} must be below 2**{power}, got {count}")


def dtype_of(source: Any, dtype: Any) -> np.dtype[Any]:
    if dtype is None and not isinstance(source, tuple):
        dtype = source.dtype
    return np.dtype(np.float32 if dtype is None else dtype)
