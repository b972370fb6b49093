"""One row of the table as a plain callable, for code that plans for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .drivers import ALIGNMENT, has_element_strides
from .problem import ACTIVATION_CODES
from .registry import ENGINES, KERNELS, Kernel, load_row, row_missing
from .storage import computing_dtype, result_dtype

Array = np.ndarray[Any, Any]

#: What a convolution family's kernels read, in order.
READ = {
    "fprop": ("x", "weight"),
    "dgrad": ("grad_output", "weight"),
    "wgrad": ("x", "grad_output"),
}
#: Family -> the kind of geometry that its kernels take.
KINDS = {"fprop": "conv", "dgrad": "conv", "wgrad": "conv", "pool": "pool", "pool_grad": "pool"}


class LoadedKernel:
    """A row that is here: its function, and how much scratch it needs."""

    def __init__(self, row: Kernel, function: Callable[..., None]) -> None:
        self.row = row
        self.function = function

    def scratch_bytes(self, geometry: Any, threads: int = 1) -> int:
        """Bytes of scratch for a call on that many threads, alignment included."""
        if not isinstance(threads, int) or threads < 1:
            raise ValueError(f"threads must be a positive integer, got {threads!r}")
        return self.row.scratch_bytes(geometry, threads) + ALIGNMENT

    def _dtype_of(self, name: str, geometry: Any) -> Any:
        reads = self.row.reads(geometry)
        if name == "bias":
            return computing_dtype(reads)
        return result_dtype(reads) if name == "out" else reads

    def _check(self, geometry: Any, **arrays: tuple[Array, tuple[int, ...]]) -> None:
        if getattr(geometry, "kind", None) != KINDS[self.row.family]:
            raise TypeError(f"{self.row.family} {self.row.name} takes no {type(geometry).__name__}")
        reason = self.row.unsupported(geometry)
        if reason is not None:
            raise TypeError(f"{self.row.name} {reason}")
        for name, (array, shape) in arrays.items():
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{name} must be a numpy.ndarray, got {type(array).__name__}")
            if name == "out" and not array.flags.writeable:
                raise ValueError("out must be writeable, got a read-only array")
            if not has_element_strides(array):
                raise ValueError(f"{name} must be aligned, its strides whole elements")
            dtype = self._dtype_of(name, geometry)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{name} must be the geometry's: {dtype} of shape {shape}, "
                    f"got {array.dtype} of shape {array.shape}"
                )


class ConvKernel(LoadedKernel):
    """A convolution row, called as ``kernel(first, second, out, geometry, scratch)``.

    fprop: x and weight give the output; dgrad: grad_output and weight give the input's gradient;
    wgrad: x and grad_output give the weight's. ``geometry`` is the convolution's in all three.
    """

    def __call__(
        self,
        first: Array,
        second: Array,
        out: Array,
        geometry: Any,
        scratch: Array,
        *,
        bias: Array | None = None,
        activation: str | None = None,
        threads: int = 1,
    ) -> None:
        """Fill ``out``; arrays in the layouts of ``geometry``, ``scratch`` uint8 and contiguous;
        wgrad takes neither bias nor activation."""
        self._check(geometry)
        family = self.row.family
        one, two, three = geometry.operands(family)
        read = READ[family]
        operands = {read[0]: (first, one.shape), read[1]: (second, two.shape)}
        self._check(geometry, **operands, out=(out, three.shape))
        if not isinstance(activation, str | None) or activation not in ACTIVATION_CODES:
            names = ", ".join(map(str, ACTIVATION_CODES))
            raise ValueError(f"activation must be one of {names}, got {activation!r}")
        if family == "wgrad" and (bias is not None or activation is not None):
            raise ValueError(f"wgrad takes no bias and no activation, got {activation!r}")
        added = np.empty(0, self._dtype_of("bias", geometry))
        if bias is not None:
            added = np.ascontiguousarray(bias)
            channels = geometry.in_channels if family == "dgrad" else geometry.out_channels
            self._check(geometry, bias=(added, (channels,)))
        needed = self.scratch_bytes(geometry, threads)
        self._check_scratch(scratch, needed)
        aligned = scratch[-scratch.ctypes.data % ALIGNMENT :]
        views = geometry.canonical(first, second, out, family)
        code = ACTIVATION_CODES[activation]
        if out.size:
            self.function(*views[:2], added, views[2], geometry.problem, aligned, code, threads)

    def _check_scratch(self, scratch: Array, needed: int) -> None:
        if not isinstance(scratch, np.ndarray):
            raise TypeError(f"scratch must be a numpy.ndarray, got {type(scratch).__name__}")
        flags = scratch.flags
        usable = scratch.dtype == np.uint8 and flags.c_contiguous and flags.writeable
        if not usable or scratch.size < needed:
            raise ValueError(
                f"scratch must be {needed} contiguous, writeable bytes (uint8), got "
                f"{scratch.size} of {scratch.dtype}"
            )


class PoolKernel(LoadedKernel):
    """A pooling row, called as ``kernel(first, out, geometry)``: pool takes x, pool_grad
    grad_output."""

    def __call__(
        self,
        first: Array,
        out: Array,
        geometry: Any,
        *,
        indices: Array | None = None,
        threads: int = 1,
    ) -> None:
        """Fill ``out``; arrays in the layout of ``geometry``. ``indices``, int64 and of the
        output's shape: where maxima are, written by pool (if given) and read by pool_grad."""
        self._check(geometry)
        read, written = geometry.input, geometry.result
        if self.row.family == "pool_grad":
            read, written = written, read
            if (indices is None) != (geometry.reduction == "mean"):
                raise ValueError(
                    f"pool_grad takes indices for a maximum alone, got {geometry.reduction!r}"
                )
        elif indices is not None and geometry.reduction == "mean":
            raise ValueError("pool gives indices of a maximum, got 'mean'")
        name = "x" if self.row.family == "pool" else "grad_output"
        self._check(geometry, **{name: (first, read.shape)}, out=(out, written.shape))
        flat = None
        if indices is not None:
            self._check_indices(indices, geometry)
            flat = geometry.canonical(indices)
        self.scratch_bytes(geometry, threads)
        views = geometry.canonical(first), geometry.canonical(out)
        if not out.size:
            return
        if self.row.family == "pool":
            self.function(*views, flat, geometry, threads)
        else:
            self.function(views[0], flat, views[1], geometry, threads)

    def _check_indices(self, indices: Array, geometry: Any) -> None:
        if not isinstance(indices, np.ndarray) or indices.dtype != np.int64:
            raise TypeError("indices must be an int64 numpy.ndarray")
        if indices.shape != geometry.out_shape or not has_element_strides(indices):
            raise ValueError(
                f"indices must be aligned and of shape {geometry.out_shape}, got {indices.shape}"
            )
        if self.row.family == "pool" and not indices.flags.writeable:
            raise ValueError("indices must be writeable, got a read-only array")


