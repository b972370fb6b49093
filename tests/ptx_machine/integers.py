"""Integer, bit and predicate instructions."""

import numpy as np

from .errors import Fault
from .kinds import SIZES
from .operands import Pair
from .steps import Step, builds, condition, elementwise, unknown

_WIDER = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}
_HALVES = {"f16", "bf16", "f16x2", "bf16x2"}


def is_float(kind):
    """Whether a type takes floating-point instructions."""
    return kind in ("f32", "f64") or kind in _HALVES


def high(a, b):
    """The upper half of the product of two integer arrays."""
    bits = a.dtype.itemsize * 8
    if bits < 64:
        wide = a.astype(f"{a.dtype.kind}8") * b.astype(f"{a.dtype.kind}8")
        return (wide >> bits).astype(a.dtype)
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    other = x0 * y1 + (middle & low)
    out = x1 * y1 + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":
        out = out - np.where(a < 0, y, 0).astype(np.uint64)
        out = out - np.where(b < 0, x, 0).astype(np.uint64)
    return out.view(a.dtype)


def quotient(a, b):
    """Integer division towards zero."""
    if (b == 0).any():
        raise Fault("division by zero", int((b == 0).argmax()))
    return (a - np.fmod(a, b)) // b


def remainder(a, b):
    """What `quotient` leaves over."""
    if (b == 0).any():
        raise Fault("division by zero", int((b == 0).argmax()))
    return np.fmod(a, b)


