"""cp.async.bulk: copies by the tensor memory accelerator, whose arrival an mbarrier reports.

A `TensorMap` stands in for a CUtensorMap; `Machine.tensor_map` makes one and gives the address that
a kernel takes. Data land, and may be read, once a thread has waited for the mbarrier's phase.
"""

from dataclasses import dataclass

import numpy as np

from .errors import Fault, MachineError
from .memory import ALLOCATED, GOOD, PENDING
from .operands import Vec
from .phases import Place
from .steps import by_lanes, unknown


@dataclass(frozen=True, slots=True)
class TensorMap:
    """A tensor in global memory and the box of it that one copy moves.

    Sizes are in elements, innermost first; `strides` are in bytes, of all dimensions but the
    innermost. For im2col copies `box` is (channels, pixels) and `lower` and `upper` are the
    corners of the range of base pixels, along w, h, ....
    """

    address: int
    element: int
    sizes: tuple
    strides: tuple
    box: tuple
    steps: tuple
    swizzle: int = 0
    lower: tuple | None = None
    upper: tuple | None = None

    def check(self):
        """What cuTensorMapEncode refuses."""
        inner = self.box[0] * self.element
        problems = {
            "the address isn't aligned to 16 bytes": self.address % 16,
            "a stride isn't a multiple of 16 bytes": any(s % 16 for s in self.strides),
            "there must be a stride for all dimensions but one": len(self.strides)
            != len(self.sizes) - 1,
            "the box has more than 256 elements along a dimension": self.lower is None
            and max(self.box) > 256,
            "the inner dimension of the box isn't a multiple of 16 bytes": inner % 16,
            "the inner dimension of the box exceeds the swizzle": self.swizzle
            and inner > self.swizzle,
            "swizzle is 0, 32, 64 or 128": self.swizzle not in (0, 32, 64, 128),
        }
        for problem, holds in problems.items():
            if holds:
                raise MachineError(f"tensor map: {problem}")

    def tile(self, start):
        """Coordinates (elements, rank) of a tiled copy, innermost fastest."""
        axes = [
            s + np.arange(-(-b // step)) * step
            for s, b, step in zip(start, self.box, self.steps, strict=True)
        ]
        grid = np.meshgrid(*axes[::-1], indexing="ij")
        return np.stack([g.ravel() for g in grid[::-1]], axis=1)

    def im2col(self, start, taps):
        """Coordinates of an im2col copy: base pixels one after another, shifted by the taps."""
        channels, pixels = self.box
        last = [size - 1 + upper for size, upper in zip(self.sizes[1:-1], self.upper, strict=True)]
        base, rows = list(start[1:]), []
        for _ in range(pixels):
            rows.append([p + t for p, t in zip(base, (*taps, 0), strict=True)])
            for k in range(len(base)):
                base[k] += self.steps[k + 1] if k < len(base) - 1 else 1
                if k == len(base) - 1 or base[k] <= last[k]:
                    break
                base[k] = self.lower[k]
        rows = np.repeat(np.array(rows), channels, axis=0)
        inner = np.tile(start[0] + np.arange(channels), pixels)
        return np.column_stack([inner, rows])

    def read(self, arena, where, initcheck):
        """The bytes of the elements at coordinates, zeros outside the tensor."""
        inside = ((where >= 0) & (where < np.array(self.sizes))).all(axis=1)
        offsets = where[inside] @ np.array([self.element, *self.strides])
        at = (self.address - arena.BASE + offsets)[:, None] + np.arange(self.element)
        out = np.zeros((len(where), self.element), np.uint8)
        if at.size:
            if at.min() < 0 or at.max() >= arena.size:
                raise Fault("a tensor map reaches outside global memory")
            state = arena.state[at]
            if not (state == GOOD).all():
                try:
                    arena.blame(state, self.element, initcheck, "global")
                except Fault as fault:
                    fault.lane = None
                    raise
            out[inside] = arena.data[at]
        return out.reshape(-1)


def swizzled(offsets, swizzle):
    """Shared memory offsets with the bits of a swizzle mode exchanged (0: none)."""
    mask = {0: 0, 32: 1, 64: 3, 128: 7}[swizzle] << 4
    return offsets ^ (offsets >> 3 & mask)


def issue(batch, instruction, lane, mbarrier, offsets, data):
    """Begin a copy of bytes to offsets of shared memory that `mbarrier` reports."""
    shared = batch.shared
    block = int(batch.block_of[lane]) * shared.stride
    if offsets.min() < block or offsets.max() >= block + shared.each:
        raise Fault("a bulk copy reaches outside shared memory", lane)
    shared.state[offsets] = ALLOCATED | PENDING
    starts = np.unique(offsets >> 4 << 4)
    who = np.full(len(starts), lane)
    batch.races.note(instruction, who, starts, 16, True)
    if batch.machine.racecheck:
        batch.readings.written(instruction, who, starts, True)

    def land():
        shared.data[offsets] = data
        shared.state[offsets] = GOOD

    phaser = batch.phases.at(mbarrier, lane)
    if not phaser.fenced:
        raise Fault("an mbarrier that no fence made known to the asynchronous proxy", lane)
    phaser.copies.append(land)
    batch.phases.advance(mbarrier, 0, len(data), lane)


def bulk_copy(batch, instruction):
    """cp.async.bulk.tensor and plain cp.async.bulk, global to shared memory."""
    op = instruction.op
    if op[3] == "tensor":
        return _tensor_copy(batch, instruction)
    if op[3:5] not in (("shared::cluster", "global"), ("shared::cta", "global")):
        raise unknown(instruction)
    to, source, size, barrier = instruction.operands[:4]
    into = Place(batch, instruction, to, 16)
    mbarrier = Place(batch, instruction, barrier)
    come_from, size = batch.source(source.base, "u64"), batch.source(size, "u32")

    def run(lanes):
        for k, lane in enumerate(lanes):
            one = lanes[k : k + 1]
            count = int(size[lane])
            start = int(come_from[lane]) + source.offset
            if count % 16 or start % 16:
                raise Fault("a bulk copy isn't aligned to 16 bytes", int(lane))
            data, state = batch.arena.span(start, count)
            if batch.initcheck and not (state == GOOD).all():
                raise Fault("a bulk copy reads memory never written", int(lane))
            offsets = int(into.offsets(one)[0]) + np.arange(count)
            where = int(mbarrier.offsets(one)[0])
            issue(batch, instruction, int(lane), where, offsets, data.copy())

    return by_lanes(batch, run)


def _tensor_copy(batch, instruction):
    """cp.async.bulk.tensor.Nd.shared::cluster.global, .tile or .im2col."""
    op = instruction.op
    rank = int(op[4][0])
    if op[5:7] not in (("shared::cluster", "global"), ("shared::cta", "global")):
        raise unknown(instruction)
    to, source, barrier, *rest = instruction.operands
    gathered = "im2col" in op
    into, mbarrier = Place(batch, instruction, to, 128), Place(batch, instruction, barrier)
    tensor = batch.source(source.base, "u64")
    start = [batch.source(item, "s32") for item in source.rest[0].items]
    taps = [batch.source(item, "u16") for item in rest[0].items] if gathered else []
    if len(start) != rank or (gathered and len(taps) != rank - 2):
        raise unknown(instruction)
    if rest and not isinstance(rest[0], Vec):
        raise unknown(instruction)

    def run(lanes):
        for k, lane in enumerate(lanes):
            one = lanes[k : k + 1]
            described = batch.machine.tensor_maps.get(int(tensor[lane]))
            if described is None:
                raise Fault(f"no tensor map at {int(tensor[lane]):#x}", int(lane))
            if len(described.sizes) != rank or gathered != (described.lower is not None):
                raise Fault("the tensor map is of another kind", int(lane))
            begin = [int(row[lane]) for row in start]
            if gathered:
                where = described.im2col(begin, [int(row[lane]) for row in taps])
            else:
                where = described.tile(begin)
            try:
                data = described.read(batch.arena, where, batch.initcheck)
            except Fault as fault:
                fault.lane = int(lane)
                raise
            offset = int(into.offsets(one)[0])
            base = int(batch.block_of[lane]) * batch.shared.stride
            address = offset - base + batch.shared.base + np.arange(len(data))
            offsets = swizzled(address, described.swizzle) - batch.shared.base + base
            issue(batch, instruction, int(lane), int(mbarrier.offsets(one)[0]), offsets, data)

    return by_lanes(batch, run)
