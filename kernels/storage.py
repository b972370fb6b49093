"""Dtypes that a row may read as they are stored, and convert while it copies and packs.

A row that declares such dtypes (``registry.Kernel.stored``) is handed arrays of them. Its bias, its
weight panels and its scratch are in the dtype that it computes in, for which its blocks are cut.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .problem import ConvProblem
from .shapes import ceil_div

Array = np.ndarray[Any, Any]
Dtype = np.dtype[Any]


class Stored(NamedTuple):
    """What is computed in, what the results are, and how many channels an element has that is
    computed with: pairs of int16 for integers, whose products are summed in int32."""

    computing: str
    result: str
    channels: int = 1


STORED = {
    "float16": Stored("float32", "float16"),
    "bfloat16": Stored("float32", "bfloat16"),
    "int8": Stored("int32", "int32", channels=2),
    "uint8": Stored("int32", "int32", channels=2),
}


@lru_cache(maxsize=32)
def stored_as(dtype: Dtype) -> Stored | None:
    """How a dtype is computed with that is stored alone; None for those that are computed in.

    >>> stored_as(np.dtype(np.int8)).channels, stored_as(np.dtype(np.float32))
    (2, None)
    """
    return STORED.get(dtype.name)


@lru_cache(maxsize=32)
def computing_dtype(dtype: Dtype) -> Dtype:
    """What a row computes in that reads this dtype."""
    stored = stored_as(dtype)
    return dtype if stored is None else np.dtype(stored.computing)


@lru_cache(maxsize=32)
def result_dtype(dtype: Dtype) -> Dtype:
    """What a row writes that reads this dtype."""
    stored = stored_as(dtype)
    return dtype if stored is None or stored.result == dtype.name else np.dtype(stored.result)


def in_elements(problem: ConvProblem, dtype: Dtype) -> ConvProblem:
    """The problem that blocks are cut for: its channels are elements that are computed with."""
    stored = stored_as(dtype)
    if stored is None or stored.channels == 1:
        return problem
    return problem._replace(c=ceil_div(problem.c, stored.channels))


def elements_of(weight: Array) -> Array:
    """A weight (K, C/G, ...) as the elements that are computed with.

    >>> elements_of(np.array([[1, 2, 3]], np.int8))
    array([[131073,      3]], dtype=int32)
    """
    stored = stored_as(weight.dtype)
    if stored is None:
        return weight
    if stored.channels == 1:
        return weight.astype(stored.computing)
    channels = weight.shape[1]
    wide = np.zeros((weight.shape[0], channels + channels % 2, *weight.shape[2:]), np.int32)
    wide[:, :channels] = weight
    return np.asarray(wide[:, ::2] & 0xFFFF | wide[:, 1::2] << 16)
