"""Floating-point instructions.

Results are rounded as PTX says for add, sub, mul, div, sqrt, rcp and conversions. Single precision
fma forms the exact product in double precision, adds in double precision and rounds to single: it
differs from a fused one only where the double sum lies on a tie of single precision after having
been rounded itself (about once in 2**29 times). Double precision fma is compensated (exact product
and sum, as two numbers each) and may be off where the sum of the error terms was itself rounded.
Approximate functions (ex2, lg2, sin, cos, tanh, rsqrt, .approx) are correctly rounded, which those
of hardware aren't.
"""

import numpy as np

from .integers import (
    binary_integer,
    divide,
    is_float,
    multiply,
    multiply_add,
    unary_integer,
)
from .steps import Step, builds, elementwise, unknown

_ROUNDINGS = ("rn", "rz", "rm", "rp", "rna")


def flushed(a):
    """Subnormal numbers of single precision as zeros of their sign."""
    return np.where(np.abs(a) < np.float32(2.0**-126), np.copysign(np.float32(0), a), a)


def saturated(a):
    """Clamped to [0, 1], NaN as 0."""
    return np.where(a != a, 0, np.clip(a, 0, 1)).astype(a.dtype)


def rounded(exact, dtype, mode):
    """A double precision array rounded to a narrower type in a direction."""
    near = exact.astype(dtype)
    if mode == "rn":
        return near
    back = near.astype(np.float64)
    low, high = dtype.type(-np.inf), dtype.type(np.inf)
    down = np.where(back > exact, np.nextafter(near, low), near)
    up = np.where(back < exact, np.nextafter(near, high), near)
    if mode == "rm":
        return down
    if mode == "rp":
        return up
    return np.where(exact > 0, down, up).astype(dtype)


def bf16_values(bits):
    """bf16 bits as single precision."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def bf16_bits(a, mode="rn"):
    """Single precision rounded to bf16 bits (to nearest even, or towards zero)."""
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32)
    if mode == "rn":
        bits = bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)))
    out = (bits >> np.uint32(16)).astype(np.uint16)
    return np.where(a != a, np.uint16(0x7FFF), out)


def fused64(a, b, c):
    """A * b + c in double precision, compensated."""
    split = 134217729.0

    def halves(x):
        t = split * x
        high = t - (t - x)
        return high, x - high

    p = a * b
    a1, a0 = halves(a)
    b1, b0 = halves(b)
    e = a0 * b0 - (((p - a1 * b1) - a0 * b1) - a1 * b0)
    s = p + c
    t = s - p
    f = (p - (s - t)) + (c - t)
    exact = s + (e + f)
    return np.where(np.isfinite(e) & np.isfinite(f) & np.isfinite(exact), exact, s)


def _wrap(compute, op, kind):
    """Add flushing and saturation to a computation on `kind`."""
    inner = compute
    if "ftz" in op and kind == "f32":
        unflushed = inner

        def inner(*args):
            return flushed(unflushed(*map(flushed, args)))

    if "sat" in op:
        unclamped = inner

        def inner(*args):
            return saturated(unclamped(*args))

    return inner


def _half(compute, kind):
    """A computation in single precision for 16-bit types, packed or not."""
    bf16 = kind.startswith("bf16")

    def run(*args):
        if kind.endswith("x2"):
            args = [np.ascontiguousarray(a).view(np.uint16).reshape(-1, 2) for a in args]
            if not bf16:
                args = [a.view(np.float16) for a in args]
        if bf16:
            out = bf16_bits(compute(*map(bf16_values, args)))
        else:
            out = compute(*[a.astype(np.float32) for a in args]).astype(np.float16)
        if kind.endswith("x2"):
            return np.ascontiguousarray(out).view(np.uint32).ravel()
        return out

    return run


def float_step(batch, instruction, compute, ufunc=None):
    """The step of a computation on the instruction's floating-point type."""
    op, kind = instruction.op, instruction.op[-1]
    target, *sources = instruction.operands
    sources = [batch.source(s, kind) for s in sources]
    target = batch.target(target, kind)
    if kind not in ("f32", "f64"):
        return elementwise(target, sources, _half(compute, kind))
    mode = next((part for part in op[1:] if part in _ROUNDINGS), "rn")
    if mode != "rn" and kind == "f32":
        inner, dtype = compute, sources[0].dtype

        def compute(*args):
            return rounded(inner(*[a.astype(np.float64) for a in args]), dtype, mode)

        ufunc = None
    elif mode != "rn":
        raise unknown(instruction)
    if "ftz" in op or "sat" in op:
        ufunc = None
    return elementwise(target, sources, _wrap(compute, op, kind), ufunc)


_BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


