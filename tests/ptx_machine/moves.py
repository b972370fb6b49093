"""mov, cvta and the loads, stores and atomics of all state spaces."""

from functools import partial

import numpy as np

from .errors import Fault
from .kinds import DTYPES, GENERIC_LOCAL, GENERIC_SHARED, SIZES, SPACES
from .memory import Arena
from .operands import Addr, Reg, Sym, Vec
from .steps import Step, builds, by_lanes, elementwise, nothing, unknown

_VECTORS = {"v2": 2, "v4": 4, "v8": 8}


@builds("mov")
def move(batch, instruction):
    """mov, with packing and unpacking of vectors."""
    kind = instruction.op[-1]
    target, source = instruction.operands
    if isinstance(source, Vec):
        return _pack(batch, target, source.items, kind)
    if isinstance(target, Vec):
        return _unpack(batch, target.items, source, kind)
    row = batch.source(source, kind)
    out = batch.target(target, kind)
    return Step(partial(np.copyto, out, row), lambda lanes: out.__setitem__(lanes, row[lanes]))


def _pack(batch, target, items, kind):
    part = f"b{8 * SIZES[kind] // len(items)}"
    rows = [batch.source(item, part) for item in items]
    whole = batch.target(target, f"b{8 * SIZES[kind]}")
    parts = whole.view(DTYPES[part]).reshape(batch.lanes, -1)

    def run(lanes):
        values = [row[lanes] for row in rows]
        for k, value in enumerate(values):
            parts[lanes, k] = value

    return Step(lambda: run(slice(None)), run)


def _unpack(batch, items, source, kind):
    part = f"b{8 * SIZES[kind] // len(items)}"
    row = batch.source(source, f"b{8 * SIZES[kind]}")
    targets = [batch.target(item, part) for item in items]

    def run(lanes):
        parts = np.ascontiguousarray(row[lanes]).view(DTYPES[part]).reshape(-1, len(items))
        for k, target in enumerate(targets):
            if target is not None:
                target[lanes] = parts[:, k]

    return Step(lambda: run(slice(None)), run)


_GENERIC = {"shared": GENERIC_SHARED, "local": GENERIC_LOCAL}


@builds("cvta")
def convert_address(batch, instruction):
    """Cvta and cvta.to: between a space's addresses and generic ones."""
    op, kind = instruction.op, instruction.op[-1]
    space = op[-2].split("::")[0]
    target, source = instruction.operands
    if isinstance(source, Addr):
        row = batch.source(source.base, kind) + DTYPES[kind].type(source.offset)
    else:
        row = batch.source(source, kind)
    base = np.uint64(_GENERIC.get(space, 0))
    ufunc = np.subtract if op[1] == "to" else np.add
    return elementwise(batch.target(target, kind), [row, batch.spread(base)], ufunc, ufunc)


class Access:
    """The address and type of a load or store."""

    def __init__(self, batch, instruction, address, space=None, size=None):
        op = instruction.op
        spaces = [part.split("::")[0] for part in op[1:]]
        self.batch = batch
        self.instruction = instruction
        self.space = space or next((s for s in spaces if s in SPACES), "generic")
        self.kind = f"b{8 * size}" if size else op[-1]
        self.count = next((_VECTORS[p] for p in op if p in _VECTORS), 1)
        self.size = size or SIZES[self.kind]
        self.total = self.size * self.count
        self.name, self.row, self.offset = None, None, address.offset
        if isinstance(address.base, Reg):
            row = batch.registers[address.base.name]
            self.row = row
            self.shift = row.dtype.type(address.offset & ((1 << 8 * row.dtype.itemsize) - 1))
        elif isinstance(address.base, Sym):
            self.name = address.base.name
            if self.space != "param":
                where = batch.address(Sym(self.name, address.offset))
                self.row, self.shift = batch.spread(np.uint64(where)), np.uint64(0)
        else:
            self.row, self.shift = batch.spread(np.uint64(address.base.value)), np.uint64(0)

    def addresses(self, lanes):
        """The addresses of some lanes (None: of all)."""
        row = self.row if lanes is None else self.row[lanes]
        return row + self.shift if self.shift else row


