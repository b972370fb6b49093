"""Bad arguments for fuzz cases: for every parameter, what no function may take for it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from fuzz_cases import Draw, ints, pick
from fuzzing import Case, out_memory

Array = np.ndarray[Any, Any]


class Opaque:
    """An object that is nothing in particular."""


def _self_containing() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def _numeric(value: Any) -> bool:
    """Whether it is numbers of some shape, which functions of single elements take."""
    try:
        return np.asarray(value).dtype.kind in "iufc" or isinstance(value, memoryview)
    except (ValueError, TypeError):
        return False


#: Never an integer of 1 or more, nor a sequence of them.
NOT_SIZES: tuple[Any, ...] = (
    -1, -(2**63), -(2**70), 2**62, 2**63, 2**64, 2**70, 10**30, 10**5000, 1.5, 2.0, float("nan"),
    float("inf"), 1j, "a", "", "2", b"1", [[1]], [[1, 2], [3, 4]], (1,) * 5, (1.5,), ("a",), (None,), {},
    {1: 2}, set(), Opaque(), Opaque, True, False, np.True_, np.ones(2), np.ones((2, 2), int),
    np.float32(1), np.array(None), np.array("a"), np.datetime64(1, "s"), np.timedelta64(1, "s"),
    Ellipsis, slice(1), range(0), iter(()), _self_containing(), (-1,), (2**62,), ([],), "valid ",
)  # fmt: skip
NO_SIZE = (0, (0,), np.int64(0))
EMPTY = ((), [])

NOT_ARRAYS: tuple[Any, ...] = (
    None, "abc", b"abc", 1, 1.0, Opaque(), {}, {1: 2}, set(), [], [[]], [[1.0], [1.0, 2.0]],
    [2**70], [None], ["a"], iter(()), Ellipsis, _self_containing(), np.ma.zeros((1, 1, 4)),
    np.zeros(()), np.zeros(3, object), np.zeros(3, bool), np.zeros((1, 1, 4), bool),
    np.zeros((1, 1, 4), "U1"), np.zeros((1, 1, 4), "datetime64[s]"), np.zeros((1, 1, 4), "f4,i4"),
    np.zeros((1, 1, 4), np.uint16), np.zeros((1, 1, 4), np.uint64), np.zeros((1, 1, 4), np.longdouble),
    np.zeros((1,) * 7), np.zeros((1,) * 64), np.zeros(0), np.zeros((1, 1, 4), "V3"), memoryview(b"12"),
)  # fmt: skip
#: What functions of arrays of any rank don't take either.
ANY_RANK = ("relu", "leaky", "sigmoid", "tanh", "gelu", "silu", "soft", "log_soft", "linear_bias", "cross", "batch")
NOT_FLOATS = tuple(value for value in NOT_ARRAYS if not _numeric(value))
NOT_SHAPES: tuple[Any, ...] = (
    None, 3, "abc", b"abc", (), (1,), (1,) * 9, (1.5, 1, 1, 1), ("a",), (-1, 1, 1), (2**62, 1, 1, 1),
    (2**70,) * 4, (float("nan"),) * 4, Opaque(), {}, [[1]], (None,) * 4, (10**5000,) * 4, (True, 1, 1),
    np.ones(4), _self_containing(), (2**31,) * 4, (2**21,) * 3,
)  # fmt: skip
NOT_TEXT: tuple[Any, ...] = (
    "", "abc", "NC", "NCHWD", "NHCW", "NWHC", "OIOI", "OIHWW", "zeros", "swish", "winograd", "tiled/",
    "/numba", "cython/tiled", "RELU", 3, 1.5, b"NCHW", [], (), {}, Opaque(), object, True, np.ones(2),
    "\ud800", "é" * 3, "NCHW\0", np.str_("x"),
)  # fmt: skip
NOT_FLAGS: tuple[Any, ...] = ("yes", None, np.ones(2), [], float("nan"), Opaque(), 2)
NOT_NUMBERS: tuple[Any, ...] = ("a", None, [], 1j, {}, Opaque(), np.ones(2), np.timedelta64(1, "s"), 10**400, b"1")  # fmt: skip
NOT_DTYPES: tuple[Any, ...] = (
    "abc", "", "uint16", "S3", "datetime64[s]", bool, "O", "f4,i4", "3f4", [], {}, (np.int32, -1), Opaque(),
    np.longdouble, 3, ("f4", (2,)), "é", str, {"names": ["a"]}, "V3", "\ud800", [("a", "f4")],
)  # fmt: skip

BAD: dict[str, tuple[Any, ...]] = {
    "stride": NOT_SIZES + NO_SIZE,
    "dilation": NOT_SIZES + NO_SIZE + EMPTY + (None,),
    "kernel_size": NOT_SIZES + NO_SIZE + EMPTY + (None,),
    "groups": NOT_SIZES + NO_SIZE + EMPTY + (None, (1,), [1]),
    "padding": NOT_SIZES + EMPTY + (None, ((1,),), ((1, 2, 3),) * 2, ((-1, 0),), "full", "SAME", ((0, 1), 2)),
    "output_padding": NOT_SIZES + EMPTY + (None, 7, "same"),
    "output_size": NOT_SIZES + EMPTY,
    "norm_type": (*NOT_NUMBERS, 0, 0.0, float("nan")),
    "divisor_override": (0, 1.5, 2.0, "a", [], (1,), 2**62, -(2**70), True, float("nan"), Opaque(), 10**5000),
    "negative_slope": NOT_NUMBERS,
    "layout": NOT_TEXT,
    "weight_layout": NOT_TEXT,
    "activation": tuple(value for value in NOT_TEXT if value is not None),
    "backend": NOT_TEXT,
    "padding_mode": (*NOT_TEXT, None),
    "padding_value": NOT_NUMBERS[:3] + NOT_NUMBERS[4:],
    "out_dtype": NOT_DTYPES,
    "reduction": (*NOT_TEXT, None),
    "approximate": (*NOT_TEXT, None),
    "dim": (1.5, "a", None, (0,), 99, -99, 2**70, -(2**70), True, 10**5000, float("nan")),
    "input_size": NOT_SHAPES,
    "weight_size": NOT_SHAPES,
    "ceil_mode": NOT_FLAGS,
    "count_include_pad": NOT_FLAGS,
    "return_indices": NOT_FLAGS,
    "per_position": NOT_FLAGS,
    "training": NOT_FLAGS,
    "momentum": (*NOT_NUMBERS, float("nan")),
    "eps": (*NOT_NUMBERS, -1.0, float("nan")),
    "ignore_index": (1.5, "a", None, [], 2**70),
    "label_smoothing": (*NOT_NUMBERS, -0.5, 1.5, float("nan")),
}  # fmt: skip


def _shown(value: Any) -> str:
    """``repr`` of what may be too long for it."""
    if isinstance(value, np.ndarray):
        return f"array({value.dtype} {value.shape})"
    try:
        return repr(value)[:60]
    except ValueError:
        return "an integer too long to print"


def _wrong_array(draw: Draw, case: Case, name: str) -> Any:
    """Something else than the case's array: no array, another rank, an axis more or less."""
    array, kind = case.arrays[name].values, draw(ints(0, 5))
    if kind == 0 and array.ndim and name not in ("bias", "weight", "target"):
        return np.zeros((3,) * (array.ndim + 3), array.dtype)
    if kind == 1 and array.ndim > 1 and case.name.split("d_")[0][-1:] != "x":
        axis = draw(ints(1, array.ndim - 1))
        if case.name.startswith(
            ("conv", "depth", "sep", "local", "max_pool", "avg_pool", "lp_pool")
        ):
            return np.zeros((*array.shape[:axis], 0, *array.shape[axis + 1 :]), array.dtype)
    if kind == 2:
        return np.zeros(array.shape, np.uint32)
    choices = NOT_ARRAYS[1:] if name in ("bias", "weight") else NOT_ARRAYS
    return draw(pick(*range(len(choices)))), choices


