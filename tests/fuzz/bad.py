"""Bad arguments for fuzz cases: for every parameter, what no function may take for it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from .checking import Case, out_memory
from .draws import Draw, ints, pick

Array = np.ndarray[Any, Any]
Values = tuple[Any, ...]


class Opaque:
    """An object that is nothing in particular."""

    def __repr__(self) -> str:
        return "Opaque()"


def _self_containing() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


NAN, LONG = float("nan"), 10**5000

#: Never an integer of 1 or more, nor a sequence of them, nor anything else that padding can be.
NOT_SIZES: Values = (
    -1, -(2**63), -(2**70), 2**62, 2**63, 2**64, 2**70, 10**30, LONG, -LONG, 1.5, 2.0, NAN,
    float("inf"), 1j, "a", "", "2", b"1", [[1]], (1,) * 6, (1.5,), ("a",), {}, {1: 2}, set(),
    Opaque(), Opaque, True, False, np.True_, np.ones(2), np.float32(1), np.array(None),
    np.array("a"), np.datetime64(1, "s"), np.timedelta64(1, "s"), Ellipsis, slice(1), iter(()),
    _self_containing(), (-1,), (2**62,), ([],), "valid ", np.zeros((2, 0), int),
)  # fmt: skip
PAIRS: Values = ([[1, 2], [3, 4]], np.ones((2, 2), int))
NO_SIZE: Values = (0, (0,), np.int64(0))
EMPTY: Values = ((), [], range(0))

NOT_ARRAYS: Values = (
    None, "abc", b"abc", 1, 1.0, Opaque(), {}, {1: 2}, set(), [], [[]], [[1.0], [1.0, 2.0]],
    [2**70], [LONG], [None], ["a"], iter(()), Ellipsis, _self_containing(),
    np.ma.zeros((1, 1, 4)), np.zeros(()), np.zeros(3, object), np.zeros(3, bool),
    np.zeros((1, 1, 4), bool), np.zeros((1, 1, 4), "U1"), np.zeros((1, 1, 4), "datetime64[s]"),
    np.zeros((1, 1, 4), "f4,i4"), np.zeros((1, 1, 4), np.uint16), np.zeros((1, 1, 4), np.uint64),
    np.zeros((1, 1, 4), np.longdouble), np.zeros((1,) * 7), np.zeros((1,) * 64), np.zeros(0),
    np.zeros((1, 1, 4), "V3"),
)  # fmt: skip
NOT_SHAPES: Values = (
    None, 3, "abc", b"abc", (), (1,), (1,) * 9, (1.5, 1, 1, 1), ("a",), (-1, 1, 1), (True, 1, 1),
    (2**62, 1, 1, 1), (2**70,) * 4, (NAN,) * 4, Opaque(), {}, [[1]], (None,) * 4, (LONG,) * 4,
    np.ones(4), _self_containing(), (2**31,) * 4, (2**21,) * 3, np.array(3),
)  # fmt: skip
NOT_TEXT: Values = (
    "", "abc", "NC", "NCHWD", "NHCW", "NWHC", "OIOI", "OIHWW", "zeros", "swish", "winograd",
    "tiled/", "/numba", "cython/tiled", "RELU", 3, 1.5, b"NCHW", [], (), {}, Opaque(), object, True,
    np.ones(2), "\ud800", "é" * 3, "NCHW\0", np.str_("x"), NAN, LONG,
)  # fmt: skip
NOT_FLAGS: Values = ("yes", "", None, np.ones(2), [], NAN, Opaque(), 2, 1.0)
NOT_NUMBERS: Values = (
    "a", None, [], {}, Opaque(), np.ones(2), np.timedelta64(1, "s"), 10**400, LONG, b"1", ()
)  # fmt: skip
NOT_DTYPES: Values = (
    "abc", "", "uint16", "S3", "datetime64[s]", bool, "O", "f4,i4", "3f4", [], {}, (np.int32, -1),
    Opaque(), np.longdouble, 3, ("f4", (2,)), "é", str, {"names": ["a"]}, "V3", "\ud800",
    [("a", "f4")], LONG, NAN,
)  # fmt: skip
NOT_PADDING: Values = (None, ((1,),), ((1, 2, 3),) * 2, ((-1, 0),), "full", "SAME", ((0, 1), 2))

BAD: dict[str, Values] = {
    "stride": (*NOT_SIZES, *NO_SIZE, *PAIRS),
    "dilation": (*NOT_SIZES, *NO_SIZE, *EMPTY, *PAIRS, None, (None,)),
    "kernel_size": (*NOT_SIZES, *NO_SIZE, *EMPTY, *PAIRS, None, (None,)),
    "groups": (*NOT_SIZES, *NO_SIZE, *EMPTY, *PAIRS, None, (1,), [1]),
    "padding": (*NOT_SIZES, *EMPTY, *NOT_PADDING),
    "output_padding": (*NOT_SIZES, *EMPTY, *PAIRS, None, "same"),
    "output_size": (*NOT_SIZES, *EMPTY, *PAIRS),
    "norm_type": (*NOT_NUMBERS, 1j, 0, 0.0, NAN),
    "divisor_override": (0, 1.5, 2.0, "a", [], (1,), 2**62, -(2**70), True, NAN, Opaque(), LONG),
    "negative_slope": (*NOT_NUMBERS, 1j),
    "layout": NOT_TEXT,
    "weight_layout": NOT_TEXT,
    "activation": NOT_TEXT,
    "backend": NOT_TEXT,
    "padding_mode": (*NOT_TEXT, None),
    "padding_value": NOT_NUMBERS,
    "out_dtype": NOT_DTYPES,
    "dtype": (*NOT_DTYPES, np.int32, np.complex64),
    "inplace": (*NOT_FLAGS, True, np.True_),
    "size_average": (True, False, 1, "mean", [], Opaque(), LONG),
    "reduce": (True, False, 0, "sum", (), NAN),
    "reduction": (*NOT_TEXT, None),
    "approximate": (*NOT_TEXT, None),
    "dim": (1.5, "a", (0,), 99, -99, 2**70, -(2**70), True, LONG, NAN),
    "input_size": NOT_SHAPES,
    "weight_size": NOT_SHAPES,
    "ceil_mode": NOT_FLAGS,
    "count_include_pad": NOT_FLAGS,
    "return_indices": NOT_FLAGS,
    "per_position": NOT_FLAGS,
    "training": NOT_FLAGS,
    "momentum": (*NOT_NUMBERS, 1j, NAN),
    "eps": (*NOT_NUMBERS, 1j, -1.0, NAN),
    "ignore_index": (1.5, "a", None, [], 2**70, LONG),
    "label_smoothing": (*NOT_NUMBERS, 1j, -0.5, 1.5, NAN),
}

#: Functions of arrays of any rank, which take any numbers.
ANY_RANK = (
    "relu", "leaky", "sigmoid", "tanh", "gelu", "silu", "soft", "log_soft", "linear_bias", "cross",
    "batch",
)  # fmt: skip


def _numbers(value: Any) -> bool:
    """Whether it is numbers of some shape."""
    try:
        return np.asarray(value).dtype.kind in "iufc"
    except (ValueError, TypeError):
        return False


NOT_NUMBERS_AT_ALL = tuple(value for value in NOT_ARRAYS if not _numbers(value))


def _shown(value: Any) -> str:
    """``repr`` of what may be too long for it."""
    if isinstance(value, np.ndarray):
        return f"array({value.dtype} {value.shape})"
    try:
        return repr(value)[:60]
    except ValueError:
        return "an integer too long to print"


def _bad_array(draw: Draw, case: Case) -> tuple[dict[str, Any], str]:
    """Something else than one of the case's arrays: no array, other axes, another dtype."""
    name = draw(pick(*case.arrays))
    array, kind = case.arrays[name].values, draw(ints(0, 5))
    windowed = not case.name.startswith(ANY_RANK)
    choices = NOT_ARRAYS if windowed else NOT_NUMBERS_AT_ALL
    if name in ("bias", "weight"):
        choices = choices[1:]  # None stands for none where these are optional
    value = choices[draw(ints(0, len(choices) - 1))]
    if kind == 0 and windowed:
        value = np.zeros((3,) * (array.ndim + 3), array.dtype)
    elif kind == 1 and windowed and array.ndim > 1:
        # The first axis may be a batch, which may be empty; the last can't be one.
        value = np.zeros((*array.shape[:-1], 0), array.dtype)
    elif kind == 2 and name != "target":
        value = np.zeros(array.shape, np.uint32)
    return {name: value}, f"{name}={_shown(value)}"


