"""The one table of kernels.

A row is data: what it computes (family), how (algorithm), on what (engine), for which dtypes and
problems, at what cost, and where its code is. Nothing is imported before a row is loaded, so a
missing compiler, Numba or GPU takes rows away and never breaks an import. Dispatch, ``explain``,
the conformance suite, the benchmarks and README's matrix all read this tuple.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from . import adjoints, blocking, blocking_gradients, blocking_rows, costs, costs_cuda
from .drivers import cut_scratch_bytes
from .storage import computing_dtype, in_elements

F32_F64 = ("float32", "float64")
HALVES = ("float16", "bfloat16")
BYTES = ("int8", "uint8")
WITH_INT64 = (*F32_F64, "int64")


class Engine(NamedTuple):
    """What an engine needs: a module to be found, and how to get it when it isn't.

    ``check``, ``module:attribute`` below ``cnnfast.kernels``, is a function that says what else is
    missing, or None. Where estimates lie closer together than ``handicap``, rows that need no
    compiling go first: a strided depthwise gradient took 2.4 s to its first result for 5 % of its
    time.
    """

    name: str
    requires: str | None
    install: str
    handicap: float = 1.0
    check: str | None = None


ENGINES = {
    "cython_cpu": Engine(
        "cython",
        "cnnfast.kernels.cython_cpu._tiled",
        "reinstall cnnfast with a C compiler and without CNNFAST_NO_EXTENSIONS",
    ),
    "numba_cpu": Engine("numba", "numba", "pip install 'cnnfast[numba]'", handicap=1.1),
    "numba_cuda": Engine(
        "cuda", "numba_cuda", "pip install 'cnnfast[cuda]'", check="numba_cuda.presence:missing"
    ),
    "numpy_cpu": Engine("numpy", None, ""),
}


def _itself(problem: Any, itemsize: int) -> tuple[Any, ...]:
    return (problem,)


def _no_bytes(problem: Any, itemsize: int) -> int:
    return 0


def _nothing(problem: Any, itemsize: int) -> tuple[Any, ...]:
    return ()


class Algorithm(NamedTuple):
    """What the engines share: ``parts(problem, itemsize)`` gives the problems that a call runs one
    after the other, ``cost(geometry, part)`` estimates nanoseconds on one core,
    ``cut(part, itemsize)`` gives the blocks (None: a kernel that needs no scratch). ``instead`` are
    the problems that run in place of the parts where gradients aren't finite. A row that ``packs``
    takes weight panels made before (``packing``) in place of the weight. ``own(problem, itemsize)``
    are bytes of scratch besides those of the cuts.
    """

    name: str
    cost: Callable[[Any, Any], float]
    cut: Callable[[Any, int], Any] | None = None
    parts: Callable[[Any, int], tuple[Any, ...]] = _itself
    instead: Callable[[Any, int], tuple[Any, ...]] = _nothing
    packs: bool = False
    own: Callable[[Any, int], int] = _no_bytes


class Kernel(NamedTuple):
    """One row. ``load`` is ``module:attribute`` below ``cnnfast.kernels``.

    Rows with a higher ``fallback`` serve only where no other does: first BLAS, whose bits change
    with the number of threads (``same_bits``), last the reference. ``stored`` are dtypes that the
    row converts by itself (``storage``); for other rows whole arrays are, to the geometry's dtype.
    ``rounded`` are dtypes whose factors it rounds to fewer bits (tf32), which must be allowed.
    ``check`` is an engine's, for what this row alone needs.
    """

    family: str
    method: Algorithm
    engine: str
    load: str
    dtypes: tuple[str, ...] = F32_F64
    same_bits: bool = True
    fallback: int = 0
    stored: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()
    check: str | None = None

    @property
    def algorithm(self) -> str:
        """The algorithm's name."""
        return self.method.name

    @property
    def name(self) -> str:
        """``algorithm/engine`` as users write it."""
        return f"{self.algorithm}/{ENGINES[self.engine].name}"

    def unsupported(self, geometry: Any) -> str | None:
        """Why this row can't take the geometry, or None if it can."""
        if not geometry.dtype.isnative:
            return f"takes the machine's byte order, not {geometry.dtype}"
        taken = (*self.dtypes, *self.stored)
        if geometry.dtype.name not in taken and self.reads(geometry) == geometry.dtype:
            return f"takes {', '.join(self.dtypes)}, not {geometry.dtype.name}"
        return None

    def rounds(self, geometry: Any) -> bool:
        """Whether the row rounds the geometry's factors before it multiplies them."""
        return self.reads(geometry).name in self.rounded

    def reads(self, geometry: Any) -> Any:
        """The dtype of the arrays that the row is handed."""
        stored = geometry.stored
        return stored if stored is not None and stored.name in self.stored else geometry.dtype

    def _in_elements(self, geometry: Any) -> tuple[Any, Any]:
        """Geometry and problem as the row computes them."""
        reads = self.reads(geometry)
        if reads == geometry.dtype:
            return geometry, geometry.problem
        return (
            replace(geometry, dtype=computing_dtype(reads)),
            in_elements(geometry.problem, reads),
        )

    def cost(self, geometry: Any) -> float:
        """Estimated nanoseconds on one core; for ranking rows."""
        converting = 0.0
        if geometry.stored is not None and self.reads(geometry) != geometry.stored:
            converting = costs.converting(geometry)
        geometry, problem = self._in_elements(geometry)
        parts = self.method.parts(problem, geometry.dtype.itemsize)
        computing = sum(self.method.cost(geometry, part) + costs.PART_START for part in parts)
        return converting + computing * ENGINES[self.engine].handicap

    def blocks(self, geometry: Any) -> dict[str, int]:
        """The block sizes by name, of the first part; empty for a row that isn't cut."""
        geometry, problem = self._in_elements(geometry)
        parts = self.method.parts(problem, geometry.dtype.itemsize)
        if self.method.cut is None or not parts:
            return {}
        blocks = dict(self.method.cut(parts[0], geometry.dtype.itemsize)._asdict())
        return blocks if len(parts) == 1 else {"parts": len(parts), **blocks}

    def packs_once(self, geometry: Any) -> bool:
        """Whether the row reads weight panels that the caller keeps."""
        return self.method.packs and self.family == "fprop" and geometry.prepared

    def scratch_bytes(self, geometry: Any, threads: int = 1) -> int:
        """Bytes of scratch that a call on ``threads`` threads is handed."""
        if self.method.cut is None:
            return 0
        geometry, problem = self._in_elements(geometry)
        itemsize = geometry.dtype.itemsize
        parts = {*self.method.parts(problem, itemsize), *self.method.instead(problem, itemsize)}
        cuts = [self.method.cut(part, itemsize) for part in parts]
        if self.packs_once(geometry):
            cuts = [blocking.of_panels(cut, problem) for cut in cuts]
        shared = max((cut_scratch_bytes(cut, itemsize, threads) for cut in cuts), default=0)
        return self.method.own(problem, itemsize) + shared


