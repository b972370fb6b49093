"""cvt: conversions between types."""

import numpy as np

from .floats import bf16_bits, bf16_values, flushed, rounded, saturated
from .kinds import DTYPES
from .steps import builds, elementwise, unknown

_TO_WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_FLOATS = ("f16", "bf16", "f32", "f64")


def _read(kind):
    """What turns a source's bits into numbers, for floating-point types."""
    return bf16_values if kind == "bf16" else lambda a: a


def tf32_bits(a, mode="rna"):
    """Single precision rounded to tf32: 10 bits of fraction, as bits of a 32-bit register."""
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32)
    if mode == "rna":
        out = bits + np.uint32(0x1000)
    else:
        out = bits + (np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1)))
    out = out & np.uint32(0xFFFFE000)
    return np.where(np.isnan(a), np.uint32(0x7FFFFFFF), np.where(np.isinf(a), bits, out))


def to_integer(values, dtype, mode, double):
    """Floating-point numbers rounded to whole ones and clamped to an integer type's range."""
    whole = _TO_WHOLE[mode](values.astype(np.float64))
    info = np.iinfo(dtype)
    low, high = float(info.min), float(info.max)  # high may be rounded up: hence >= below
    inside = np.where((whole > low) & (whole < high), whole, 0)
    out = inside.astype(dtype)
    out = np.where(whole <= low, dtype.type(info.min), out)
    out = np.where(whole >= high, dtype.type(info.max), out)
    bits = dtype.itemsize * 8
    nan = 0
    if double or bits == 64:
        nan = info.min if dtype.kind == "i" else 1 << (bits - 1)
    return np.where(np.isnan(values), dtype.type(nan), out)


def to_float(values, kind, mode):
    """Numbers rounded to a floating-point type, as the row's elements."""
    if kind == "bf16":
        if mode not in ("rn", "rz"):
            raise KeyError(mode)
        return bf16_bits(values.astype(np.float32), mode)
    dtype = DTYPES[kind]
    if mode == "rn" or values.dtype.itemsize < dtype.itemsize:
        return values.astype(dtype)
    return rounded(values.astype(np.float64), dtype, mode)


def _integer_to_integer(to, saturate):
    dtype = DTYPES[to]
    if not saturate:
        return lambda a: a.astype(dtype)
    info = np.iinfo(dtype)

    def clamp(a):
        own = np.iinfo(a.dtype)
        return np.clip(a, max(info.min, own.min), min(info.max, own.max)).astype(dtype)

    return clamp


def conversion(op):
    """The computation of a cvt from its opcode."""
    to, source, flags = op[-2], op[-1], op[1:-2]
    if source not in _FLOATS and to not in _FLOATS:
        return _integer_to_integer(to, "sat" in flags)
    whole = next((f for f in flags if f in _TO_WHOLE), None)
    mode = next((f for f in flags if f in ("rn", "rz", "rm", "rp", "rna")), "rn")
    read = _read(source)
    if to == "tf32":
        return lambda a: tf32_bits(np.maximum(a, 0) if "relu" in flags else a, mode)
    if to not in _FLOATS:
        dtype = DTYPES[to]
        return lambda a: to_integer(read(a), dtype, whole or "rzi", source == "f64")

    def compute(a):
        values = read(a)
        if "ftz" in flags and values.dtype == np.float32:
            values = flushed(values)
        if whole:
            values = _TO_WHOLE[whole](values)
        if "relu" in flags:
            values = np.where(values > 0, values, np.where(np.isnan(values), values, 0))
        if "sat" in flags:
            values = saturated(values)
        out = to_float(values, to, mode)
        return flushed(out) if "ftz" in flags and to == "f32" else out

    return compute


@builds("cvt")
def convert(batch, instruction):
    """cvt, the packed two-source forms included."""
    op = tuple(part for part in instruction.op if part != "satfinite")
    to, source = op[-2], op[-1]
    target, *sources = instruction.operands
    if to in ("f16x2", "bf16x2"):
        return _packed(batch, instruction, op)
    if len(sources) != 1 or to not in (*DTYPES, "tf32"):
        raise unknown(instruction)
    row = batch.source(sources[0], source)
    out = batch.target(target, to)
    if to == "tf32":
        mode = op[1]
        if mode not in ("rna", "rn") or source != "f32":
            raise unknown(instruction)
        return elementwise(out, [row], lambda a: tf32_bits(a, mode))
    return elementwise(out, [row], conversion(op))


def _packed(batch, instruction, op):
    """cvt.rn.f16x2.f32 d, a, b: a goes to the upper half."""
    target, *sources = instruction.operands
    if len(sources) != 2 or op[-1] != "f32":
        raise unknown(instruction)
    rows = [batch.source(s, "f32") for s in sources]
    one = conversion((*op[:-2], op[-2][:-2], "f32"))

    def compute(a, b):
        upper, lower = (one(x).view(np.uint16).astype(np.uint32) for x in (a, b))
        return upper << np.uint32(16) | lower

    return elementwise(batch.target(target, "b32"), rows, compute)
