"""ldmatrix, stmatrix, movmatrix and mma.sync: matrices spread over the registers of a warp.

Products are exact and summed in double precision, the accumulator added and the result rounded once
to its own type; tensor cores sum in another order and truncate, so the last bits may differ.
"""

import numpy as np

from .floats import bf16_values
from .moves import Access, load_words, store_words
from .operands import Vec
from .steps import builds, by_lanes, unknown


def items(operand):
    """The registers of a vector operand, or the operand itself."""
    return operand.items if isinstance(operand, Vec) else (operand,)


def halves(words, kind):
    """Words (..., n) of two 16-bit numbers each as numbers (..., 2 n)."""
    parts = np.ascontiguousarray(words).view(np.uint16)
    return bf16_values(parts) if kind == "bf16" else parts.view(np.float16)


def tf32_values(words):
    """Registers as tf32: the lower 13 bits aren't looked at."""
    return (words & np.uint32(0xFFFFE000)).view(np.float32)


class _Rows:
    """The 16-byte rows whose addresses the first lanes of each warp hold."""

    def __init__(self, batch, instruction, address, count):
        self.batch = batch
        self.access = Access(batch, instruction, address)
        self.access.kind, self.access.size, self.access.count = "b32", 4, 4
        self.access.total = 16
        self.access.space = "shared" if "shared" in str(instruction.op) else "generic"
        self.count = count

    def lanes(self, lanes):
        """The lanes that give addresses."""
        return lanes.reshape(-1, 32)[:, : 8 * self.count].ravel()


def _matrices(instruction):
    """How many matrices, and whether they are transposed."""
    op = instruction.op
    count = {"x1": 1, "x2": 2, "x4": 4}.get(next(p for p in op if p in ("x1", "x2", "x4")))
    if "m8n8" not in op or op[-1] != "b16":
        raise unknown(instruction)
    return count, "trans" in op


def _transposed(words):
    """(..., 8, 4) words of 8x8 matrices of 16-bit elements, transposed."""
    parts = np.ascontiguousarray(words).view(np.uint16).swapaxes(-1, -2)
    return np.ascontiguousarray(parts).view(np.uint32)


@builds("ldmatrix")
def load_matrix(batch, instruction):
    """ldmatrix: lane l gets word l % 4 of row l / 4 of each matrix."""
    count, trans = _matrices(instruction)
    target, address = instruction.operands
    rows = _Rows(batch, instruction, address, count)
    targets = [batch.target(item, "b32") for item in items(target)]

    def run(lanes):
        batch.whole_warps(lanes, "ldmatrix")
        givers = rows.lanes(lanes)
        words = load_words(batch, rows.access, givers, rows.access.addresses(givers))
        words = words.reshape(-1, count, 8, 4)
        if trans:
            words = _transposed(words)
        for k, target in enumerate(targets):
            target[lanes] = words[:, k].ravel()

    return by_lanes(batch, run)


@builds("stmatrix")
def store_matrix(batch, instruction):
    """stmatrix: the way back."""
    count, trans = _matrices(instruction)
    address, source = instruction.operands
    rows = _Rows(batch, instruction, address, count)
    sources = [batch.source(item, "b32") for item in items(source)]

    def run(lanes):
        batch.whole_warps(lanes, "stmatrix")
        givers = rows.lanes(lanes)
        words = np.stack([row[lanes].reshape(-1, 8, 4) for row in sources], axis=1)
        if trans:
            words = _transposed(words)
        addresses = rows.access.addresses(givers)
        store_words(batch, rows.access, givers, addresses, words.reshape(-1, 4))

    return by_lanes(batch, run)


@builds("movmatrix")
def move_matrix(batch, instruction):
    """movmatrix.trans: an 8x8 matrix in registers, transposed."""
    target, source = instruction.operands
    target, source = batch.target(target, "b32"), batch.source(source, "b32")

    def run(lanes):
        batch.whole_warps(lanes, "movmatrix")
        target[lanes] = _transposed(source[lanes].reshape(-1, 8, 4)).ravel()

    return by_lanes(batch, run)