def _dgrad(method: Algorithm, split: adjoints.Split = adjoints.by_itself) -> Algorithm:
    """The dgrad of an fprop algorithm, as ``adjoints.dgrad`` makes it."""
    alone = adjoints.parts_of(adjoints.by_itself)
    own = adjoints.own_bytes(split)
    return method._replace(parts=adjoints.parts_of(split), instead=alone, own=own)


def _in_pairs(method: Algorithm) -> Algorithm:
    """A dgrad made of fprops, but for problems that it does in pairs of columns."""

    def parts(problem: Any, itemsize: int) -> tuple[Any, ...]:
        return (
            (problem,) if blocking_gradients.in_pairs(problem) else method.parts(problem, itemsize)
        )

    def instead(problem: Any, itemsize: int) -> tuple[Any, ...]:
        return (*method.parts(problem, itemsize), *method.instead(problem, itemsize))

    return method._replace(cost=costs.dgrad_direct, parts=parts, instead=instead)


def _wgrad(method: Algorithm) -> Algorithm:
    """The wgrad of an fprop algorithm."""
    return method._replace(parts=adjoints.wgrad_parts)


TILED = Algorithm("tiled", costs.tiled, blocking.tiled_cut, packs=True)
TILED_OWN = TILED._replace(cut=blocking.tiled_cut_own)
IM2COL = Algorithm("im2col", costs.im2col, blocking.gemm_cut, packs=True)
IM2COL_IN_PLACE = IM2COL._replace(cost=costs.im2col_in_place)
ROWS = Algorithm("direct", costs.rows, blocking_rows.rows_cut)
LOOP = Algorithm("loop", costs.loop, blocking.plain_cut)
BLAS = Algorithm("im2col", costs.blas, blocking.blas_cut)
REFERENCE = Algorithm("reference", costs.reference)
WGRAD_TILED = Algorithm("tiled", costs.wgrad_tiled, blocking_gradients.wgrad_tiled_cut)
WGRAD_DIRECT = Algorithm("direct", costs.wgrad_direct, blocking_gradients.wgrad_direct_cut)
CUDA_TILED = Algorithm("tiled", costs_cuda.tiled)
CUDA_TENSOR = Algorithm("tensor", costs_cuda.tensor)
CUDA_WGMMA = Algorithm("wgmma", costs_cuda.wgmma)
CUDA_IM2COL = Algorithm("im2col", costs_cuda.im2col)
CUDA_WGRAD_TILED = Algorithm("tiled", costs_cuda.wgrad_tiled)
CUDA_WGRAD_DIRECT = Algorithm("direct", costs_cuda.wgrad_direct)
CUDA_DIRECT = Algorithm("direct", costs_cuda.direct)
CUDA_POOL = Algorithm("direct", costs_cuda.pool)
POOL = Algorithm("direct", costs.pool)
POOL_TAPS = Algorithm("direct", costs.pool_numpy)


