"""Generated arguments that torch refuses and cnnfast must too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import cnnfast

from .torch_cases import Case, Draw
from .torch_cases_reference import quietly
from .torch_cases_table import TABLE

Mutation = Callable[[Draw, Case], None]


def _argument(key: str, *choices: Any) -> Mutation:
    """One of the values in place of an argument."""

    def mutate(draw: Draw, case: Case) -> None:
        case.arguments[key] = draw.pick(choices)

    return mutate


def _one_axis(key: str, value: int) -> Mutation:
    """A bad value on one axis of several."""

    def mutate(draw: Draw, case: Case) -> None:
        values = [1] * case.rank
        values[draw.between(0, case.rank - 1)] = value
        case.arguments[key] = tuple(values)

    return mutate


def _too_many(key: str) -> Mutation:
    """A value for more axes than there are."""

    def mutate(draw: Draw, case: Case) -> None:
        case.arguments[key] = (1,) * (case.rank + draw.between(1, 2))

    return mutate


def _axes(key: str, more: int) -> Mutation:
    """An array of too many axes, or too few (two fewer of an input: the batch may be missing)."""

    def mutate(draw: Draw, case: Case) -> None:
        array = case.arrays[key]
        while more < 0 and array.ndim > case.rank:
            array = array[0] if len(array) else np.zeros(array.shape[1:], array.dtype)
        while more > 0 and array.ndim < case.rank + 3:
            array = array[None]
        case.arrays[key] = array

    return mutate


def _axis_extent(key: str, axis: int, change: Callable[[int], int]) -> Mutation:
    """Another extent on one axis, counted from the channels (of an input) or from the front."""

    def mutate(draw: Draw, case: Case) -> None:
        shape = list(case.arrays[key].shape)
        place = axis + (len(shape) - case.rank - 1 if key == "input" else 0)
        shape[place] = change(shape[place])
        case.arrays[key] = np.zeros(shape, np.float32)

    return mutate


def _dtype(*names: str) -> Mutation:
    def mutate(draw: Draw, case: Case) -> None:
        dtype = draw.pick(names)
        shapes = {key: np.maximum(array.shape, 1) for key, array in case.arrays.items()}
        case.arrays = {key: np.zeros(shape, dtype) for key, shape in shapes.items()}

    return mutate


def _uneven_groups(draw: Draw, case: Case) -> None:
    """Groups that don't divide the in-channels."""
    x = case.arrays["input"]
    channels = x.shape[x.ndim - case.rank - 1]
    case.arguments["groups"] = channels + draw.between(1, 3)


def _large_kernel(draw: Draw, case: Case) -> None:
    """A kernel that is larger than the padded input on one axis."""
    axis = draw.between(1, case.rank)
    case.arguments["padding"] = draw.between(0, 2)
    shape = list(case.arrays["weight"].shape)
    shape[-axis] = case.arrays["input"].shape[-axis] + 2 * case.arguments["padding"] + 1
    case.arrays["weight"] = np.zeros(shape, np.float32)


def _same_strided(draw: Draw, case: Case) -> None:
    case.arguments |= {"padding": "same", "stride": draw.between(2, 3)}


def _empty_output(draw: Draw, case: Case) -> None:
    """A padding that cuts everything off."""
    case.arguments.pop("output_padding", None)
    case.arguments["padding"] = 200


def _large_output_padding(draw: Draw, case: Case) -> None:
    case.arguments |= {"stride": 2, "dilation": draw.between(1, 3), "output_padding": 3}


def _large_window(draw: Draw, case: Case) -> None:
    case.arguments |= {"kernel_size": 200, "ceil_mode": False}


def _much_padding(draw: Draw, case: Case) -> None:
    case.arguments["kernel_size"] = draw.between(1, 3)
    case.arguments["padding"] = case.arguments["kernel_size"] // 2 + draw.between(1, 2)
    case.arguments.pop("dilation", None)


def _plus(change: int) -> Callable[[int], int]:
    return lambda extent: extent + change


def _nothing(extent: int) -> int:
    return 0


def _sizes(*keys: str) -> dict[str, Mutation]:
    """What no argument that is a size per axis may be."""
    found: dict[str, Mutation] = {}
    for key in keys:
        least = 0 if "padding" in key else 1
        found[f"{key} too small"] = _argument(key, least - 1, least - 7)
        found[f"{key} too small on an axis"] = _one_axis(key, least - 1)
        found[f"{key} of another kind"] = _argument(key, 1.0, 2.5, b"x", {})
        found[f"{key} for more axes"] = _too_many(key)
    return found