def _resolve(batch, access, lanes, addresses):
    """(store, offsets, name) triples with the positions among `lanes` they hold for."""
    space = access.space
    total = access.total
    if space in ("global", "const"):
        return [(None, batch.arena, batch.arena.offsets(addresses, total), "global")]
    if space == "shared":
        return [(None, batch.shared, batch.shared.offsets(addresses, lanes, total), "shared")]
    if space == "local":
        return [(None, batch.local, batch.local.offsets(addresses, lanes, total), "local")]
    found = []
    shared = (addresses >= np.uint64(GENERIC_SHARED)) & (addresses < np.uint64(GENERIC_LOCAL))
    local = (addresses >= np.uint64(GENERIC_LOCAL)) & (addresses < np.uint64(Arena.BASE))
    groups = (
        (~(shared | local), batch.arena, 0),
        (shared, batch.shared, GENERIC_SHARED),
        (local, batch.local, GENERIC_LOCAL),
    )
    for which, store, base in groups:
        at = np.flatnonzero(which)
        if not len(at):
            continue
        some = addresses[at] - np.uint64(base)
        try:
            pieces = (lanes[at],) if base else ()
            offsets = store.offsets(some, *pieces, total)
        except Fault as fault:
            fault.lane = int(at[fault.lane])
            raise
        found.append((at, store, offsets, getattr(store, "name", "global")))
    return found


def load_words(batch, access, lanes, addresses):
    """The words at the addresses of `lanes`: unsigned, (lanes,) or (lanes, count)."""
    try:
        parts = _resolve(batch, access, lanes, addresses)
        if len(parts) == 1:
            _, store, offsets, name = parts[0]
            batch.observe(access.instruction, name, lanes, offsets, access.total, False)
            return store.load(offsets, access.size, access.count, batch.initcheck, name)
        shape = (len(lanes), access.count) if access.count > 1 else len(lanes)
        words = np.zeros(shape, f"u{access.size}")
        for at, store, offsets, name in parts:
            batch.observe(access.instruction, name, lanes[at], offsets, access.total, False)
            words[at] = store.load(offsets, access.size, access.count, batch.initcheck, name)
        return words
    except Fault as fault:
        fault.lane = int(lanes[fault.lane])
        raise


def store_words(batch, access, lanes, addresses, words):
    """Put words at the addresses of `lanes`."""
    try:
        for at, store, offsets, name in _resolve(batch, access, lanes, addresses):
            who = lanes if at is None else lanes[at]
            batch.observe(access.instruction, name, who, offsets, access.total, True)
            values = words if at is None else words[at]
            store.store(offsets, access.size, access.count, values, name)
    except Fault as fault:
        fault.lane = int(lanes[fault.lane])
        raise


def _items(operand):
    return operand.items if isinstance(operand, Vec) else (operand,)


@builds("ld", "ldu")
def load(batch, instruction):
    """ld, ld.global.nc and the like."""
    target, address = instruction.operands
    access = Access(batch, instruction, address)
    targets = [batch.target(item, access.kind) for item in _items(target)]
    if access.space == "param":
        return _load_param(batch, access, targets)
    dtype = DTYPES[access.kind]

    def run(lanes, addresses):
        words = load_words(batch, access, lanes, addresses).view(dtype)
        if access.count == 1:
            return (words,)
        return words.T

    def full():
        for target, words in zip(targets, run(batch.every, access.addresses(None)), strict=True):
            if target is not None:
                target[...] = words

    def masked(lanes):
        for target, words in zip(targets, run(lanes, access.addresses(lanes)), strict=True):
            if target is not None:
                target[lanes] = words

    return Step(full, masked, False)


def _param_view(batch, access, k):
    """A row that views element k of a parameter access."""
    start = access.offset + k * access.size
    if access.name in batch.param_rows:
        part = batch.param_rows[access.name][:, start : start + access.size]
        return part.view(DTYPES[access.kind])[:, 0]
    offset, size = batch.layout[access.name]
    if start + access.size > size:
        raise Fault(f"parameter {access.name} has {size} bytes")
    start += offset
    value = batch.params[start : start + access.size].view(DTYPES[access.kind])
    return np.broadcast_to(value, (batch.lanes,))