#: float32 on tensor cores; what rows of wgmma ask of a device.
TF32 = ("float32",)
HOPPER = "numba_cuda.presence:without_wgmma"


def _on_gpu(
    family: str, method: Algorithm, dtypes: tuple[str, ...] = WITH_INT64, **more: Any
) -> Kernel:
    """A row of ``numba_cuda.rows``, which reads 16-bit floats as they are stored."""
    load = f"numba_cuda.rows:{family}_{method.name}"
    return Kernel(family, method, "numba_cuda", load, dtypes, stored=HALVES, **more)


#: Where two rows cost the same the earlier one runs.
KERNELS: tuple[Kernel, ...] = (
    Kernel("fprop", TILED_OWN, "cython_cpu", "cython_cpu._tiled:fprop", stored=(*HALVES, *BYTES)),
    Kernel("fprop", IM2COL_IN_PLACE, "cython_cpu", "cython_cpu._im2col:fprop"),
    Kernel("fprop", ROWS, "cython_cpu", "cython_cpu._direct:fprop"),
    Kernel("fprop", LOOP, "cython_cpu", "cython_cpu._loop:fprop", WITH_INT64),
    Kernel("fprop", TILED, "numba_cpu", "numba_cpu.tiled:fprop"),
    Kernel("fprop", IM2COL, "numba_cpu", "numba_cpu.im2col:fprop"),
    Kernel("fprop", ROWS, "numba_cpu", "numba_cpu.direct:fprop", WITH_INT64),
    Kernel("fprop", LOOP, "numba_cpu", "numba_cpu.loop:fprop", WITH_INT64),
    Kernel(
        "fprop",
        BLAS,
        "numpy_cpu",
        "numpy_cpu.im2col:fprop",
        WITH_INT64,
        same_bits=False,
        fallback=1,
    ),
    Kernel("fprop", REFERENCE, "numpy_cpu", "reference:fprop", WITH_INT64, fallback=2),
    Kernel("dgrad", _dgrad(TILED_OWN, adjoints.in_tiles), "cython_cpu", "cython_cpu._tiled:dgrad"),
    Kernel(
        "dgrad",
        _dgrad(IM2COL_IN_PLACE, adjoints.in_panels),
        "cython_cpu",
        "cython_cpu._im2col:dgrad",
    ),
    Kernel(
        "dgrad",
        _in_pairs(_dgrad(ROWS, adjoints.in_rows)),
        "cython_cpu",
        "cython_cpu._dgrad_direct:dgrad",
    ),
    Kernel("dgrad", _dgrad(LOOP), "cython_cpu", "cython_cpu._loop:dgrad", WITH_INT64),
    Kernel("dgrad", _dgrad(TILED, adjoints.in_tiles), "numba_cpu", "numba_cpu.tiled:dgrad"),
    Kernel("dgrad", _dgrad(IM2COL, adjoints.in_panels), "numba_cpu", "numba_cpu.im2col:dgrad"),
    Kernel(
        "dgrad", _dgrad(ROWS, adjoints.in_rows), "numba_cpu", "numba_cpu.direct:dgrad", WITH_INT64
    ),
    Kernel("dgrad", _dgrad(LOOP), "numba_cpu", "numba_cpu.loop:dgrad", WITH_INT64),
    Kernel(
        "dgrad",
        _dgrad(BLAS),
        "numpy_cpu",
        "numpy_cpu.im2col:dgrad",
        WITH_INT64,
        same_bits=False,
        fallback=1,
    ),
    Kernel("dgrad", REFERENCE, "numpy_cpu", "reference:dgrad", WITH_INT64, fallback=2),
    Kernel("wgrad", WGRAD_TILED, "cython_cpu", "cython_cpu._wgrad:wgrad"),
    Kernel("wgrad", _wgrad(IM2COL), "cython_cpu", "cython_cpu._im2col:wgrad"),
    Kernel("wgrad", WGRAD_DIRECT, "cython_cpu", "cython_cpu._wgrad_direct:wgrad"),
    Kernel("wgrad", _wgrad(LOOP), "cython_cpu", "cython_cpu._loop:wgrad", WITH_INT64),
    Kernel("wgrad", WGRAD_TILED, "numba_cpu", "numba_cpu.wgrad:wgrad"),
    Kernel("wgrad", _wgrad(IM2COL), "numba_cpu", "numba_cpu.im2col:wgrad"),
    Kernel("wgrad", WGRAD_DIRECT, "numba_cpu", "numba_cpu.wgrad_direct:wgrad"),
    Kernel("wgrad", _wgrad(LOOP), "numba_cpu", "numba_cpu.loop:wgrad", WITH_INT64),
    Kernel(
        "wgrad",
        BLAS,
        "numpy_cpu",
        "numpy_cpu.im2col:wgrad",
        WITH_INT64,
        same_bits=False,
        fallback=1,
    ),
    Kernel("wgrad", REFERENCE, "numpy_cpu", "reference:wgrad", WITH_INT64, fallback=2),
    Kernel("pool", POOL, "cython_cpu", "cython_cpu._pooling:pool", WITH_INT64),
    Kernel("pool", POOL, "numba_cpu", "numba_cpu.pooling:pool", WITH_INT64),
    Kernel("pool", POOL_TAPS, "numpy_cpu", "numpy_cpu.pooling:pool", WITH_INT64),
    Kernel("pool", REFERENCE, "numpy_cpu", "reference:pool", WITH_INT64, fallback=2),
    Kernel("pool_grad", POOL, "cython_cpu", "cython_cpu._pool_grad:pool_grad"),
    Kernel("pool_grad", POOL, "numba_cpu", "numba_cpu.pool_grad:pool_grad"),
    Kernel("pool_grad", POOL_TAPS, "numpy_cpu", "numpy_cpu.pooling:pool_grad"),
    Kernel("pool_grad", REFERENCE, "numpy_cpu", "reference:pool_grad", fallback=2),
    _on_gpu("fprop", CUDA_TENSOR, TF32, rounded=TF32),
    _on_gpu("fprop", CUDA_WGMMA, TF32, rounded=TF32, check=HOPPER),
    _on_gpu("fprop", CUDA_TILED, F32_F64),
    _on_gpu("fprop", CUDA_IM2COL, F32_F64),
    _on_gpu("fprop", CUDA_DIRECT),
    _on_gpu("dgrad", CUDA_TENSOR, TF32, rounded=TF32),
    _on_gpu("dgrad", CUDA_WGMMA, TF32, rounded=TF32, check=HOPPER),
    _on_gpu("dgrad", CUDA_TILED, F32_F64),
    _on_gpu("dgrad", CUDA_IM2COL, F32_F64),
    _on_gpu("dgrad", CUDA_DIRECT),
    _on_gpu("wgrad", CUDA_TENSOR, ()),
    _on_gpu("wgrad", CUDA_WGMMA, (), check=HOPPER),
    _on_gpu("wgrad", CUDA_WGRAD_TILED, F32_F64),
    _on_gpu("wgrad", CUDA_WGRAD_DIRECT),
    _on_gpu("pool", CUDA_POOL),
    _on_gpu("pool_grad", CUDA_POOL, F32_F64),
)


@cache
def engine_missing(engine: str) -> str | None:
    """Why an engine can't run here, with the install command; None if it can."""
    needs = ENGINES[engine].requires
    if needs is not None and importlib.util.find_spec(needs) is None:
        return f"{needs} is not installed: {ENGINES[engine].install}"
    check = ENGINES[engine].check
    missing: str | None = _attribute(check)() if check is not None else None
    return missing


@cache
def row_missing(row: Kernel) -> str | None:
    """Why a row can't run here; None if it can."""
    missing = engine_missing(row.engine)
    if missing is None and row.check is not None:
        missing = _attribute(row.check)()
    return missing


@cache
def load_row(row: Kernel) -> Callable[..., None]:
    """Import the row's module and return its callable (see ``drivers``)."""
    function: Callable[..., None] = _attribute(row.load)
    return function


def _attribute(path: str) -> Any:
    """What ``module:attribute`` below ``cnnfast.kernels`` names."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(f"cnnfast.kernels.{module}"), attribute)