def _bad_out(draw: Draw, case: Case) -> tuple[dict[str, Any], str]:
    """An ``out`` that can't take the result."""
    right = out_memory(case).view
    fresh = np.zeros(right.shape, right.dtype)
    frozen = fresh.copy()
    frozen.flags.writeable = False
    options: dict[str, Any] = {
        "a list": [1], "text": "a", "an axis more": fresh[None], "bytes": bytearray(8),
        "two axes more": np.zeros((*right.shape, 2, 1), right.dtype), "a number": 1.0,
        "another dtype": np.zeros(right.shape, "i2" if right.dtype != np.int16 else "i1"),
        "read-only": frozen, "masked": np.ma.masked_array(fresh), "an object": Opaque(),
        "a dtype": right.dtype, "object dtype": fresh.astype(object),
    }  # fmt: skip
    if right.dtype.itemsize > 1 and right.dtype.kind != "V":
        options["byte-swapped"] = fresh.astype(right.dtype.newbyteorder())
    if right.size > 1:
        options["overlapping itself"] = np.lib.stride_tricks.as_strided(
            fresh, right.shape, (0,) * right.ndim
        )
    which = draw(pick(*options))
    return {"out": options[which]}, f"out={which}"


def bad_argument(draw: Draw, case: Case) -> tuple[dict[str, Any], str]:
    """One argument that the case's function must refuse, and how it reads."""
    if case.refused_by() is not None:
        case.arguments["backend"] = None
    names = [name for name in inspect.signature(case.function).parameters if name in BAD]
    kind = draw(ints(0, 9))
    if kind < 3 or not names:
        return _bad_array(draw, case)
    if kind == 3 and case.takes_out:
        return _bad_out(draw, case)
    name = draw(pick(*names))
    values = BAD[name]
    if name == "stride" and "pool" not in case.name:
        values = (*values, *EMPTY, None)  # which stand for the window of a pool
    if name == "groups" and case.name.startswith(("depthwise", "separable")):
        values = tuple(value for value in values if value is not None)
    value = values[draw(ints(0, len(values) - 1))]
    return {name: value}, f"{name}={_shown(value)}"


#: Numbers that are legal as such, but whose results no memory holds.
HUGE_VALUES = (2**46, 2**50, 2**55, 2**60, 2**61, 2**62 - 1)


def huge_argument(draw: Draw, case: Case) -> tuple[dict[str, Any], str]:
    """A size that would make an impossible result, where the function has one."""
    if case.refused_by() is not None:
        case.arguments["backend"] = None
    parameters = inspect.signature(case.function).parameters
    if "output_size" in parameters and "kernel_size" not in parameters:
        name = "output_size"
    elif "kernel_size" in parameters and "unpool" not in case.name:
        name = "kernel_size"
    elif "padding" in parameters:
        name = "padding"
    else:
        return bad_argument(draw, case)
    value = draw(pick(*HUGE_VALUES))
    if not case.expected.size:
        return bad_argument(draw, case)  # what is empty takes no memory
    change: dict[str, Any] = {"out": None} if case.takes_out else {}
    # A huge stride, or padding by name, would make a small result of it.
    change.update(
        {key: least for key, least in (("stride", 1), ("padding", 0)) if key in parameters}
    )
    return {**change, name: value}, f"{name}={value}"
