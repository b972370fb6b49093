"""wgmma: products of 64 rows by a warpgroup (four warps), operands in shared memory.

Operands are found through matrix descriptors as the PTX manual lays them out, in units of 16 bytes
("core rows"), e elements each. K-major, of element (row, k), with rows of `swizzle` bytes:

    none      (row % 8) + (row / 8) SBO + (k / e) LBO
    swizzled  (row % 8) w + (row / 8) SBO + (k / e), w = swizzle / 16

MN-major, of element (mn, k):

    none      (mn / e) SBO + (k % 8) + (k / 8) LBO
    swizzled  (mn / e) % w + (mn / e / w) LBO + (k % 8) w + (k / 8) SBO

Then, in a swizzled layout, address bits 4 and up are exchanged with those from bit 7 on.

Results are in the registers at once, as ptxas makes it look to a program that reads them early
(with waits of its own and a warning). Operands in shared memory, however, count as being read until
the group was waited for: writing there earlier is a race.
"""

import re
from functools import lru_cache

import numpy as np

from .bulk import swizzled
from .errors import Fault
from .floats import bf16_values
from .operands import Imm, Vec
from .steps import builds, by_lanes, unknown
from .tensor import fragment_a, tf32_values

_SWIZZLES = (0, 128, 64, 32)


@lru_cache(256)
def layout(rows, depth, element, mn_major, swizzle, lbo, sbo):
    """Byte offsets (rows, depth) of an operand's elements from its descriptor's address."""
    per = 16 // element
    width = swizzle // 16
    row = np.arange(rows)[:, None]
    k = np.arange(depth)
    if not mn_major:
        unit, inner = k // per, k % per
        if swizzle:
            return (row % 8 * width + unit) * 16 + row // 8 * sbo + inner * element
        return row % 8 * 16 + row // 8 * sbo + unit * lbo + inner * element
    unit, inner = row // per, row % per
    if swizzle:
        across = unit % width * 16 + unit // width * lbo
        return across + k % 8 * swizzle + k // 8 * sbo + inner * element
    return unit * sbo + k % 8 * 16 + k // 8 * lbo + inner * element


def places(batch, descriptor, block, rows, depth, element, mn_major):
    """Offsets in shared memory of an operand's elements."""
    address = (descriptor & 0x3FFF) << 4
    lbo = (descriptor >> 16 & 0x3FFF) << 4
    sbo = (descriptor >> 32 & 0x3FFF) << 4
    if descriptor >> 49 & 7:
        raise Fault("a matrix descriptor with a base offset isn't modelled")
    swizzle = _SWIZZLES[descriptor >> 62]
    if mn_major and element != 2:
        raise Fault("only 16-bit operands may be MN-major")
    where = swizzled(address + layout(rows, depth, element, mn_major, swizzle, lbo, sbo), swizzle)
    inside = where - batch.shared.base
    if inside.min() < 0 or inside.max() + element > batch.shared.each:
        raise Fault("a matrix descriptor reaches outside shared memory")
    return inside + block * batch.shared.stride


def values(words, kind):
    """Bits as numbers in double precision."""
    if kind == "tf32":
        return tf32_values(words).astype(np.float64)
    return (bf16_values(words) if kind == "bf16" else words.view(np.float16)).astype(np.float64)


class _Product:
    """One wgmma.mma_async instruction."""

    def __init__(self, batch, instruction):
        op = instruction.op
        shape = re.fullmatch(r"m64n(\d+)k(\d+)", op[4] if len(op) > 4 else "")
        if op[1:4] != ("mma_async", "sync", "aligned") or not shape or len(op) != 8:
            raise unknown(instruction)
        self.batch, self.instruction = batch, instruction
        self.n, self.k = int(shape[1]), int(shape[2])
        self.kind = op[6]
        depth = {"f16": 16, "bf16": 16, "tf32": 8}.get(self.kind)
        if op[5] != "f32" or op[6] != op[7] or depth != self.k or self.n % 8 or self.n > 256:
            raise unknown(instruction)
        d, a, b, scale, sign_a, sign_b, *majors = instruction.operands
        self.element = 32 // self.k
        self.signs = batch.constant(sign_a) * batch.constant(sign_b)
        self.majors = [bool(batch.constant(m)) for m in majors]
        self.d = [batch.target(item, "f32") for item in d.items]
        self.registers = None
        if isinstance(a, Vec):
            self.registers = [batch.source(item, "b32") for item in a.items]
            self.majors = [False, *self.majors]
        else:
            self.a = batch.source(a, "u64")
        self.majors += [False] * (2 - len(self.majors))
        self.b = batch.source(b, "u64")
        self.scale = None if isinstance(scale, Imm) else batch.source(scale, "pred")
        self.keep = bool(scale.value) if isinstance(scale, Imm) else True
        if len(self.d) != self.n // 2:
            raise unknown(instruction)

    def operand(self, row, lanes, rows, mn_major):
        """A matrix (rows, k) that a descriptor in `row` names."""
        batch, lane = self.batch, int(lanes[0])
        found = row[lanes]
        if (found != found[0]).any():
            raise Fault("the threads of a warpgroup hold different descriptors", lane)
        try:
            offsets = places(
                batch,
                int(found[0]),
                int(batch.block_of[lane]),
                rows,
                self.k,
                self.element,
                mn_major,
            )
            words = batch.shared.load(
                offsets.ravel(), self.element, 1, batch.initcheck, "shared"
            ).reshape(offsets.shape)
        except Fault as fault:
            fault.lane = lane
            raise
        batch.readings.issue(self.instruction, lane, np.unique(offsets >> 4 << 4))
        return values(words, self.kind)

    def run(self, lanes):
        batch = self.batch
        warpgroups(batch, lanes)
        for group in lanes.reshape(-1, 128):
            if self.registers:
                a = fragment_a(self.registers, self.kind, group).reshape(64, self.k)
            else:
                a = self.operand(self.a, group, 64, self.majors[0])
            b = self.operand(self.b, group, self.n, self.majors[1])
            out = self.signs * (a @ b.T)
            out = out.reshape(4, 2, 8, self.n // 8, 4, 2).transpose(3, 1, 5, 0, 2, 4)
            out = out.reshape(self.n // 2, 128)
            keep = self.keep if self.scale is None else bool(self.scale[group[0]])
            for row, part in zip(self.d, out, strict=True):
                row[group] = row[group] + part if keep else part


def warpgroups(batch, lanes):
    """Check that lanes are whole warpgroups."""
    group = lanes // 128 if batch.padded % 128 == 0 else None
    if group is None or len(lanes) % 128 or not (group[::128] == group[127::128]).all():
        raise Fault("wgmma by a part of a warpgroup", int(lanes[0]))


@builds("wgmma")
def wgmma(batch, instruction):
    """wgmma.mma_async and its fence and groups."""
    name = instruction.op[1]
    readings = batch.readings
    if name == "mma_async":
        return by_lanes(batch, _Product(batch, instruction).run)
    if name == "wait_group":
        allowed = batch.constant(instruction.operands[0])

    def run(lanes):
        warpgroups(batch, lanes)
        if name == "commit_group":
            readings.commit(lanes)
        elif name == "wait_group":
            readings.wait(lanes, allowed)

    if name not in ("fence", "commit_group", "wait_group"):
        raise unknown(instruction)
    return by_lanes(batch, run)
