"""Instructions in which the threads of a warp take part together."""

import numpy as np

from .errors import Fault
from .operands import Pair
from .steps import builds, by_lanes, condition, unknown


def members(batch, lanes, mask, what):
    """Check that the threads of a .sync instruction are those its mask names, of those alive."""
    warps = batch.warp_of[lanes]
    bits = np.uint32(1) << (lanes & 31).astype(np.uint32)
    here = np.zeros(batch.lanes >> 5, np.uint32)
    np.bitwise_or.at(here, warps, bits)
    alive = np.packbits(batch.alive.reshape(-1, 32), axis=1, bitorder="little")
    alive = np.ascontiguousarray(alive).view(np.uint32).ravel()
    wanted = mask & alive[warps]
    bad = (wanted != here[warps]) & (wanted & bits != 0)
    outside = mask & bits == 0
    if outside.any():
        raise Fault(f"{what}: a thread isn't in its own mask", int(lanes[outside.argmax()]))
    if bad.any():
        k = int(bad.argmax())
        raise Fault(
            f"{what} by threads {here[warps[k]]:#010x} of a warp, the mask names {mask[k]:#010x}",
            int(lanes[k]),
        )


def _mask(batch, operand):
    return batch.source(operand, "b32")


@builds("shfl")
def shuffle(batch, instruction):
    """shfl.sync."""
    if instruction.op[1] != "sync":
        raise unknown(instruction)
    mode = instruction.op[2]
    target, a, b, c, mask = instruction.operands
    predicate = batch.target(target.second, "pred") if isinstance(target, Pair) else None
    out = batch.target(target, "b32")
    a, b, c = (batch.source(s, "b32") for s in (a, b, c))
    mask = _mask(batch, mask)

    def run(lanes):
        members(batch, lanes, mask[lanes], "shfl.sync")
        lane = (lanes & 31).astype(np.int64)
        amount = (b[lanes] & 31).astype(np.int64)
        clamp = (c[lanes] & 31).astype(np.int64)
        segment = (c[lanes] >> np.uint32(8) & np.uint32(31)).astype(np.int64)
        top = (lane & segment) | (clamp & ~segment)
        low = lane & segment
        if mode == "up":
            other = lane - amount
            ok = other >= top
        elif mode == "down":
            other = lane + amount
            ok = other <= top
        elif mode == "bfly":
            other = lane ^ amount
            ok = other <= top
        else:
            other = low | (amount & ~segment)
            ok = other <= top
        source = (lanes & ~31) + np.where(ok, other, lane)
        taking = np.zeros(batch.lanes, bool)
        taking[lanes] = True
        if not taking[source].all():
            k = int((~taking[source]).argmax())
            raise Fault("shfl.sync from a thread that doesn't take part", int(lanes[k]))
        values = a[source]
        if out is not None:
            out[lanes] = values
        if predicate is not None:
            predicate[lanes] = ok

    return by_lanes(batch, run)


def ballots(batch, lanes, row):
    """For each lane the bits of its warp's lanes among `lanes` where `row` (of lanes) holds."""
    bits = np.where(row, np.uint32(1) << (lanes & 31).astype(np.uint32), np.uint32(0))
    out = np.zeros(batch.lanes >> 5, np.uint32)
    np.bitwise_or.at(out, batch.warp_of[lanes], bits)
    return out[batch.warp_of[lanes]]


@builds("vote")
def vote(batch, instruction):
    """vote.sync.all, .any, .uni, .ballot."""
    if instruction.op[1] != "sync":
        raise unknown(instruction)
    mode = instruction.op[2]
    target, source, mask = instruction.operands
    row, negated = condition(batch, source)
    out = batch.target(target, "b32" if mode == "ballot" else "pred")
    mask = _mask(batch, mask)

    def run(lanes):
        members(batch, lanes, mask[lanes], "vote.sync")
        holds = row[lanes] ^ negated
        yes = ballots(batch, lanes, holds)
        no = ballots(batch, lanes, ~holds)
        out[lanes] = {
            "ballot": lambda: yes,
            "any": lambda: yes != 0,
            "all": lambda: no == 0,
            "uni": lambda: (yes == 0) | (no == 0),
        }[mode]()

    return by_lanes(batch, run)


@builds("activemask")
def active(batch, instruction):
    """activemask.b32."""
    out = batch.target(instruction.operands[0], "b32")

    def run(lanes):
        out[lanes] = ballots(batch, lanes, np.ones(len(lanes), bool))

    return by_lanes(batch, run)


_REDUCTIONS = {
    "add": np.add, "min": np.minimum, "max": np.maximum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


@builds("redux")
def reduce(batch, instruction):
    """redux.sync: a reduction over the threads of the mask."""
    _, _, name, kind = instruction.op
    target, source, mask = instruction.operands
    row, out, mask = batch.source(source, kind), batch.target(target, kind), _mask(batch, mask)

    def run(lanes):
        members(batch, lanes, mask[lanes], "redux.sync")
        for warp in np.unique(batch.warp_of[lanes]):
            mine = lanes[batch.warp_of[lanes] == warp]
            out[mine] = _REDUCTIONS[name].reduce(row[mine], dtype=row.dtype)

    return by_lanes(batch, run)


@builds("match")
def match(batch, instruction):
    """match.any.sync: the threads that hold the same value."""
    _, mode, _, kind = instruction.op
    if mode != "any":
        raise unknown(instruction)
    target, source, mask = instruction.operands
    row, out, mask = batch.source(source, kind), batch.target(target, "b32"), _mask(batch, mask)

    def run(lanes):
        members(batch, lanes, mask[lanes], "match.sync")
        pairs = (batch.warp_of[lanes][:, None] == batch.warp_of[lanes]) & (
            row[lanes][:, None] == row[lanes]
        )
        bits = np.uint32(1) << (lanes & 31).astype(np.uint32)
        out[lanes] = np.where(pairs, bits, np.uint32(0)).sum(axis=1, dtype=np.uint32)

    return by_lanes(batch, run)


@builds("bar", "barrier")
def warp_barrier(batch, instruction):
    """bar.warp.sync; the other barriers end blocks of code."""
    mask = _mask(batch, instruction.operands[0])

    def run(lanes):
        members(batch, lanes, mask[lanes], "bar.warp.sync")
        batch.races.warp_barrier(lanes)

    return by_lanes(batch, run)


@builds("elect")
def elect(batch, instruction):
    """elect.sync: one thread of the mask, the lowest."""
    target, mask = instruction.operands
    leader = batch.target(target.first, "b32") if isinstance(target, Pair) else None
    predicate = batch.target(target.second, "pred")
    mask = _mask(batch, mask)

    def run(lanes):
        members(batch, lanes, mask[lanes], "elect.sync")
        everyone = ballots(batch, lanes, np.ones(len(lanes), bool)).astype(np.int64)
        lowest = np.log2(everyone & -everyone).astype(np.int64)
        predicate[lanes] = (lanes & 31) == lowest
        if leader is not None:
            leader[lanes] = lowest

    return by_lanes(batch, run)