def _array_errors(weight: bool) -> dict[str, Mutation]:
    found: dict[str, Mutation] = {
        "input of too few axes": _axes("input", -1),
        "input of too many axes": _axes("input", 1),
        "an empty axis": _axis_extent("input", 1, _nothing),
        "bool": _dtype("bool"),
    }
    if weight:
        found |= {
            "weight of too few axes": _axes("weight", -1),
            "weight of too many axes": _axes("weight", 1),
            "no out-channels": _axis_extent("weight", 0, _nothing),
            "an empty kernel": _axis_extent("weight", 2, _nothing),
            "in-channels that differ": _axis_extent("input", 0, _plus(1)),
            "groups of another kind": _argument("groups", 0, -1, 1.0, "1"),
            "groups that don't divide": _uneven_groups,
        }
    return found


def _bias(*shapes: tuple[int, ...]) -> Mutation:
    """A bias of another shape than (K,): longer by 1 and more, or with another axis."""

    def mutate(draw: Draw, case: Case) -> None:
        case.arrays["bias"] = np.zeros(draw.pick(shapes), np.float32)

    return mutate


CONV = {
    **_sizes("stride", "padding", "dilation"), **_array_errors(True),
    "bias of another shape": _bias((213,), (1, 1), (213, 1)),
    "a large kernel": _large_kernel, "same with a stride": _same_strided,
    "an unknown padding": _argument("padding", "full", "SAME", "", "same "),
}  # fmt: skip
TRANSPOSE = {
    **_sizes("stride", "padding", "dilation", "output_padding"), **_array_errors(True),
    "bias of another shape": _bias((213,), (1, 1), (213, 1)),
    "an empty output": _empty_output, "a large output padding": _large_output_padding,
    "an unknown padding": _argument("padding", "full", "SAME", ""),
}  # fmt: skip
WINDOWS = {
    **_sizes("kernel_size", "stride"), **_array_errors(False), "a large window": _large_window,
    "no channels": _axis_extent("input", 0, _nothing),
}  # fmt: skip
PADDED = {**WINDOWS, **_sizes("padding"), "much padding": _much_padding}
MAX = {**PADDED, **_sizes("dilation"), "complex": _dtype("complex64")}
MEAN = {**PADDED, "divisor": _argument("divisor_override", 0, 1.5, "2")}
# torch pools bool and complex numbers by powers at times, and adaptively to nothing: STRICTER.
POWER = {**WINDOWS, "norm": _argument("norm_type", 0, "2", 0.0)}
del POWER["bool"]
ADAPTIVE = {
    **_sizes("output_size"), **_array_errors(False),
    "output_size too small": _argument("output_size", -1, -7),
    "output_size too small on an axis": _one_axis("output_size", -1),
    "output_size missing": _argument("output_size", ()),
}  # fmt: skip
LINEAR: dict[str, Mutation] = {
    "features that differ": _axis_extent("weight", -1, _plus(1)),
    "weight of three axes": _axes("weight", 1),
    "bias of another shape": _bias((213,), (213, 2)),
    "bool": _dtype("bool"),
}


def _mutations(name: str) -> dict[str, Mutation]:
    families = {
        "conv_transpose": TRANSPOSE, "conv": CONV, "max_pool": MAX, "avg_pool": MEAN,
        "lp_pool": POWER, "adaptive": ADAPTIVE, "linear": LINEAR,
    }  # fmt: skip
    chosen = dict(next(found for prefix, found in families.items() if name.startswith(prefix)))
    if name == "avg_pool1d":
        del chosen["divisor"]
    return chosen


FORWARD = [
    name
    for name in TABLE
    if name.startswith(("conv", "max", "avg", "lp", "adaptive", "linear"))
    and not name.endswith(("_input", "_weight", "_bias", "_backward"))
]

#: Function -> what is made wrong with it.
INVALID = {name: _mutations(name) for name in FORWARD}


def invalid_case(name: str, what: str, index: int) -> Case:
    """A case in float32 with one thing wrong."""
    case = TABLE[name].make(name, index)
    case.arrays = {key: np.zeros(array.shape, np.float32) for key, array in case.arrays.items()}
    case.own, case.views, case.out, case.tier = {}, {}, "", "zero"
    INVALID[name][what](Draw(f"{name} {what}", index), case)
    return case


def check_invalid(name: str, what: str, index: int) -> str:
    """Nothing, or what is wrong: one of the two took the case, or cnnfast's error says nothing."""
    case = invalid_case(name, what, index)
    tensors = {key: torch.from_numpy(array.copy()) for key, array in case.arrays.items()}
    try:
        quietly(getattr(F, name), **tensors, **case.arguments)
    except Exception:
        pass
    else:
        return f"torch takes {what}: {case}"
    try:
        getattr(cnnfast, name)(**case.arrays, **case.arguments)
    except (ValueError, TypeError) as error:
        return "" if len(str(error)) > 20 else f"says {error}: {what}: {case}"
    return f"cnnfast takes {what}: {case}"
