"""What a fuzz case is, how its arrays lie in memory, and what must hold of it.

Arrays are views of larger buffers of canary bytes: permuted, sliced, negative, broadcast,
read-only, byte-swapped, misaligned, with elements apart by less than an element. ``check`` runs a
case and ``check_refused`` one with a bad argument.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import cnnfast
from cnnfast.kernels import KERNELS
from cnnfast.kernels.registry import ENGINES, engine_missing

from .oracle import epsilon, kind_of, least

Array = np.ndarray[Any, Any]

CANARY = 0xA5
MARGIN = 64

#: How an array may lie in memory; the first ones are what Hypothesis shrinks to.
STYLES = (
    "plain", "permuted", "sliced", "negative", "read-only", "broadcast", "swapped", "misaligned",
    "apart", "everything", "list", "array-like", "dlpack", "subclass",
)  # fmt: skip
OUT_STYLES = (
    "plain", "permuted", "sliced", "negative", "misaligned", "apart", "everything", "subclass",
)  # fmt: skip


class ArrayLike:
    """An object that offers ``__array__`` alone."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self._array if dtype is None else self._array.astype(dtype)


class Dlpack:
    """An object that speaks DLPack alone."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class Subclass(np.ndarray[Any, Any]):
    """A subclass without a purpose."""


class Memory:
    """A view of a buffer of canaries, of any shape, dtype and style."""

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, style: str, seed: int,
        flat_axis: int | None = None, swap: bool = True,
    ) -> None:  # fmt: skip
        rng = random.Random(seed)
        dtype = np.dtype(dtype)
        everything = style == "everything"
        if swap and (style == "swapped" or everything) and dtype.itemsize > 1 and dtype.kind != "V":
            dtype = dtype.newbyteorder()
        order = list(range(len(shape)))[::-1]
        if style == "permuted" or everything:
            rng.shuffle(order)
        running = dtype.itemsize + (rng.randint(1, 3) if style == "apart" or everything else 0)
        offset = MARGIN + (style == "misaligned" or everything)
        strides = [0] * len(shape)
        for axis in order:
            if axis == flat_axis:
                continue
            step = rng.randint(1, 3) if style in ("sliced", "negative", "everything") else 1
            strides[axis] = running * step
            running = strides[axis] * max(shape[axis], 1)
            if style == "negative" or (everything and rng.random() < 0.5):
                offset += strides[axis] * max(shape[axis] - 1, 0)
                strides[axis] *= -1
        self.buffer = np.full(running + 2 * MARGIN + 8, CANARY, np.uint8)
        self.view: Array = np.ndarray(shape, dtype, self.buffer, offset, tuple(strides))
        self._geometry = (*shape, dtype.itemsize), offset, (*strides, 1)

    def canaries_are_alive(self) -> bool:
        """Whether no byte outside of the elements was touched."""
        shape, offset, strides = self._geometry
        mask = np.zeros(self.buffer.size, bool)
        np.ndarray(shape, bool, mask, offset, strides)[...] = True
        return bool((self.buffer[~mask] == CANARY).all())


@dataclass
class Given:
    """An argument that is an array: its values, and what is handed over in their place."""

    values: Array
    style: str
    memory: Memory
    passed: Any
    before: bytes

    @classmethod
    def make(cls, values: Array, style: str, seed: int) -> Given:
        """``values`` in memory; for "broadcast" one axis of them becomes constant."""
        flat_axis = None
        wide = [axis for axis, extent in enumerate(values.shape) if extent > 1]
        if style == "broadcast" and wide:
            flat_axis = random.Random(seed).choice(wide)
            values = np.repeat(values.take([0], flat_axis), values.shape[flat_axis], flat_axis)
        memory = Memory(values.shape, values.dtype, style, seed, flat_axis)
        if values.size:
            at: Any = tuple(
                slice(0, 1) if i == flat_axis else slice(None) for i in range(values.ndim)
            )
            memory.view[at] = values[at]
        passed: Any = memory.view
        if style in ("read-only", "broadcast"):
            memory.view.flags.writeable = False
        if style == "array-like":
            passed = ArrayLike(memory.view)
        if style == "dlpack" and values.dtype.kind != "V":
            passed = Dlpack(memory.view)
        if style == "subclass":
            passed = memory.view.view(Subclass)
        if (
            style == "list"
            and values.size
            and values.dtype.name in ("float64", "int64", "complex128")
        ):
            passed = values.tolist()
        return cls(values, style, memory, passed, memory.buffer.tobytes())

    def __repr__(self) -> str:
        view = self.memory.view
        return f"<{view.dtype} {view.shape}, strides {view.strides}, {self.style}>"


@dataclass
class Case:
    """A call, what it must give, and how far off that may be."""

    name: str
    arrays: dict[str, Given]
    arguments: dict[str, Any]
    dtype: Any  #: of the result
    expected: Array
    tolerance: Array | float = 0.0
    indices: Array | None = None
    families: tuple[str, ...] = ()  #: of the kernels that it runs; none: plain NumPy
    computing: str = "float"  #: "integer": takes rows for int64
    settings: dict[str, Any] = field(default_factory=dict)  #: out's memory, threads

    @property
    def function(self) -> Callable[..., Any]:
        """The public function."""
        module = cnnfast.functional if hasattr(cnnfast.functional, self.name) else cnnfast.grad
        function: Callable[..., Any] = getattr(module, self.name)
        return function

    @property
    def takes_out(self) -> bool:
        """Whether there is an ``out`` (and a ``backend``)."""
        return bool(self.families)

    def __repr__(self) -> str:
        given = {**self.arrays, **self.arguments}
        text = ", ".join(f"{key}={value!r}" for key, value in given.items())
        return (
            f"{self.name}({text}) -> {np.dtype(self.dtype)} {self.expected.shape}, {self.settings}"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis would show every byte

    def call(self, **more: Any) -> Any:
        """Run it."""
        arrays = {key: given.passed for key, given in self.arrays.items()}
        return self.function(**{**arrays, **self.arguments, **more})

    def refused_by(self) -> str | None:
        """Why the backend can't take it, by the table; None if it can."""
        backend = self.arguments.get("backend")
        if backend is None:
            return None
        first, _, second = backend.partition("/")
        engines = {engine.name: folder for folder, engine in ENGINES.items()}
        algorithm = None if first in engines else first
        engine = engines[first] if first in engines else engines.get(second)
        for family in self.families:
            rows = [
                row
                for row in KERNELS
                if row.family == family
                and algorithm in (None, row.algorithm)
                and engine in (None, row.engine)
                and engine_missing(row.engine) is None
                and (self.computing != "integer" or "int64" in row.dtypes)
            ]
            if not rows:
                return f"no row of {family} for {backend}"
        return None


