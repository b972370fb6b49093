"""Which registers can share storage.

PTX from a compiler gives every value a register of its own, thousands of them. Registers of one
size that are never alive together get one row, so that what runs stays in the cache.
"""

import heapq

from .flow import successors
from .kinds import SIZES
from .operands import Addr, Not, Pair, Reg, Sym, Vec

#: Opcodes whose first operand is written whole and not read.
WRITERS = {
    "abs", "add", "addc", "and", "bfe", "bfi", "bfind", "brev", "clz", "copysign", "cos", "cvt",
    "cvta", "div", "ex2", "fma", "ld", "ldmatrix", "lg2", "lop3", "mad", "madc", "max", "min",
    "mma", "mov", "mul", "mul24", "neg", "not", "or", "popc", "prmt", "rcp", "rem", "rsqrt", "sad",
    "selp", "set", "setp", "shf", "shfl", "shl", "shr", "sin", "sqrt", "sub", "tanh", "xor",
}  # fmt: skip


def names(operand, kind=Reg):
    """The names of the registers (or of the `Sym` of another kind) in an operand."""
    if isinstance(operand, kind):
        yield operand.name
    match operand:
        case Vec(items):
            for item in items:
                yield from names(item, kind)
        case Addr(base, _, rest):
            for item in (base, *rest):
                yield from names(item, kind)
        case Pair(first, second):
            yield from names(first, kind)
            yield from names(second, kind)
        case Not(inner):
            yield from names(inner, kind)


def symbols(program):
    """The names of variables (and labels) that a program mentions."""
    for block in program.blocks:
        for instruction in block.code:
            for operand in instruction.operands:
                yield from names(operand, Sym)


def reads_and_writes(instruction):
    """(names read, names written); what may be either counts as both."""
    first, *rest = instruction.operands or (None,)
    read = {name for operand in rest for name in names(operand)}
    written = set(names(first)) if first is not None else set()
    if instruction.guard:
        read.add(instruction.guard[0])
    if instruction.guard or instruction.op[0] not in WRITERS:
        read |= written
    return read, written


def alive_at(blocks, effects, number):
    """Sets of registers, as bits by their number: alive where each block begins, and ends."""

    def bits(names):
        out = 0
        for name in names:
            out |= 1 << number[name]
        return out

    needed, made = [], []
    for effect in effects:
        need = make = 0
        for read, written in effect:
            need |= bits(read) & ~make
            make |= bits(written)
        needed.append(need)
        made.append(make)
    enters, leaves = list(needed), [0] * len(blocks)
    follow = [[s for s in successors(block) if s is not None] for block in blocks]
    changed = True
    while changed:
        changed = False
        for k in range(len(blocks) - 1, -1, -1):
            for s in follow[k]:
                leaves[k] |= enters[s]
            new = needed[k] | (leaves[k] & ~made[k])
            if new != enters[k]:
                enters[k], changed = new, True
    return enters, leaves


def _ones(bits):
    """The numbers of the bits that are set."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def intervals(program):
    """{register: [first place, last place]} in the order of the program's blocks."""
    blocks = program.blocks
    effects = [
        [reads_and_writes(i) for i in (*block.code, *((block.end,) if block.end else ()))]
        for block in blocks
    ]
    every = list({n: 0 for block in effects for pair in block for part in pair for n in part})
    number = {name: k for k, name in enumerate(every)}
    enters, leaves = alive_at(blocks, effects, number)
    first, last, starts = {}, {}, []
    place = 0
    for effect in effects:
        starts.append(place)
        for at, (read, written) in enumerate(effect, place + 1):
            for name in (*read, *written):
                first.setdefault(name, at)
                last[name] = at
        place += len(effect) + 2
    begun = ended = 0
    for k, start in enumerate(starts):
        for bit in _ones(enters[k] & ~begun):
            first[every[bit]] = min(first[every[bit]], start)
        begun |= enters[k]
    for k in range(len(blocks) - 1, -1, -1):
        for bit in _ones(leaves[k] & ~ended):
            last[every[bit]] = max(last[every[bit]], starts[k] + len(effects[k]) + 1)
        ended |= leaves[k]
    return {name: (first[name], last[name]) for name in every}


def share(program):
    """{register: (size or "pred", number of its row)}, by linear scan over the intervals."""
    rows, free, busy, count = {}, {}, [], {}
    for name, (start, stop) in sorted(intervals(program).items(), key=lambda item: item[1]):
        while busy and busy[0][0] < start:
            _, size, row = heapq.heappop(busy)
            heapq.heappush(free.setdefault(size, []), row)
        kind = program.registers[name]
        size = 0 if kind == "pred" else SIZES[kind]
        if free.get(size):
            row = heapq.heappop(free[size])
        else:
            row = count.get(size, 0)
            count[size] = row + 1
        rows[name] = (size, row)
        heapq.heappush(busy, (stop, size, row))
    return rows
