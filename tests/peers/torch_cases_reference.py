"""What torch says to a generated case, and how far from it cnnfast may be.

Sums are computed by torch in the widest dtype (float64, complex128, int64) from the same values, so
that its own error is that of float64: the bound is the kernels' own,
``eps_out |ref| + (L + 2) eps_acc ref(|x|, |w|)``, with ``eps_acc + eps_float64`` in place of
``eps_acc`` since both sides err. Complex parts sum two real products for each complex one: 2 L, and
``ref`` of the moduli. Integers, maxima and sums of small integers must be equal.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .torch_cases import COMPLEX, HALVES, INTEGERS, Array, Case, numpy_dtype

Function = Callable[..., Any]

EPS64 = float(np.finfo(np.float64).eps)
EPS = {
    "float64": EPS64, "complex128": EPS64, "float32": 2.0**-23, "complex64": 2.0**-23,
    "float16": 2.0**-10, "bfloat16": 2.0**-7,
}  # fmt: skip

#: numpy.power's error in eps of its dtype, twice its documented greatest (4 ulp of half an eps):
#: powers are taken of each value and of each sum.
POWER_EPS = 4


#: Results below the least normal number are rounded to multiples of this.
STEP = {"float16": 2.0**-24, "bfloat16": 2.0**-133}


class Expected(NamedTuple):
    """A result in the widest dtype, its tolerance, and the dtype that cnnfast gives."""

    values: Array
    tolerance: Array
    dtype: str


def wide(array: Array) -> Any:
    """A torch tensor of the same values in int64, float64 or complex128."""
    kind = "f" if array.dtype.kind == "V" else array.dtype.kind
    target = {"i": np.int64, "u": np.int64, "f": np.float64, "c": np.complex128}[kind]
    return torch.from_numpy(np.ascontiguousarray(array.astype(target)))


def same(array: Array) -> Any:
    """A torch tensor of the same dtype."""
    if array.dtype == numpy_dtype("bfloat16"):
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(array.copy())


def quietly(function: Function, *arguments: Any, **keywords: Any) -> Any:
    """A call of torch without its warnings (about padding='same' with an even kernel, say)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **keywords)


def sum_dtype(name: str) -> str:
    """The dtype that sums of a dtype come back in."""
    narrow = name in ("int8", "uint8")
    return ("int32" if narrow else "int64") if name in INTEGERS else name


def expected_sum(case: Case, function: Function, length: int, *, exact: bool = True) -> Expected:
    """Of a function that is linear in each of the case's arrays, whose values are sums of
    ``length`` products and perhaps a bias; ``exact`` if those of small integers have no error.
    """
    dtype = sum_dtype(case.dtype)
    tensors = [wide(array) for array in case.arrays.values()]
    reference = quietly(function, *tensors).numpy()
    if case.dtype in INTEGERS:
        return Expected(reference, np.zeros(reference.shape), dtype)
    if case.tier == "exact" and exact:
        return Expected(rounded(reference, dtype), np.zeros(reference.shape), dtype)
    absolute = quietly(function, *[tensor.abs() for tensor in tensors]).abs().numpy()
    if case.dtype in COMPLEX:
        length *= 2
    error = (length + 2) * (accumulator_eps(case.dtype) + EPS64) * absolute
    return Expected(reference, rounding(dtype, reference) + error, dtype)


def accumulator_eps(dtype: str) -> float:
    """Eps of what a dtype's sums are made in."""
    return EPS["float32"] if dtype in HALVES else EPS[dtype]


def rounding(dtype: str, values: Array) -> Array:
    """What rounding ``values`` to a dtype errs by, at most."""
    return np.asarray(EPS[dtype] * np.abs(values) + STEP.get(dtype, 0))


def rounded(values: Array, dtype: str) -> Array:
    """``values`` as the dtype holds them, in their own dtype again."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values.astype(numpy_dtype(dtype)).astype(values.dtype))


def gradient(forward: Function, at: Any, grad: Any) -> Any:
    """Torch's own gradient of ``forward`` at a tensor."""
    at = at.clone().requires_grad_()
    return torch.autograd.grad(forward(at), at, grad)[0]


def floating(function: Function) -> Function:
    """The function on integers by way of float64 (exact for the values drawn): torch has no
    gradients of integers."""

    def applied(*tensors: Any) -> Any:
        whole = tensors[0].dtype == torch.int64
        result = function(*[tensor.double() if whole else tensor for tensor in tensors])
        return result.long() if whole else result

    return applied


def convolution(case: Case) -> Function:
    """Torch's function of a case's arrays."""
    function, arguments = getattr(F, f"conv{case.rank}d"), dict(case.arguments)
    if case.name.startswith("depthwise"):
        arguments["groups"] = _channels(case, "input")
    if not case.name.startswith("separable"):
        return lambda x, w, b=None: function(x, w, b, **arguments)
    groups = _channels(case, "input")
    return lambda x, deep, point, b=None: function(
        function(x, deep, None, groups=groups, **arguments), point, b
    )


def _channels(case: Case, key: str) -> int:
    array = case.arrays[key]
    return int(array.shape[array.ndim - case.rank - 1])


def transposed(case: Case) -> Function:
    """Torch's transposed convolution of a case's arrays."""
    function = getattr(F, f"conv_transpose{case.rank}d")
    return lambda x, w, b=None: function(x, w, b, **case.arguments)