def fragment_a(registers, kind, lanes):
    """(warps, 16, k) of the registers of a 16-row operand: quarters down, then along k."""
    parts = []
    for row in registers:
        words = row[lanes].reshape(-1, 8, 4)
        parts.append(tf32_values(words) if kind == "tf32" else halves(words, kind))
    columns = [np.concatenate(parts[k : k + 2], axis=1) for k in range(0, len(parts), 2)]
    return np.concatenate(columns, axis=2).astype(np.float64)


def fragment_b(registers, kind, lanes):
    """(warps, k, 8) of the registers of an operand of eight columns."""
    parts = []
    for row in registers:
        words = row[lanes].reshape(-1, 8, 4)
        parts.append(tf32_values(words) if kind == "tf32" else halves(words, kind))
    return np.concatenate(parts, axis=2).swapaxes(1, 2).astype(np.float64)


def product(a, b, c):
    """A @ b + c in double precision, each element rounded once to c's type by the caller."""
    return np.matmul(a, b) + c


_SHAPES = {
    ("m16n8k8", "tf32"): (4, 2), ("m16n8k4", "tf32"): (2, 1),
    ("m16n8k16", "f16"): (4, 2), ("m16n8k8", "f16"): (2, 1),
    ("m16n8k16", "bf16"): (4, 2), ("m16n8k8", "bf16"): (2, 1),
}  # fmt: skip


@builds("mma")
def multiply_accumulate(batch, instruction):
    """mma.sync.aligned of f16, bf16, tf32 (16x8) and f64 (8x8x4)."""
    op = instruction.op
    if op[1:3] != ("sync", "aligned") or op[4:6] != ("row", "col") or len(op) != 10:
        raise unknown(instruction)
    shape, to, kind, other, start = op[3], *op[6:]
    if (shape, to, kind, other, start) == ("m8n8k4", "f64", "f64", "f64", "f64"):
        return _double(batch, instruction)
    counts = _SHAPES.get((shape, kind))
    if counts is None or other != kind or to != "f32" or start != "f32":
        raise unknown(instruction)
    d, a, b, c = instruction.operands
    a = [batch.source(item, "b32") for item in items(a)]
    b = [batch.source(item, "b32") for item in items(b)]
    c = [batch.source(item, "f32") for item in items(c)]
    d = [batch.target(item, "f32") for item in items(d)]
    if (len(a), len(b), len(c), len(d)) != (*counts, 4, 4):
        raise unknown(instruction)

    def run(lanes):
        batch.whole_warps(lanes, "mma.sync")
        start = np.stack([row[lanes].reshape(-1, 8, 4) for row in c], axis=-1)
        start = start.reshape(-1, 8, 4, 2, 2).transpose(0, 3, 1, 2, 4).reshape(-1, 16, 8)
        out = product(fragment_a(a, kind, lanes), fragment_b(b, kind, lanes), start)
        out = out.astype(np.float32).reshape(-1, 2, 8, 4, 2)
        for k, row in enumerate(d):
            row[lanes] = out[:, k >> 1, :, :, k & 1].ravel()

    return by_lanes(batch, run)


def _double(batch, instruction):
    """m8n8k4 in double precision."""
    d, a, b, c = instruction.operands
    a, b = (batch.source(items(x)[0], "f64") for x in (a, b))
    c = [batch.source(item, "f64") for item in items(c)]
    d = [batch.target(item, "f64") for item in items(d)]

    def run(lanes):
        batch.whole_warps(lanes, "mma.sync")
        start = np.stack([row[lanes] for row in c], axis=-1).reshape(-1, 8, 8)
        left = a[lanes].reshape(-1, 8, 4)
        right = b[lanes].reshape(-1, 8, 4).swapaxes(1, 2)
        out = product(left, right, start).reshape(-1, 32, 2)
        for k, row in enumerate(d):
            row[lanes] = out[:, :, k].ravel()

    return by_lanes(batch, run)