def _load_param(batch, access, targets):
    pairs = [(t, _param_view(batch, access, k)) for k, t in enumerate(targets) if t is not None]

    def full():
        for target, row in pairs:
            target[...] = row

    def masked(lanes):
        for target, row in pairs:
            target[lanes] = row[lanes]

    return Step(full, masked)


@builds("st")
def store(batch, instruction):
    """St to any space."""
    address, source = instruction.operands
    access = Access(batch, instruction, address)
    rows = [batch.source(item, access.kind) for item in _items(source)]
    unsigned = np.dtype(f"u{access.size}")
    if access.space == "param":
        steps = [
            elementwise(_param_view(batch, access, k), [row], lambda a: a)
            for k, row in enumerate(rows)
        ]

        def run(lanes):
            for step in steps:
                step.masked(lanes)

        return Step(lambda: run(batch.every), run)

    def values(lanes):
        if len(rows) == 1:
            row = rows[0] if lanes is None else rows[0][lanes]
            return row.view(unsigned)
        out = np.empty((batch.lanes if lanes is None else len(lanes), len(rows)), unsigned)
        for k, row in enumerate(rows):
            out[:, k] = (row if lanes is None else row[lanes]).view(unsigned)
        return out

    def full():
        store_words(batch, access, batch.every, access.addresses(None), values(None))

    def masked(lanes):
        store_words(batch, access, lanes, access.addresses(lanes), values(lanes))

    return Step(full, masked, False)


def _bitwise(function):
    return lambda old, b, c: function(old, b)


_ATOMIC = {
    "add": _bitwise(lambda old, b: old + b),
    "and": _bitwise(lambda old, b: old & b),
    "or": _bitwise(lambda old, b: old | b),
    "xor": _bitwise(lambda old, b: old ^ b),
    "min": _bitwise(np.minimum),
    "max": _bitwise(np.maximum),
    "exch": _bitwise(lambda old, b: b),
    "cas": lambda old, b, c: np.where(old == b, c, old),
    "inc": _bitwise(lambda old, b: np.where(old >= b, 0, old + 1)),
    "dec": _bitwise(lambda old, b: np.where((old == 0) | (old > b), b, old - 1)),
}


@builds("atom", "red")
def atomic(batch, instruction):
    """Atom and red, lane after lane. Races of atomics with plain accesses aren't looked for."""
    operands = list(instruction.operands)
    target = operands.pop(0) if instruction.op[0] == "atom" else Sym("_")
    access = Access(batch, instruction, operands.pop(0))
    update = next((_ATOMIC[part] for part in instruction.op[1:] if part in _ATOMIC), None)
    if update is None or access.count > 1:
        raise unknown(instruction)
    target = batch.target(target, access.kind)
    rows = [batch.source(operand, access.kind) for operand in operands]
    rows += [rows[0]] * (2 - len(rows))
    dtype = DTYPES[access.kind]
    unsigned = f"u{access.size}"

    def run(lanes):
        addresses = access.addresses(lanes)
        for k, lane in enumerate(lanes):
            who, where = lanes[k : k + 1], addresses[k : k + 1]
            with batch.observer.pause():
                old = load_words(batch, access, who, where).view(dtype)
                new = np.asarray(update(old, rows[0][who], rows[1][who])).astype(dtype)
                store_words(batch, access, who, where, new.view(unsigned))
            if target is not None:
                target[lane] = old[0]

    return by_lanes(batch, run)


@builds("prefetch", "prefetchu", "discard", "applypriority")
def hint(batch, instruction):
    """Hints to the caches do nothing here."""
    return Step(nothing, nothing)


@builds("isspacep")
def is_in_space(batch, instruction):
    """isspacep: whether a generic address is of a space."""
    space = instruction.op[1].split("::")[0]
    source = batch.source(instruction.operands[1], "u64")
    low = {"shared": GENERIC_SHARED, "local": GENERIC_LOCAL, "global": Arena.BASE}.get(space, 0)
    high = {"shared": GENERIC_LOCAL, "local": Arena.BASE}.get(space, 1 << 63)
    if not low:
        raise unknown(instruction)

    def compute(a):
        return (a >= np.uint64(low)) & (a < np.uint64(high))

    return elementwise(batch.target(instruction.operands[0], "pred"), [source], compute)
