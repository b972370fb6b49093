"""A dgrad's phase once more where a weight isn't finite: without products with padding.

No place of a dgrad sees an output that isn't there, but tensor cores multiply the zeros that stand
for it, and an infinite weight makes NaN of those. So the launch that packs the weights also says
which of its blocks saw such a weight (``marks``), and this one, if there was any, computes every
element again, a thread each. Which launches run doesn't depend on the numbers; what they do does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import config, cuda, float32, int32, uint32

from .activations import activation_of
from .elements import reader, writer

THREADS = 32 if config.ENABLE_CUDASIM else 256
#: Blocks, each of which reads all marks.
BLOCKS = 2 if config.ENABLE_CUDASIM else 264
#: Of ``compute_again``: x, weight, bias, out, marks; how many marks; the problem, x's strides,
#: those of the weights (g, k, c, t, r, s), out's.
SIGNATURE = ("int32", "problem", "int32[5]", "int32[6]", "int32[5]")


def build_compute_again(dtype: str, bias: bool, activation: Any) -> Callable[..., None]:
    """Sums of products with what is inside of x alone, in the order c, t, r, s."""
    read, write, activate = reader(dtype), writer(dtype), activation_of(activation)

    def compute_again(x, weight, values, out, marks, count, problem, x_at, w_at, out_at):
        tid = int32(cuda.threadIdx.x)
        marked = int32(0)
        for i in range(tid, count, THREADS):
            marked = int32(marked | marks[i])
        channels = uint32(problem.g * problem.k)
        total = uint32(uint32(problem.n * problem.o * problem.p * problem.q) * channels)
        e = uint32(cuda.blockIdx.x * THREADS + tid)
        if cuda.syncthreads_or(marked) == 0:
            e = total
        while e < total:
            u = uint32(e // uint32(problem.q))
            q = int32(e - u * uint32(problem.q))
            v = uint32(u // uint32(problem.p))
            p = int32(u - v * uint32(problem.p))
            u = uint32(v // uint32(problem.o))
            o = int32(v - u * uint32(problem.o))
            n = int32(u // channels)
            channel = int32(u - uint32(n) * channels)
            group = int32(uint32(channel) // uint32(problem.k))
            from_x = int32(n * x_at[0] + group * problem.c * x_at[1])
            from_w = int32(group * w_at[0] + (channel - group * problem.k) * w_at[1])
            y = float32(0)
            for c in range(problem.c):
                for t in range(problem.t):
                    d = int32(o * problem.stride_d - problem.pad_d + t * problem.dilation_d)
                    for r in range(problem.r):
                        h = int32(p * problem.stride_h - problem.pad_h + r * problem.dilation_h)
                        for s in range(problem.s):
                            w = int32(q * problem.stride_w - problem.pad_w + s * problem.dilation_w)
                            if 0 <= d < problem.d and 0 <= h < problem.h and 0 <= w < problem.w:
                                i = int32(from_x + c * x_at[1] + d * x_at[2] + h * x_at[3])
                                j = int32(from_w + c * w_at[2] + t * w_at[3] + r * w_at[4])
                                i, j = int32(i + w * x_at[4]), int32(j + s * w_at[5])
                                y = float32(y + float32(read(x, i) * read(weight, j)))
            if bias:
                y = float32(y + read(values, channel))
            to = int32(n * out_at[0] + channel * out_at[1] + o * out_at[2])
            write(out, int32(to + p * out_at[3] + q * out_at[4]), activate(y))
            e = uint32(e + uint32(BLOCKS * THREADS))

    return compute_again
