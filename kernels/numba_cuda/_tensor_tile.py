"""A tile of implicit GEMM on tensor cores: what a block of ``tensor`` does.

x        channels innermost, chunks of 16 bytes of them aligned      IN
weight   packed: [g][chunk of the reduction][k][channels of a chunk]  IN
out      any strides, or partial sums in float32                      OUT
The reduction is a row of chunks of 16 bytes (8 channels of 16 bits, 4 of tf32), channels within
taps, and a step of a block is a few chunks, wherever taps end: nothing is wasted on few channels.
Each thread copies one chunk of a step for some of the tile's pixels and keeps where those lie for
the tap at hand. A row of a tile in shared memory has its chunks exchanged (chunk ^ row), so that
neither the copies nor ldmatrix meet a bank twice. One barrier per step.
Accumulates in float32. Why warps of 64x64: they read a quarter less shared memory per product than
64x32, which on the newest cards would be the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import complex128, cuda, float32, int32, uint32

from . import ops
from .activations import activation_of
from .elements import reader, writer

#: A position that is outside of every input, however it is moved by a window; and no offset.
NOWHERE = -(1 << 30)
NONE = -(1 << 31)

#: Bytes that are copied, and that lie together, as one.
CHUNK = 16


class Tile(NamedTuple):
    """A block's tile: warps along pixels and out-channels, 16x8 tiles of a warp along both (an even
    number of columns), chunks of a step, steps in flight, blocks of a multiprocessor. ``wide``:
    multiplied by warpgroups (``ops.wide_step``): rows is 1, chunks 8."""

    warps_m: int
    warps_n: int
    rows: int
    columns: int
    chunks: int
    stages: int
    blocks: int
    wide: bool = False

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_m * self.warps_n

    @property
    def pixels(self) -> int:
        """Pixels of a block."""
        return 16 * self.warps_m * self.rows

    @property
    def channels(self) -> int:
        """Out-channels of a block."""
        return 8 * self.warps_n * self.columns

    def pitch(self, turned: bool) -> int:
        """Elements of a row of the finished sums: such that ``ops.keep`` meets no bank twice."""
        return self.pixels + 4 if turned else self.channels + 8

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory: stages, then the finished sums in their place."""
        stages = self.stages * self.chunks * (self.pixels + self.channels) * CHUNK
        sums = max(self.pixels * self.pitch(False), self.channels * self.pitch(True)) * 4
        return max(stages, sums) + (1024 if self.wide else 0)


#: Of ``conv_tile``: x, packed weight, bias, out; the problem; x's strides (n, d, h, w, g) and out's
#: (n, k, o, p, q, g, split); chunks of a tap, of the reduction, and of a step in the mixed radix
#: (chunk, s, r, t); steps of a split, tiles of out-channels and of pixels.
SIGNATURE = ("problem", "int32[5]", "int32[7]", "int32[6]", "int32[3]")