def _bad_array(draw: Draw, case: Case) -> tuple[dict[str, Any], str]:
    name = draw(pick(*case.arrays))
    value = _wrong_array(draw, case, name)
    return {name: value}, f"{name}={_shown(value)}"


def _bad_out(draw: Draw, case: Case) -> tuple[dict[str, Any], str]:
    """An ``out`` that can't take the result."""
    right = out_memory(case).view
    fresh = np.zeros(right.shape, right.dtype)
    frozen = fresh.copy()
    frozen.flags.writeable = False
    other = np.zeros(right.shape, np.int16 if right.dtype != np.int16 else np.int8)
    options: dict[str, Any] = {
        "a list": [1], "text": "a", "an axis more": fresh[None], "another size": np.zeros((*right.shape, 2), right.dtype),
        "another dtype": other, "read-only": frozen, "masked": np.ma.masked_array(fresh), "bytes": bytearray(8),
        "an object": Opaque(), "a dtype": right.dtype, "a scalar": 1.0,
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
    if name == "stride" and "kernel_size" not in names:
        values = (*values, *EMPTY, None)
    if name == "stride" and case.name.split("_")[0] in ("unfold", "fold"):
        values = (*values, None)
    value = values[draw(ints(0, len(values) - 1))]
    return {name: value}, f"{name}={_shown(value)}"


#: Numbers that are legal as such, but whose results no memory holds.
HUGE_VALUES = (2**40, 2**45, 2**50, 2**55, 2**60, 2**61, 2**62 - 1)


def huge_argument(draw: Draw, case: Case) -> tuple[dict[str, Any], str]:
    """A size that would make an impossible result, where the function has one."""
    if case.refused_by() is not None:
        case.arguments["backend"] = None
    parameters = inspect.signature(case.function).parameters
    if "output_size" in parameters and "kernel_size" not in parameters:
        name = "output_size"
    elif "kernel_size" in parameters:
        name = "kernel_size"
    elif "padding" in parameters and not case.name.startswith("conv_transpose"):
        name = "padding"
    else:
        return bad_argument(draw, case)
    if "unpool" in case.name and "padding" in case.arguments:
        name = "padding"
    value = draw(pick(*HUGE_VALUES))
    return {name: value}, f"{name}={value}"
