"""Which registers can share storage.

PTX from a compiler gives every value a register of its own, thousands of them. Registers of one
size that are never alive together get one row, so that what runs stays in the cache.
"""

import heapq

from .flow import successors
from .kinds import SIZES
from .operands import Addr, Not, Pair, Reg, Vec

#: Opcodes whose first operand is written whole and not read.
WRITERS = {
    "abs", "add", "addc", "and", "bfe", "bfi", "bfind", "brev", "clz", "copysign", "cos", "cvt",
    "cvta", "div", "ex2", "fma", "ld", "ldmatrix", "lg2", "lop3", "mad", "madc", "max", "min",
    "mma", "mov", "mul", "mul24", "neg", "not", "or", "popc", "prmt", "rcp", "rem", "rsqrt", "sad",
    "selp", "set", "setp", "shf", "shfl", "shl", "shr", "sin", "sqrt", "sub", "tanh", "xor",
}  # fmt: skip


def registers(operand):
    """The names of the registers in an operand."""
    match operand:
        case Reg(name):
            yield name
        case Vec(items):
            for item in items:
                yield from registers(item)
        case Addr(base, _, rest):
            for item in (base, *rest):
                yield from registers(item)
        case Pair(first, second):
            yield from registers(first)
            yield from registers(second)
        case Not(inner):
            yield from registers(inner)


def reads_and_writes(instruction):
    """(names read, names written); what may be either counts as both."""
    first, *rest = instruction.operands or (None,)
    read = {name for operand in rest for name in registers(operand)}
    written = set(registers(first)) if first is not None else set()
    if instruction.guard:
        read.add(instruction.guard[0])
    if instruction.guard or instruction.op[0] not in WRITERS:
        read |= written
    return read, written


def intervals(program):
    """{register: [first place, last place]} in the order of the program's blocks."""
    blocks = program.blocks
    effects = [
        [reads_and_writes(i) for i in (*block.code, *((block.end,) if block.end else ()))]
        for block in blocks
    ]
    needed, made = [], []
    for block in effects:
        need, make = set(), set()
        for read, written in block:
            need |= read - make
            make |= written
        needed.append(need)
        made.append(make)
    enters = [set(need) for need in needed]
    follow = [[s for s in successors(block) if s is not None] for block in blocks]
    changed = True
    while changed:
        changed = False
        for k in range(len(blocks) - 1, -1, -1):
            leaves = set().union(*(enters[s] for s in follow[k]))
            new = needed[k] | (leaves - made[k])
            if len(new) != len(enters[k]):
                enters[k], changed = new, True
    found, place = {}, 0
    for k, block in enumerate(effects):
        start = place
        place += len(block) + 2
        for at, effect in enumerate(block, start + 1):
            for name in effect[0] | effect[1]:
                _stretch(found, name, at)
        for name in enters[k]:
            _stretch(found, name, start)
        for s in follow[k]:
            for name in enters[s]:
                _stretch(found, name, place - 1)
    return found


def _stretch(found, name, place):
    """Make a register's interval contain a place."""
    if name not in found:
        found[name] = [place, place]
    else:
        span = found[name]
        span[0], span[1] = min(span[0], place), max(span[1], place)


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