def build_tile(
    dtype: str, tile: Tile, result: str, order: str, bias: bool, activation: Any
) -> Callable[..., None]:
    """``dtype`` as in ``ops.multiply``. ``order``: "channels" (out's are contiguous, chunks of them
    aligned) or "pixels" (any strides). ``result``: the dtype of out."""
    warps_n, rows, columns, chunks, stages = tile[1:6]
    threads, pixels, channels = tile.threads, tile.pixels, tile.channels
    turned = order == "pixels"
    pitch = tile.pitch(turned)
    elements = 4 if dtype == "float32" else 8
    # Chunks of a thread in a step: of x ``x_rows`` pixels ``x_step`` apart; and of the weights.
    x_step = threads // chunks
    x_rows = pixels // x_step
    w_step = threads // channels
    w_chunks = chunks // w_step
    stage = (pixels + channels) * chunks
    # Rows of less than 128 bytes share a line of the banks.
    line = 8 // chunks
    zeros = ops.zeros(4 * rows * columns)
    # A step that is copied takes the place of the last one that everyone is done with: with those
    # of warpgroups, which still run when the next begins, the one before.
    wide = tile.wide
    ahead = stages - 2 if wide else stages - 1
    wait = ops.wait(ahead - 1)
    step: Any = None if wide else ops.step(dtype, rows, columns, chunks)
    wide_step: Any = ops.wide_step(dtype, columns) if wide else None
    publish, until_swizzle = ops.publish, ops.until_swizzle
    wide_wait, finish_steps = ops.wide_wait(1), ops.wide_wait(0)
    keep = ops.keep(rows, columns, pitch, turned)
    copy_async, commit = ops.copy_async, ops.commit
    load_shared_integers, store_shared_integers = (
        ops.load_shared_integers, ops.store_shared_integers,
    )  # fmt: skip
    load_shared, store_floats, store_words, pair = (
        ops.load_shared, ops.store_floats, ops.store_words, ops.pair,
    )  # fmt: skip
    narrow = ops.narrow_float16 if result == "float16" else ops.narrow_bfloat16
    read, write, activate = reader(dtype), writer(result), activation_of(activation)
    whole = result == "float32"
    out_chunk = 4 if whole else 8
    across_out = channels // out_chunk

    def conv_tile(x, weight, values, out, problem, x_at, out_at, reduction, blocks):
        shared = cuda.shared.array(0, complex128)
        places = cuda.shared.array(pixels, complex128)
        targets = cuda.shared.array(pixels, int32)
        where = cuda.local.array(x_rows, int32)
        tid = int32(cuda.threadIdx.x)
        # Which tile: out-channels fastest, for blocks that run together to share x.
        block = uint32(cuda.blockIdx.x)
        k_tiles, m_tiles = uint32(blocks[1]), uint32(blocks[2])
        rest = uint32(block // k_tiles)
        k0 = int32(int32(block - rest * k_tiles) * channels)
        block = rest
        rest = uint32(block // m_tiles)
        m0 = int32(int32(block - rest * m_tiles) * pixels)
        part = int32(rest // uint32(problem.g))
        group = int32(rest - uint32(part) * uint32(problem.g))
        # Where the tile's pixels read and write.
        for row in range(tid, pixels, threads):
            m = uint32(m0 + row)
            u = uint32(m // uint32(problem.q))
            q = int32(m - u * uint32(problem.q))
            v = uint32(u // uint32(problem.p))
            p = int32(u - v * uint32(problem.p))
            n = int32(v // uint32(problem.o))
            o = int32(v - uint32(n) * uint32(problem.o))
            d = int32(o * problem.stride_d - problem.pad_d)
            h = int32(p * problem.stride_h - problem.pad_h)
            w = int32(q * problem.stride_w - problem.pad_w)
            begin = int32(n * x_at[0] + d * x_at[1] + h * x_at[2] + w * x_at[3] + group * x_at[4])
            target = int32(n * out_at[0] + o * out_at[2] + p * out_at[3] + q * out_at[4])
            if n >= problem.n:
                begin, d, target = int32(0), int32(NOWHERE), int32(NONE)
            store_shared_integers(places, int32(row), (begin, d, h, w))
            targets[row] = target
        cuda.syncthreads()
        # This thread's chunk of the first step, as channels of a tap.
        chunk = int32(tid % chunks)
        own = int32(tid // chunks)
        first = int32(part * blocks[0])
        many = int32(min(blocks[0], (reduction[1] + chunks - 1) // chunks - first))
        u = uint32(first * chunks + chunk)
        v = uint32(u // uint32(reduction[0]))
        c = int32(u - v * uint32(reduction[0]))
        u = uint32(v // uint32(problem.s))
        s = int32(v - u * uint32(problem.s))
        t = int32(u // uint32(problem.r))
        r = int32(u - uint32(t) * uint32(problem.r))
        moved = True
        # Where chunks go, of x and of the weights, and where they come from.
        to_x = int32(own * chunks + (chunk ^ (own // line % chunks)))
        k = int32(tid % channels)
        j = int32(tid // channels)
        size_w = int32(CHUNK if k0 + k < problem.k else 0)
        from_w = int32(
            ((group * reduction[1] + first * chunks + j) * problem.k + k0 + k) * elements
        )
        across = int32(w_step * problem.k * elements)
        to_w, turn_w = int32((pixels + k) * chunks), int32(k // line % chunks)
        left = int32(reduction[1] - first * chunks - j)
        # What lanes read of the tile: rows of x and of the weights.
        lane = int32(tid % 32)
        warp = int32(tid // 32)
        row_a = int32(warp // warps_n * (16 * rows) + lane % 16)
        chunk_a = int32((lane // 16) ^ (row_a // line % chunks))
        row_b = int32(warp % warps_n * (8 * columns) + lane % 8 + lane // 16 * 8)
        chunk_b = int32((lane // 8 % 2) ^ (row_b // line % chunks))
        row_a, row_b = int32(row_a * chunks), int32((pixels + row_b) * chunks)
        sums = zeros()
        base = until_swizzle(shared, int32(0)) if wide else int32(0)
        filled = base
        used = base
        for i in range(many + ahead):
            if i >= ahead:
                wait()
                if wide:
                    publish()
                cuda.syncthreads()
                if wide:
                    at_a = int32(used + warp // 4 * 512)
                    sums = wide_step(shared, at_a, int32(used + pixels * chunks), sums)
                    wide_wait()
            if i < many:
                if moved:
                    dd = int32(t * problem.dilation_d)
                    dh = int32(r * problem.dilation_h)
                    dw = int32(s * problem.dilation_w)
                    tap = int32(dd * x_at[1] + dh * x_at[2] + dw * x_at[3])
                    for e in range(x_rows):
                        begin, d, h, w = load_shared_integers(places, int32(own + e * x_step))
                        d, h, w = int32(d + dd), int32(h + dh), int32(w + dw)
                        inside = uint32(d) < uint32(problem.d) and uint32(h) < uint32(problem.h)
                        inside = inside and uint32(w) < uint32(problem.w) and t < problem.t
                        where[e] = int32(begin + tap) if inside else int32(NONE)
                for e in range(x_rows):
                    inside = where[e] != NONE
                    source = int32(where[e] + c * elements) if inside else int32(0)
                    to = int32(filled + to_x + e * x_step * chunks)
                    copy_async(shared, to, x, source, int32(CHUNK if inside else 0))
                for e in range(w_chunks):
                    size = size_w if e * w_step < left else int32(0)
                    source = from_w if size else int32(0)
                    to = int32(filled + to_w + ((j + e * w_step) ^ turn_w))
                    copy_async(shared, to, weight, source, size)
                    from_w = int32(from_w + across)
                left = int32(left - chunks)
                filled = int32(filled + stage)
                if filled == base + stages * stage:
                    filled = base
                # The next step's chunk.
                c, s = int32(c + reduction[2]), int32(s + reduction[3])
                r, t = int32(r + reduction[4]), int32(t + reduction[5])
                moved = reduction[3] + reduction[4] + reduction[5] > 0
                if c >= reduction[0]:
                    c, s, moved = int32(c - reduction[0]), int32(s + 1), True
                if s >= problem.s:
                    s, r = int32(s - problem.s), int32(r + 1)
                if r >= problem.r:
                    r, t = int32(r - problem.r), int32(t + 1)
            commit()
            if i >= ahead:
                if not wide:
                    at_a, at_b = int32(used + row_a), int32(used + row_b)
                    sums = step(shared, at_a, chunk_a, at_b, chunk_b, sums)
                used = int32(used + stage)
                if used == base + stages * stage:
                    used = base
        if wide:
            finish_steps()
        # The sums take the stages' place, and leave it in the order of out.
        cuda.syncthreads()
        finished = cuda.shared.array(0, float32)
        row = int32(warp // warps_n * (16 * rows) + lane // 4)
        column = int32(warp % warps_n * (8 * columns) + lane % 4 * 2)
        keep(finished, column * pitch + row if turned else row * pitch + column, sums)
        cuda.syncthreads()
        start = int32(group * out_at[5] + part * out_at[6])
        channel0 = int32(group * problem.k)
        if turned:
            # A thread has one pixel, and neighbours the next.
            target = targets[tid % pixels]
            for column in range(tid // pixels, channels, threads // pixels):
                k = int32(k0 + column)
                if target != NONE and k < problem.k:
                    y = finished[uint32(column * pitch + tid % pixels)]
                    if bias:
                        y = float32(y + read(values, int32(channel0 + k)))
                    write(out, int32(start + target + k * out_at[1]), activate(y))
        else:
            # A thread has one chunk of channels, and neighbours the next.
            column = int32(tid % across_out * out_chunk)
            k = int32(channel0 + k0 + column)
            first = int32(start + k0 + column)
            b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = float32(0)
            if bias and k0 + column < problem.k:
                b0, b1, b2, b3 = (
                    read(values, k), read(values, k + 1), read(values, k + 2), read(values, k + 3),
                )  # fmt: skip
                if not whole:
                    b4, b5, b6, b7 = (
                        read(values, k + 4), read(values, k + 5), read(values, k + 6),
                        read(values, k + 7),
                    )  # fmt: skip
            for row in range(tid // across_out, pixels, threads // across_out):
                if targets[row] != NONE and k0 + column < problem.k:
                    at = int32(first + targets[row])
                    a = load_shared(finished, int32(row * pitch + column))
                    y0, y1 = activate(a[0] + b0), activate(a[1] + b1)
                    y2, y3 = activate(a[2] + b2), activate(a[3] + b3)
                    if whole:
                        store_floats(out, at, (y0, y1, y2, y3))
                    else:
                        a = load_shared(finished, int32(row * pitch + column + 4))
                        y4, y5 = activate(a[0] + b4), activate(a[1] + b5)
                        y6, y7 = activate(a[2] + b6), activate(a[3] + b7)
                        words = (
                            pair(narrow(y0), narrow(y1)), pair(narrow(y2), narrow(y3)),
                            pair(narrow(y4), narrow(y5)), pair(narrow(y6), narrow(y7)),
                        )  # fmt: skip
                        store_words(out, at, words)

    return conv_tile