@builds("add", "sub")
def add(batch, instruction):
    """add, sub."""
    if not is_float(instruction.op[-1]):
        return binary_integer(batch, instruction)
    ufunc = _BINARY[instruction.op[0]]
    return float_step(batch, instruction, ufunc, ufunc)


@builds("mul")
def mul(batch, instruction):
    """Mul."""
    if not is_float(instruction.op[-1]):
        return multiply(batch, instruction)
    return float_step(batch, instruction, np.multiply, np.multiply)


@builds("min", "max")
def extremum(batch, instruction):
    """Min and max: a NaN loses, unless .NaN is there; -0 is less than +0."""
    if not is_float(instruction.op[-1]):
        return binary_integer(batch, instruction)
    smallest = instruction.op[0] == "min"
    plain = np.minimum if smallest else np.maximum
    number = np.fmin if smallest else np.fmax
    choose = plain if "NaN" in instruction.op else number

    def compute(a, b):
        zeros = (a == 0) & (b == 0)
        sign = np.signbit(a) | np.signbit(b) if smallest else np.signbit(a) & np.signbit(b)
        zero = np.where(sign, a.dtype.type(-0.0), a.dtype.type(0.0))
        return np.where(zeros, zero, choose(a, b))

    return float_step(batch, instruction, compute)


@builds("neg", "abs")
def sign(batch, instruction):
    """neg, abs: of the sign bit alone for floating point."""
    if not is_float(instruction.op[-1]):
        return unary_integer(batch, instruction)
    ufunc = np.negative if instruction.op[0] == "neg" else np.abs
    return float_step(batch, instruction, ufunc, ufunc)


@builds("copysign")
def copysign(batch, instruction):
    """Copysign d, a, b: the sign of a, the rest of b."""
    return float_step(batch, instruction, lambda a, b: np.copysign(b, a))


@builds("testp")
def classify(batch, instruction):
    """testp: finite, infinite, number, notanumber, normal, subnormal."""
    kind = instruction.op[-1]
    source = batch.source(instruction.operands[1], kind)
    smallest = np.finfo(source.dtype).tiny
    tests = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda a: ~np.isnan(a),
        "notanumber": np.isnan,
        "normal": lambda a: np.isfinite(a) & (np.abs(a) >= smallest),
        "subnormal": lambda a: (a != 0) & (np.abs(a) < smallest),
    }
    test = tests[instruction.op[1]]
    return elementwise(batch.target(instruction.operands[0], "pred"), [source], test)


@builds("fma", "mad")
def fma(batch, instruction):
    """fma, and mad, which means fma for floating point."""
    op, kind = instruction.op, instruction.op[-1]
    if not is_float(kind):
        return multiply_add(batch, instruction)
    if kind == "f64":
        return float_step(batch, instruction, fused64)
    if kind != "f32":
        relu = "relu" in op

        def half(a, b, c):
            out = a.astype(np.float64) * b + c
            return np.where(out > 0, out, 0) if relu else out

        return float_step(batch, instruction, lambda a, b, c: half(a, b, c).astype(np.float32))
    if len({"ftz", "sat", "rz", "rm", "rp"} & set(op)) == 0:
        return _fused32(batch, instruction)

    def compute(a, b, c):
        exact = a.astype(np.float64) * b + c
        return exact.astype(a.dtype)

    return float_step(batch, instruction, compute)


def _fused32(batch, instruction):
    """fma.rn.f32, the instruction that kernels mostly consist of."""
    target, *sources = instruction.operands
    a, b, c = (batch.source(s, "f32") for s in sources)
    d = batch.target(target, "f32")
    t, u = batch.scratch
    multiply, add = np.multiply, np.add

    def full():
        t[...] = a
        u[...] = b
        multiply(t, u, t)
        u[...] = c
        add(t, u, t)
        d[...] = t

    def masked(lanes):
        d[lanes] = a[lanes].astype(np.float64) * b[lanes] + c[lanes]

    return Step(full, masked)


@builds("div")
def div(batch, instruction):
    """div: .rn rounds as it must; .approx and .full are rounded to nearest here."""
    if not is_float(instruction.op[-1]):
        return divide(batch, instruction)
    return float_step(batch, instruction, np.divide, np.divide)


def _double(function):
    """A function computed in double precision and rounded to what came in."""
    return lambda a: function(a.astype(np.float64)).astype(a.dtype)


_FUNCTIONS = {
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "rcp": lambda a: 1 / a,
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


@builds(*_FUNCTIONS)
def function(batch, instruction):
    """The functions of one argument."""
    inner = _FUNCTIONS[instruction.op[0]]
    if {"rz", "rm", "rp"} & set(instruction.op):
        return float_step(batch, instruction, inner)
    return float_step(batch, instruction, _double(inner))
