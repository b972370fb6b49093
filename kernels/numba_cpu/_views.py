"""Arrays of compiled functions as values of ``_emit``."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import types
from numba.core import cgutils

from ._emit import Code, Value


class View(NamedTuple):
    """An array: its first element, and strides; of an array of outputs d, h, w are o, p, q, and of
    weights n, c, d, h, w are k, c, t, r, s."""

    data: Value
    n: Value
    c: Value
    d: Value
    h: Value
    w: Value


def view_of(code: Code, array: types.Array, value: Any) -> View:
    """An array of five axes."""
    structure = code.context.make_array(array)(code.context, code.builder, value)
    strides = cgutils.unpack_tuple(code.builder, structure.strides)
    size = array.dtype.bitwidth // 8
    return View(code.of(structure.data), *(code.of(step) // size for step in strides))


def fields_of(code: Code, kind: Any, value: Any) -> Any:
    """A named tuple of ints."""
    return kind(*(code.of(field) for field in cgutils.unpack_tuple(code.builder, value)))