_UFUNCS = {
    "add": np.add, "sub": np.subtract, "min": np.minimum, "max": np.maximum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


def binary_integer(batch, instruction):
    """add, sub, min, max, and, or, xor on integers and predicates."""
    op, kind = instruction.op, instruction.op[-1]
    target, sources = operands(batch, instruction, kind)
    ufunc = _UFUNCS[op[0]]
    if "cc" in op[1:]:
        return _carrying(batch, op[0], target, sources)
    if "sat" in op[1:]:
        limits = np.iinfo(sources[0].dtype)

        def compute(a, b):
            wide = ufunc(a.astype(np.int64), b.astype(np.int64))
            return np.clip(wide, limits.min, limits.max).astype(a.dtype)

        return elementwise(target, sources, compute)
    return elementwise(target, sources, ufunc, ufunc if _same(target, sources) else None)


def _same(target, sources):
    return target is not None and target.dtype == sources[0].dtype


def operands(batch, instruction, kind):
    """The target and the sources of an instruction whose operands are all of one type."""
    target, *sources = instruction.operands
    return batch.target(target, kind), [batch.source(s, kind) for s in sources]


def _store_with_carry(batch, target, rows, compute):
    """The step of an instruction that gives a result and sets the carry flag."""

    def run(lanes):
        value, carry = compute(*[row[lanes] for row in rows])
        if target is not None:
            target[lanes] = value
        batch.carry[lanes] = carry

    return Step(lambda: run(slice(None)), run)


def _carrying(batch, name, target, sources):
    """add.cc and sub.cc: unsigned, the carry or borrow goes to the flag."""
    unsigned = [s.view(f"u{s.dtype.itemsize}") for s in sources]
    target = target.view(unsigned[0].dtype)
    if name == "add":
        return _store_with_carry(batch, target, unsigned, lambda a, b: (a + b, a + b < a))
    return _store_with_carry(batch, target, unsigned, lambda a, b: (a - b, a < b))


@builds("addc", "subc")
def carried(batch, instruction):
    """Addc and subc, which take the flag in."""
    kind = "u" + instruction.op[-1][1:]
    target, sources = operands(batch, instruction, kind)
    sign = instruction.op[0] == "subc"

    def compute(a, b, c):
        c = c.astype(a.dtype)
        if sign:
            return a - b - c, (a < b) | ((a == b) & (c != 0))
        total = a + b
        return total + c, (total < a) | (total + c < total)

    rows = [*sources, batch.carry]
    if "cc" in instruction.op:
        return _store_with_carry(batch, target, rows, compute)
    return elementwise(target, rows, lambda *args: compute(*args)[0])


def multiply(batch, instruction):
    """mul.lo, .hi and .wide on integers."""
    mode, kind = instruction.op[1], instruction.op[-1]
    wide = _WIDER[kind] if mode == "wide" else kind
    target = batch.target(instruction.operands[0], wide)
    sources = [batch.source(s, kind) for s in instruction.operands[1:]]
    if mode == "lo":
        return elementwise(target, sources, np.multiply, np.multiply)
    if mode == "hi":
        return elementwise(target, sources, high)
    dtype = f"{'i' if wide[0] == 's' else 'u'}{SIZES[wide]}"
    return elementwise(target, sources, lambda a, b: np.multiply(a, b, dtype=dtype))


@builds("mul24")
def multiply24(batch, instruction):
    """mul24.lo: the low 32 bits of the product of 24-bit numbers."""
    if instruction.op[1] != "lo":
        raise unknown(instruction)
    target, sources = operands(batch, instruction, instruction.op[-1])
    return elementwise(target, sources, lambda a, b: (a << 8 >> 8) * (b << 8 >> 8))


@builds("madc")
def multiply_add_carry(batch, instruction):
    """madc: mad with the carry flag."""
    return multiply_add(batch, instruction)


def multiply_add(batch, instruction):
    """mad.lo, .hi, .wide, with .cc and madc."""
    op, mode, kind = instruction.op, instruction.op[1], instruction.op[-1]
    wide = _WIDER[kind] if mode == "wide" else kind
    first, *rest = instruction.operands
    target = batch.target(first, wide)
    a, b = (batch.source(s, kind) for s in rest[:2])
    c = batch.source(rest[2], wide)
    products = {
        "lo": np.multiply,
        "hi": high,
        "wide": lambda x, y: np.multiply(x, y, dtype=c.dtype),
    }
    product = products[mode]
    if op[0] != "madc" and "cc" not in op:
        return elementwise(target, [a, b, c], lambda x, y, z: product(x, y) + z)

    def compute(x, y, z, flag):
        p = product(x, y)
        carry_in = flag.astype(p.dtype) if op[0] == "madc" else p.dtype.type(0)
        total = p + z
        return total + carry_in, (total < p) | (total + carry_in < total)

    rows = [a, b, c, batch.carry]
    if "cc" in op:
        return _store_with_carry(batch, target, rows, compute)
    return elementwise(target, rows, lambda *args: compute(*args)[0])


def divide(batch, instruction):
    """Div and rem on integers; a division by zero is an error here."""
    target, sources = operands(batch, instruction, instruction.op[-1])
    compute = quotient if instruction.op[0] == "div" else remainder
    return elementwise(target, sources, compute, pure=False)


@builds("rem")
def rem(batch, instruction):
    """rem: integers only."""
    return divide(batch, instruction)


@builds("and", "or", "xor")
def logical(batch, instruction):
    """and, or, xor."""
    return binary_integer(batch, instruction)


def unary_integer(batch, instruction):
    """Neg and abs on integers."""
    ufunc = np.negative if instruction.op[0] == "neg" else np.abs
    target, sources = operands(batch, instruction, instruction.op[-1])
    return elementwise(target, sources, ufunc)


@builds("not", "cnot")
def complement(batch, instruction):
    """not, cnot."""
    target, sources = operands(batch, instruction, instruction.op[-1])
    if instruction.op[0] == "cnot":
        return elementwise(target, sources, lambda a: (a == 0).astype(a.dtype))
    return elementwise(target, sources, np.invert, np.invert)


@builds("sad")
def difference(batch, instruction):
    """sad: c + |a - b|."""
    target, sources = operands(batch, instruction, instruction.op[-1])
    return elementwise(
        target, sources, lambda a, b, c: c + np.where(a < b, b - a, a - b).astype(a.dtype)
    )


@builds("selp")
def select(batch, instruction):
    """selp: a where the predicate holds, else b."""
    target, a, b, predicate = instruction.operands
    kind = instruction.op[-1]
    sources = [batch.source(predicate, "pred"), batch.source(a, kind), batch.source(b, kind)]
    return elementwise(batch.target(target, kind), sources, np.where)


@builds("slct")
def select_by_sign(batch, instruction):
    """slct: a where c >= 0, else b."""
    target, a, b, c = instruction.operands
    kind = instruction.op[-2]
    sources = [batch.source(c, instruction.op[-1]), batch.source(a, kind), batch.source(b, kind)]
    return elementwise(batch.target(target, kind), sources, lambda c, a, b: np.where(c >= 0, a, b))


def _either_nan(a, b):
    return (a != a) | (b != b)


COMPARISONS = {
    "eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
    "neu": np.not_equal,
    "equ": lambda a, b: (a == b) | _either_nan(a, b),
    "ltu": lambda a, b: ~(a >= b), "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b), "geu": lambda a, b: ~(a < b),
    "num": lambda a, b: ~_either_nan(a, b), "nan": _either_nan,
}  # fmt: skip

_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _comparison(name, kind):
    if name == "ne":
        if is_float(kind):
            return lambda a, b: (a != b) & ~_either_nan(a, b)
        return np.not_equal
    return COMPARISONS[name]


@builds("setp", "set")
def compare(batch, instruction):
    """Setp and set: comparisons, combined with a predicate; setp's second result is the inverse."""
    from .floats import flushed

    op = [part for part in instruction.op if part != "ftz"]
    kind = op[-1]
    if kind in ("bf16", "bf16x2", "f16x2"):
        raise unknown(instruction)
    function = _comparison(op[1], kind)
    target, a, b, *rest = instruction.operands
    sources = [batch.source(a, kind), batch.source(b, kind)]
    if "ftz" in instruction.op:
        inner = function

        def function(x, y):
            return inner(flushed(x), flushed(y))

    combine, negated = None, False
    if rest:
        combine = _COMBINE[op[2]]
        row, negated = condition(batch, rest[0])
        sources.append(row)

    def compute(x, y, *third):
        out = function(x, y)
        return combine(out, third[0] ^ negated) if combine else out

    if op[0] == "set":
        return _set(batch, target, op[-2], sources, compute)
    if isinstance(target, Pair):
        second = batch.target(target.second, "pred")
        first = batch.target(target.first, "pred")

        def run(lanes):
            rows = [s[lanes] for s in sources]
            holds = function(*rows[:2])
            third = rows[2] ^ negated if combine else None
            if first is not None:
                first[lanes] = combine(holds, third) if combine else holds
            if second is not None:
                second[lanes] = combine(~holds, third) if combine else ~holds

        return Step(lambda: run(slice(None)), run)
    ufunc = function if combine is None and isinstance(function, np.ufunc) else None
    return elementwise(batch.target(target, "pred"), sources, compute, ufunc)


def _set(batch, target, kind, sources, compute):
    """set: all ones, or 1.0, where the comparison holds."""
    yes = 1.0 if kind == "f32" else -1
    target = batch.target(target, kind)
    return elementwise(
        target, sources, lambda *args: np.where(compute(*args), yes, 0).astype(target.dtype)
    )