@contextmanager
def no_warnings(case: Case) -> Iterator[None]:
    """Warnings are errors, but for landing on the reference where no compiled row can serve."""
    compiled = not all(map(engine_missing, ("cython_cpu", "numba_cpu")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if case.arguments.get("backend") == "numpy" or not compiled:
            warnings.simplefilter("ignore", cnnfast.PerformanceWarning)
        yield


def inputs_untouched(case: Case) -> bool:
    """Whether every byte of the inputs and around them is what it was."""
    return all(given.memory.buffer.tobytes() == given.before for given in case.arrays.values())


def assert_values(case: Case, result: Array) -> None:
    """Elementwise within the tolerance; without one equal to the expectation, rounded once."""
    with np.errstate(all="ignore"):
        expected = case.expected.astype(case.dtype)
        if not np.any(case.tolerance):
            close = (result == expected) | ((result != result) & (expected != expected))
        else:
            close = np.ones(expected.shape, bool)
            for mine, exact in _parts(result, case.expected):
                close &= _near(mine, exact, np.asarray(case.tolerance), mine.dtype)
    assert close.all(), (
        f"{case!r}: {int((~close).sum())} of {close.size} values are wrong, the first at "
        f"{np.argwhere(~close)[0]}: {result[~close][0]!r} instead of {case.expected[~close][0]!r}"
    )


def _parts(result: Array, expected: Array) -> list[tuple[Array, Array]]:
    if result.dtype.kind != "c":
        return [(result, expected)]
    return [(result.real, expected.real), (result.imag, np.asarray(expected.imag))]


def _near(result: Array, exact: Array, tolerance: Array, dtype: Any) -> Array:
    """``tolerance`` is the accumulator's share; rounding to the result's dtype adds its own."""
    mine = result.astype(np.float64)
    allowed = tolerance + epsilon(dtype) * np.abs(exact) + least(dtype)
    near = (np.isfinite(exact) & (np.abs(mine - exact) <= allowed)) | (mine == exact)
    near |= (mine != mine) & (exact != exact)
    # Beyond the dtype's range infinity is the rounded value.
    cast = (np.abs(exact) + allowed).astype(dtype).astype(np.float64)
    return np.asarray(near | (np.isinf(mine) & np.isinf(cast) & (np.sign(mine) == np.sign(exact))))


def check(case: Case) -> None:
    """Run a case by every rule: values, dtype, memory, bits on more threads, ``out``, inputs."""
    with no_warnings(case):
        cnnfast.set_num_threads(case.settings["threads"][0])
        refused = case.refused_by()
        if refused is not None:
            _check_unavailable(case, refused)
            return
        result = _values(case, case.call())
        assert result.flags.writeable, f"{case!r}: the result is read-only"
        assert result.flags.c_contiguous, f"{case!r}: the result isn't C-contiguous"
        assert result.dtype.isnative, f"{case!r}: the result is byte-swapped"
        assert not any(
            np.shares_memory(result, given.memory.buffer) for given in case.arrays.values()
        ), f"{case!r}: the result shares memory with an input"
        assert_values(case, result)
        cnnfast.set_num_threads(case.settings["threads"][1])
        again = _values(case, case.call())
        if "numpy" not in (case.arguments.get("backend") or ""):
            assert again.tobytes() == result.tobytes(), f"{case!r}: threads change the bits"
        if case.takes_out:
            _check_out(case)
        assert inputs_untouched(case), f"{case!r}: an input was changed"


def _values(case: Case, outcome: Any) -> Array:
    """The result of a call; its indices, if there are any, are checked here."""
    if case.indices is not None:
        assert isinstance(outcome, tuple), f"{case!r}: no indices"
        outcome, indices = outcome
        assert indices.dtype == np.int64
        np.testing.assert_array_equal(indices, case.indices, repr(case))
    assert isinstance(outcome, np.ndarray | np.generic), f"{case!r}: got {type(outcome)}"
    assert outcome.dtype == case.dtype, f"{case!r}: got dtype {outcome.dtype}"
    assert outcome.shape == case.expected.shape, f"{case!r}: got shape {outcome.shape}"
    return np.asarray(outcome)


def _check_unavailable(case: Case, why: str) -> None:
    message = None
    try:
        case.call()
    except cnnfast.BackendUnavailableError as error:
        message = str(error)
    assert message is not None, f"{case!r}: {why}, but it ran"
    assert case.name in message, f"{case!r}: the message doesn't name it: {message}"
    assert inputs_untouched(case)


def out_memory(case: Case) -> Memory:
    """An ``out`` for the case, full of canaries."""
    style, seed = case.settings["out"]
    return Memory(case.expected.shape, case.dtype, style, seed, swap=False)


def _check_out(case: Case) -> None:
    memory = out_memory(case)
    out = memory.view
    if case.settings["out"][0] == "subclass":
        out = out.view(Subclass)
    outcome = case.call(out=out)
    returned = outcome[0] if case.indices is not None else outcome
    assert returned is out, f"{case!r}: out isn't what was returned"
    _values(Case(**{**vars(case), "dtype": memory.view.dtype}), outcome)
    assert memory.canaries_are_alive(), f"{case!r}: bytes outside of out were written"
    assert_values(case, memory.view.astype(case.dtype))


def check_refused(case: Case, change: dict[str, Any], described: str) -> None:
    """A case with a bad argument must raise ValueError or TypeError that names the function, and
    leave ``out`` alone.
    """
    memory = out_memory(case)
    more = {"out": memory.view} if case.takes_out and "out" not in change else {}
    what, message = f"{case.name}({described}) of {case!r}", None
    with no_warnings(case):
        try:
            case.call(**{**more, **change})
        except (ValueError, TypeError) as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error
    assert message is not None, f"{what} was accepted"
    assert case.name in message, f"{what}: the message doesn't name the function: {message}"
    assert (memory.buffer == CANARY).all(), (
        f"{case!r}: {described}: out was written before the error"
    )
    assert inputs_untouched(case), f"{case!r}: {described}: an input was changed"


def values_of(rng: Any, shape: tuple[int, ...], dtype: Any, tier: str) -> Array:
    """Random values: "small" integers, "full" range, or "special" with infinities and NaN."""
    dtype, kind = np.dtype(dtype), kind_of(dtype)
    if kind == "integer":
        if tier == "small":
            return np.asarray(rng.integers(0 if dtype.kind == "u" else -4, 5, shape).astype(dtype))
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        values[rng.random(shape) < 0.2] = rng.choice([info.min, info.max])
        return np.asarray(values)
    if kind == "complex":
        real = np.dtype(f"f{dtype.itemsize // 2}")
        parts = [values_of(rng, shape, real, tier) for _ in range(2)]
        return (parts[0] + 1j * parts[1]).astype(dtype)
    if tier == "small":
        return np.asarray(rng.integers(-4, 5, shape).astype(dtype))
    values = rng.standard_normal(shape)
    if tier == "special":
        odd = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], shape)
        values = np.where(rng.random(shape) < 0.15, odd, values)
    return np.asarray(values.astype(dtype))
