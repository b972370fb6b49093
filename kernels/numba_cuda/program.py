"""What a row on the GPU is: a function from a call's description to launches, all of it data.

A row is ``fprop(call) -> Program``, a pure function. Nothing is compiled, allocated or launched
here: ``executor`` does that, on a GPU or in Numba's simulator.

Entry points see flat pointers of a dtype, int32 sizes and element strides, and tuples of int32.
All index arithmetic is 32-bit: the host refuses arrays that span 2**31 elements or more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..problem import ConvProblem

Strides = tuple[int, int, int, int, int]
Grid = tuple[int, int, int]

#: What pointers address, by dtype: what is stored in 16 bits is read and written as bits
#: (``ops.widen_float16`` ...), for neither the simulator nor C pointers know such floats.
STORED = {
    "float32": "float32",
    "float64": "float64",
    "int64": "int64",
    "float16": "uint16",
    "bfloat16": "uint16",
}
#: What sums are made in.
ACCUMULATED = {
    "float32": "float32",
    "float64": "float64",
    "int64": "int64",
    "float16": "float32",
    "bfloat16": "float32",
}


class At(NamedTuple):
    """A pointer argument: ``offset`` elements (of the pointer's type) into an operand."""

    operand: str
    offset: int = 0


class Entry(NamedTuple):
    """A kernel as it is compiled: ``build(*constants)`` makes the Python function.

    ``signature`` has a type per parameter: "float32*" (any of Numba's names with a star),
    "int32", "float32", "float64", "int32[5]" (a tuple), or "problem" (a ConvProblem). ``threads``
    of a block, ``blocks`` that a multiprocessor should hold at least (which caps registers), bytes
    of dynamic shared memory. ``needs`` is the least compute capability; "90a" is for it alone.
    """

    build: Callable[..., Callable[..., None]]
    constants: tuple[Any, ...]
    signature: tuple[str, ...]
    threads: int
    blocks: int = 1
    shared: int = 0
    needs: str = "80"


class Launch(NamedTuple):
    """An entry, how many blocks of it, and its arguments: At, int, float, tuple of ints."""

    entry: Entry
    grid: Grid
    args: tuple[Any, ...]


class Program(NamedTuple):
    """Launches that run one after the other on one stream, and their scratch ("scratch")."""

    launches: tuple[Launch, ...]
    scratch_bytes: int = 0


class ConvCall(NamedTuple):
    """A call of a convolution family: what decides its launches.

    ``first``, ``second`` and ``out`` are element strides in canonical order (N, C, D, H, W), of a
    weight (K, C/G, T, R, S); operands are called "first", "second", "bias" and "out". ``aligned``:
    whether the first elements of first, second and out lie at multiples of 16 bytes. ``activation``
    is None, a name, or a device function of one number. ``capability``: 80, 90, ...
    ``second_group``: elements from one group's weights to the next's where they aren't the next out
    channels' (a dgrad's, whose channels are exchanged; 0 if all groups have the same), else None.
    """

    problem: ConvProblem
    dtype: str
    first: Strides
    second: Strides
    out: Strides
    bias: bool = False
    activation: Any = None
    aligned: tuple[bool, bool, bool] = (True, True, True)
    capability: int = 90
    second_group: int | None = None

    @property
    def group_step(self) -> int:
        """Elements from one group's weights to the next's."""
        group = self.second_group
        return self.problem.k * self.second[0] if group is None else group


class PoolCall(NamedTuple):
    """A call of a pooling or its adjoint: pool reads "first" (N, C, D, H, W) and writes "out"
    (N, C, O, P, Q) and, unless ``indices`` is None, "indices" (int64 of these strides); pool_grad
    reads "first" (N, C, O, P, Q) and, for a maximum, "indices", and writes "out" (N, C, D, H, W).

    Windows come as ints, not tables: tap t of output i of an axis is at
    ``i * stride - pad + t * dilation`` (``kernel`` taps), or, where ``adaptive``, the window is
    ``i * size // outputs .. ceil((i + 1) * size / outputs)``. ``divisor``: 0, or what replaces the
    number of places in a mean, in which those of the padding count if ``count_include_pad``.
    ``aligned``: whether the first elements of first, out and indices lie at multiples of 16 bytes.
    """

    n: int
    c: int
    size: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    dilation: tuple[int, int, int]
    pad: tuple[int, int, int]
    pad_after: tuple[int, int, int]
    reduction: str
    dtype: str
    first: Strides
    out: Strides
    indices: Strides | None = None
    adaptive: bool = False
    divisor: int = 0
    count_include_pad: bool = True
    aligned: tuple[bool, bool, bool] = (True, True, True)
