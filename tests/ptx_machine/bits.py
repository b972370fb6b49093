"""Shifts, bit fields, counting and permuting of bits."""

import numpy as np

from .integers import operands
from .kinds import SIZES
from .operands import Sym
from .steps import builds, elementwise, unknown


@builds("shl", "shr")
def shift(batch, instruction):
    """shl, shr: amounts beyond the width shift everything out, as NumPy's do."""
    kind = instruction.op[-1]
    target, value, amount = instruction.operands
    ufunc = np.left_shift if instruction.op[0] == "shl" else np.right_shift
    a = batch.source(value, kind)
    b = batch.source(amount, "u32")
    if not isinstance(amount, Sym) and not b.strides[0]:
        b = batch.spread(a.dtype.type(min(int(b[0]), 8 * a.dtype.itemsize)))
        return elementwise(batch.target(target, kind), [a, b], ufunc, ufunc)
    top = np.uint32(8 * a.dtype.itemsize)

    def compute(x, y):
        return ufunc(x, np.minimum(y, top).astype(x.dtype))

    return elementwise(batch.target(target, kind), [a, b], compute)


@builds("shf")
def funnel(batch, instruction):
    """shf.l and shf.r, .clamp and .wrap: 32 bits out of a 64-bit shift."""
    _, side, mode, _ = instruction.op
    target, sources = operands(batch, instruction, "b32")

    def compute(a, b, c):
        n = (np.minimum(c, 32) if mode == "clamp" else c & 31).astype(np.uint64)
        both = b.astype(np.uint64) << np.uint64(32) | a
        out = both << n >> np.uint64(32) if side == "l" else both >> n
        return out.astype(np.uint32)

    return elementwise(target, sources, compute)


@builds("bfe")
def extract(batch, instruction):
    """bfe: a bit field, sign-extended for signed types."""
    kind = instruction.op[-1]
    target = batch.target(instruction.operands[0], kind)
    a = batch.source(instruction.operands[1], kind)
    sources = [a, *(batch.source(s, "u32") for s in instruction.operands[2:])]
    bits = 8 * a.dtype.itemsize
    signed = a.dtype.kind == "i"

    def compute(x, start, length):
        start = (start & 0xFF).astype(np.int64)
        length = (length & 0xFF).astype(np.int64)
        room = np.minimum(length, np.maximum(bits - start, 0))
        up = np.minimum(bits - room, bits)
        field = np.right_shift(x, np.minimum(start, bits).astype(x.dtype))
        field = field << up.astype(x.dtype) >> up.astype(x.dtype)
        if not signed:
            return np.where(length == 0, 0, field).astype(x.dtype)
        sign_at = np.clip(start + length - 1, 0, bits - 1)
        sign = -(x >> sign_at.astype(x.dtype) & 1)
        beyond = np.where(room < length, room, bits).astype(x.dtype)
        field = np.where(room < length, field & ~(-1 << beyond) | sign << beyond, field)
        return np.where(length == 0, 0, field).astype(x.dtype)

    return elementwise(target, sources, compute)


@builds("bfi")
def insert(batch, instruction):
    """bfi: the low bits of one number into a field of another."""
    kind = instruction.op[-1]
    target = batch.target(instruction.operands[0], kind)
    sources = [batch.source(s, kind) for s in instruction.operands[1:3]]
    sources += [batch.source(s, "u32") for s in instruction.operands[3:]]
    bits = SIZES[kind] * 8

    def compute(a, b, start, length):
        start = np.minimum(start & 0xFF, bits).astype(b.dtype)
        length = np.minimum(length & 0xFF, bits).astype(b.dtype)
        one = b.dtype.type(1)
        mask = ((one << length) - one) << start
        return (a << start & mask) | (b & ~mask)

    return elementwise(target, sources, compute)


@builds("bfind")
def find(batch, instruction):
    """bfind: the place of the highest bit that isn't sign, -1 if there is none."""
    kind = instruction.op[-1]
    target = batch.target(instruction.operands[0], "u32")
    source = batch.source(instruction.operands[1], kind)
    bits = 8 * source.dtype.itemsize

    def compute(a):
        a = np.where(a < 0, ~a, a).astype(f"u{a.dtype.itemsize}")
        place = length(a) - 1
        if "shiftamt" in instruction.op:
            place = np.where(place < 0, -1, bits - 1 - place)
        return place.astype(np.int32).view(np.uint32)

    return elementwise(target, [source], compute)


def length(a):
    """The number of bits up to the highest set one."""
    out = np.zeros(a.shape, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        if step >= a.dtype.itemsize * 8:
            continue
        big = a >> a.dtype.type(step) != 0
        out += np.where(big, step, 0)
        a = np.where(big, a >> a.dtype.type(step), a)
    return out + (a != 0)


@builds("clz", "popc")
def counting(batch, instruction):
    """clz, popc."""
    source = batch.source(instruction.operands[1], instruction.op[-1])
    target = batch.target(instruction.operands[0], "u32")
    if instruction.op[0] == "popc":
        return elementwise(target, [source], np.bitwise_count)
    bits = 8 * source.dtype.itemsize
    return elementwise(target, [source], lambda a: bits - length(a))


@builds("brev")
def reverse(batch, instruction):
    """brev: bits in reverse order."""
    target, sources = operands(batch, instruction, instruction.op[-1])

    def compute(a):
        size = a.dtype.itemsize
        each = np.ascontiguousarray(a).view(np.uint8).reshape(-1, size)
        bits = np.unpackbits(each, axis=1, bitorder="little")[:, ::-1]
        packed = np.packbits(bits, axis=1, bitorder="little")
        return np.ascontiguousarray(packed).view(a.dtype).ravel()

    return elementwise(target, sources, compute)


@builds("prmt")
def permute(batch, instruction):
    """prmt.b32: bytes of two registers picked by nibbles (the default mode)."""
    if instruction.op != ("prmt", "b32"):
        raise unknown(instruction)
    target, sources = operands(batch, instruction, "b32")

    def compute(a, b, pick):
        pool = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
        out = np.zeros(a.shape, np.uint32)
        for k in range(4):
            nibble = pick >> np.uint32(4 * k) & np.uint32(15)
            byte = pool >> (8 * (nibble & np.uint32(7))).astype(np.uint64) & np.uint64(255)
            sign = np.where(byte >= 128, 255, 0).astype(np.uint32)
            byte = np.where(nibble & 8, sign, byte.astype(np.uint32)).astype(np.uint32)
            out |= byte << np.uint32(8 * k)
        return out

    return elementwise(target, sources, compute)


@builds("lop3")
def lookup(batch, instruction):
    """lop3.b32: any logical function of three words."""
    if instruction.op != ("lop3", "b32"):
        raise unknown(instruction)
    target, *sources, table = instruction.operands
    table = batch.constant(table)

    def compute(a, b, c):
        out = np.zeros_like(a)
        for k in range(8):
            if table >> k & 1:
                out |= (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
        return out

    sources = [batch.source(s, "b32") for s in sources]
    return elementwise(batch.target(target, "b32"), sources, compute)