def locally_connected(case: Case) -> Function:
    """A locally connected layer by torch's unfold and einsum."""
    rank, arguments = case.rank, dict(case.arguments)
    groups = arguments.pop("groups", 1)

    def lifted(value: Any, unit: int) -> tuple[int, ...]:
        pair = tuple(np.broadcast_to(value, rank).tolist())
        return (unit, *pair) if rank == 1 else pair

    units = {"stride": 1, "padding": 0, "dilation": 1}
    window = {key: lifted(value, units[key]) for key, value in arguments.items()}

    def forward(x: Any, w: Any, b: Any = None) -> Any:
        images = x if x.ndim == rank + 2 else x[None]
        images = images[:, :, None] if rank == 1 else images
        taps = w.shape[3:] if rank == 2 else (1, *w.shape[3:])
        # unfold takes floats alone, and moves values: float64 holds what int64 has here.
        columns = _unfold(images, taps, window)
        n, positions = columns.shape[0], columns.shape[-1]
        length = math.prod(w.shape[2:])
        columns = columns.reshape(n, groups, length, positions)
        weight = w.reshape(positions, groups, w.shape[1] // groups, length)
        sums = torch.einsum("ngip,pgki->ngkp", columns, weight).reshape(n, w.shape[1], positions)
        if b is not None:
            sums = sums + (b[:, None] if b.ndim == 1 else b.reshape(b.shape[0], -1))
        sums = sums.reshape(*sums.shape[:2], *_outputs(x.shape[-rank:], w.shape[3:], arguments))
        return sums if x.ndim == rank + 2 else sums[0]

    return forward


def _outputs(size: Any, kernel: Any, arguments: dict[str, Any]) -> list[int]:
    """The output's extents, from torch's convolution of nothing but shapes."""
    rank = len(size)
    x, w = torch.empty((1, 1, *size), device="meta"), torch.empty((1, 1, *kernel), device="meta")
    return list(getattr(F, f"conv{rank}d")(x, w, None, **arguments).shape[2:])


def _unfold(images: Any, taps: Any, window: dict[str, Any]) -> Any:
    if images.dtype != torch.int64:
        return F.unfold(images, taps, **window)
    # Halves of 32 bits pass through float64 exactly.
    low, high = images & 0xFFFFFFFF, images >> 32
    parts = [F.unfold(part.double(), taps, **window).long() for part in (low, high)]
    return parts[0] + (parts[1] << 32)


def by_parts(function: Function) -> Function:
    """A real linear function on complex tensors."""

    def applied(x: Any) -> Any:
        if not x.is_complex():
            return function(x)
        return torch.complex(function(x.real), function(x.imag))

    return applied


def expected_max(case: Case, function: Function) -> tuple[Array, Array]:
    """Maxima and indices; integers that torch has no kernel for pass through float64."""
    x = case.arrays["input"]
    try:
        maxima, indices = function(same(x))
    except (RuntimeError, NotImplementedError) as error:
        if "not implemented" not in str(error):
            raise
        maxima, indices = function(wide(x).double())
    if maxima.dtype == torch.bfloat16:
        maxima = maxima.float()
    flat = indices.numpy()
    if "output_size" not in case.arguments:
        # torch's index of a window wholly in padding may lie outside of the plane; ours is -1.
        nothing = function(torch.zeros(x.shape, dtype=torch.float64))[0].numpy() == -np.inf
        flat = np.where(nothing, -1, flat)
    return maxima.numpy().astype(x.dtype), flat


def expected_power(case: Case, function: Function) -> Expected:
    """Of lp_pool: the error of the powers' sum S over |p|, and those of two powers and of 1 / p."""
    power, x = case.arguments["norm_type"], wide(case.arrays["input"])
    reference = quietly(function, x).numpy()
    if math.isinf(power):
        return Expected(reference, np.zeros(reference.shape), case.dtype)
    taps = math.prod(np.broadcast_to(case.arguments["kernel_size"], case.rank).tolist())
    with np.errstate(all="ignore"):
        logarithm = np.nan_to_num(np.abs(power * np.log(np.abs(reference))))
        relative = (taps + 4 + POWER_EPS + logarithm) / abs(power) + POWER_EPS
        error = relative * (accumulator_eps(case.dtype) + EPS64) * np.abs(reference)
        return Expected(reference, error + rounding(case.dtype, reference), case.dtype)


def expected_power_gradient(case: Case, forward: Function) -> Expected:
    """Of lp_pool's gradient: every term's slope is S ** (1 / p - 1) x ** (p - 1)."""
    power = case.arguments["norm_type"]
    grad, x = (wide(case.arrays[key]) for key in ("grad_output", "input"))
    reference = quietly(gradient, forward, x, grad).numpy()
    absolute = np.abs(quietly(gradient, forward, x.abs(), grad.abs()).numpy())
    taps = math.prod(np.broadcast_to(case.arguments["kernel_size"], case.rank).tolist())
    relative = float(taps + 4)
    if math.isfinite(power):
        sums = np.abs(quietly(forward, x).numpy())
        with np.errstate(all="ignore"):
            logarithms = np.abs(np.log(sums[(sums > 0) & np.isfinite(sums)]) * power)
        spread = float(logarithms.max(initial=0))
        exponent = abs(1 / power - 1)
        relative += (taps + 4 + POWER_EPS + spread) * max(exponent, 1 / abs(power)) + 3 * POWER_EPS
    with np.errstate(all="ignore"):
        error = relative * (accumulator_eps(case.dtype) + EPS64) * absolute
        tolerance = rounding(case.dtype, reference) + error
    return Expected(reference, tolerance, case.dtype)
