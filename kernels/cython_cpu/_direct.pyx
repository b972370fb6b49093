"""Direct convolution: nothing is copied, output rows are summed from the input in place.

x       (N, C, D, H, W)       any strides                             IN
weight  (K, C/G, T, R, S)     any strides                             IN
bias    (K,) or (0,)          contiguous                              IN
out     (N, K, O, P, Q)       any strides, overwritten                OUT
taps    (T + R + S, 2)        outputs [low, high) of a tap inside     IN
local   [channels][columns]   the sums of a stretch of a row          SCRATCH
Accumulates in its dtype, in the order t, r, s, c. Task = (n, g, block of out-channels, o, p).
Assumes a validated ConvGeometry; raises nothing.
Why: with few channels a copy costs more than it saves; up to four channels side by side load each
input once for all their multiply-adds. A row is cut into stretches whose taps are the same, so
padding costs no tests. Source: Zhang et al. 2018.
"""

from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, DirectCut, InputStrides, OutputStrides, Stretch, WeightStrides, next_tasks,
    read_fields, read_strides, stretch_at,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking import direct_cut


cdef extern from *:
    """
    #define LOOPS "direct.h"
    #include "instruction_sets.h"
    """
    ctypedef struct Taps:
        int64_t t, r, s, c
        int64_t x_t, x_r, x_s, x_c
        int64_t w_t, w_r, w_s, w_c

    void sum_row(
        void* sums, int64_t pitch, int64_t columns, const void* x, int64_t stride, const void* w,
        int64_t stride_k, int64_t channels, Taps taps
    ) noexcept nogil
    void store_row(
        void* out, int64_t stride, const void* sums, int64_t columns, const void* bias,
        int64_t activation
    ) noexcept nogil


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* weight,
    const WeightStrides* weight_strides, const floating* bias, floating* out,
    const OutputStrides* out_strides, const ConvProblem* problem, const int64_t* taps,
    const DirectCut* cut, floating* local, int64_t activation, int64_t task,
) noexcept nogil:
    """One task; ``bias`` may be NULL."""
    cdef int64_t row = task // problem.p, p = task % problem.p
    cdef int64_t block = row // problem.o, o = row % problem.o
    cdef int64_t group = block // cut.k_blocks, k_block = block % cut.k_blocks
    cdef int64_t n = group // problem.g, g = group % problem.g
    cdef int64_t k = g * problem.k + k_block * cut.channels
    cdef int64_t channels = min(cut.channels, problem.k - k_block * cut.channels)
    cdef Stretch in_d = stretch_at(taps, problem.t, o, problem.o)
    cdef Stretch in_h = stretch_at(taps + 2 * problem.t, problem.r, p, problem.p)
    cdef Stretch in_w
    cdef Taps inside
    cdef int64_t q, end, first, i
    inside.t, inside.r, inside.c = in_d.taps, in_h.taps, problem.c
    inside.x_t = problem.dilation_d * x_strides.d
    inside.x_r = problem.dilation_h * x_strides.h
    inside.x_s = problem.dilation_w * x_strides.w
    inside.x_c = x_strides.c
    inside.w_t, inside.w_r, inside.w_s = weight_strides.t, weight_strides.r, weight_strides.s
    inside.w_c = weight_strides.c
    x += (
        n * x_strides.n + g * problem.c * x_strides.c
        + (o * problem.stride_d - problem.pad_d + in_d.first * problem.dilation_d) * x_strides.d
        + (p * problem.stride_h - problem.pad_h + in_h.first * problem.dilation_h) * x_strides.h
    )
    weight += (
        k * weight_strides.k + in_d.first * weight_strides.t + in_h.first * weight_strides.r
    )
    out += (
        n * out_strides.n + k * out_strides.k + o * out_strides.o + p * out_strides.p
    )

    q = 0
    while q < problem.q:
        first = q
        end = min(q + cut.columns, problem.q)
        while q < end:
            in_w = stretch_at(taps + 2 * (problem.t + problem.r), problem.s, q, end)
            inside.s = in_w.taps
            sum_row(
                local + q - first, cut.columns, in_w.end - q,
                x + (q * problem.stride_w - problem.pad_w + in_w.first * problem.dilation_w)
                * x_strides.w,
                problem.stride_w * x_strides.w, weight + in_w.first * weight_strides.s,
                weight_strides.k, channels, inside,
            )
            q = in_w.end
        for i in range(channels):
            store_row(
                out + i * out_strides.k + first * out_strides.q, out_strides.q,
                local + i * cut.columns, end - first, bias + k + i if bias else NULL, activation,
            )


cdef void run_tasks(const ConvCall* call, floating* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef int64_t task, begin = 0, end = 0
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <const floating*>call.x, &call.x_strides, <const floating*>call.weight,
                &call.weight_strides, <const floating*>call.bias, <floating*>call.out,
                &call.out_strides, &call.problem, call.taps, <const DirectCut*>call.cut, local,
                call.activation, task,
            )


def tiles(
    const floating[:, :, :, :, :] x, const floating[:, :, :, :, :] weight,
    const floating[::1] bias, floating[:, :, :, :, :] out, problem, const int64_t[:, ::1] taps,
    cut, floating[::1] local, int64_t activation, int64_t[::1] queue,
):
    """Run the tasks of the queue."""
    cdef ConvCall call
    cdef DirectCut cut_fields
    read_fields(problem, &call.problem)
    read_fields(cut, &cut_fields)
    read_strides(x.strides, sizeof(floating), &call.x_strides)
    read_strides(weight.strides, sizeof(floating), &call.weight_strides)
    read_strides(out.strides, sizeof(floating), &call.out_strides)
    call.x, call.weight = &x[0, 0, 0, 0, 0], &weight[0, 0, 0, 0, 0]
    call.bias = &bias[0] if bias.shape[0] else NULL
    call.out, call.taps, call.cut = &out[0, 0, 0, 0, 0], &taps[0, 0], &cut_fields
    call.activation = activation
    with nogil:
        run_tasks(&call, &local[0], &queue[0])


_tasks = {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])}
_skipping = drivers.fprop(direct_cut, tiles, compiled=drivers.Compiled(direct_cut, _tasks))
fprop = drivers.multiplying_padding(_skipping)
dgrad = adjoints.dgrad(_skipping, split=adjoints.in_rows)