def load(family: str, algorithm: str, engine: str) -> ConvKernel | PoolKernel:
    """One row of the table, ready to call; it plans nothing and takes its scratch from the caller.

    ``family`` is "fprop", "dgrad", "wgrad", "pool" or "pool_grad", ``algorithm`` and ``engine`` as
    users write them ("tiled", "cython"). ValueError for a row that isn't in the table, RuntimeError
    for one whose engine isn't installed.

    >>> import numpy as np
    >>> from cnnfast import ConvGeometry
    >>> x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
    >>> kernel, geometry = load("fprop", "im2col", "numpy"), ConvGeometry.of(x, w, padding=1)
    >>> out = np.empty(geometry.out_shape)
    >>> scratch = np.empty(kernel.scratch_bytes(geometry), np.uint8)
    >>> kernel(x, w, out, geometry, scratch)
    >>> out[0, 0, 1]
    array([6., 9., 9., 6.])
    """
    for row in KERNELS:
        if (row.family, row.algorithm, ENGINES[row.engine].name) == (family, algorithm, engine):
            missing = row_missing(row)
            if missing is not None:
                raise RuntimeError(f"{row.name}: {missing}")
            kind = ConvKernel if KINDS[family] == "conv" else PoolKernel
            return kind(row, load_row(row))
    rows = ", ".join(f"{row.family} {row.name}" for row in KERNELS)
    raise ValueError(f"no row {family!r} {algorithm}/{engine} in the table; there are {rows}")
