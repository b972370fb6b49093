"""Direct gradient of the weights: nothing is copied, rows of gradients times rows of the input.

x            (N, C, D, H, W)    any strides                                         IN
grad_output  (N, K, O, P, Q)    any strides                                         IN
out          (K, C/G, T, R, S)  any strides, overwritten                            OUT
local        [t][r][s][lanes]             a vector of sums per weight of a channel  SCRATCH
sums         [slice][g][k][c][t][r][s]    the sums of the tasks                     SCRATCH
Accumulates in its dtype, n, o, p and q of a lane in order, then the lanes in pairs, then slice by
slice. Task = (g, k, slice of units); ``finish``: one out-channel. Taps in the padding are skipped.
Assumes a validated ConvGeometry; raises nothing.
Why: with one channel or few, register tiles of out-channels stay empty and a copy costs more than
it saves; here columns fill the vectors and up to MOST_TAPS weights share each load of gradients.
Rows are taken in stretches whose taps are the same; at the ends of a row loads are masked.
Source: Zhang et al. 2018 (direct convolution); Georganas et al. 2018 (update pass).
"""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, Stretch, WeightStrides, WgradDirectCut, next_tasks,
    read_fields, read_strides, stretch_at,
)

from cnnfast.kernels import drivers
from cnnfast.kernels.blocking import wgrad_direct_cut
from cnnfast.kernels.problem import taps_of


cdef extern from *:
    """
    #define LOOPS "wgrad_direct.h"
    #include "instruction_sets.h"
    """
    enum:
        MOST_TAPS, VECTOR_BYTES

    ctypedef struct Tap:
        int64_t at, low, high, sum

    ctypedef struct Outputs:
        int64_t rows
        int64_t x_p, x_q, grad_p, grad_q

    void sum_taps(
        void* sums, const void* x, const void* grad, const Outputs* outputs, const Tap* taps,
        int64_t count
    ) noexcept nogil
    void add_lanes(void* to, const void* sums, int64_t count) noexcept nogil


cdef void sum_rows(
    floating* local, const floating* x, const InputStrides* x_strides, const floating* grad_output,
    const ConvProblem* problem, const int64_t* taps, const Stretch* in_d, const Stretch* in_h,
    const Outputs* outputs,
) noexcept nogil:
    """Add the products of a stretch of output rows to the sums of the taps inside; ``x`` is what
    tap (0, 0, 0) reads for the first output."""
    cdef const int64_t* columns = taps + 2 * (problem.t + problem.r)
    cdef int64_t lanes = VECTOR_BYTES // sizeof(floating)
    cdef int64_t count = 0, t, r, s
    cdef Tap tap[MOST_TAPS]
    for t in range(in_d.first, in_d.first + in_d.taps):
        for r in range(in_h.first, in_h.first + in_h.taps):
            for s in range(problem.s):
                if columns[2 * s] == columns[2 * s + 1]:
                    continue
                tap[count].at = (
                    t * problem.dilation_d * x_strides.d + r * problem.dilation_h * x_strides.h
                    + s * problem.dilation_w * x_strides.w
                )
                tap[count].low, tap[count].high = columns[2 * s], columns[2 * s + 1]
                tap[count].sum = ((t * problem.r + r) * problem.s + s) * lanes
                count += 1
                if count == MOST_TAPS:
                    sum_taps(local, x, grad_output, outputs, tap, count)
                    count = 0
    sum_taps(local, x, grad_output, outputs, tap, count)


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* grad_output,
    const OutputStrides* grad_strides, floating* sums, const ConvProblem* problem,
    const int64_t* taps, const WgradDirectCut* cut, floating* local, int64_t task,
) noexcept nogil:
    """One task."""
    cdef int64_t k = task // cut.slices, part = task % cut.slices
    cdef int64_t weights = problem.t * problem.r * problem.s
    cdef int64_t first_unit = part * cut.slice_units
    cdef int64_t end_unit = min(first_unit + cut.slice_units, cut.units)
    cdef int64_t c, unit, n, o, p, end
    cdef Stretch in_d, in_h
    cdef Outputs outputs
    outputs.x_p = problem.stride_h * x_strides.h
    outputs.x_q = problem.stride_w * x_strides.w
    outputs.grad_p, outputs.grad_q = grad_strides.p, grad_strides.q
    x += (
        k // problem.k * problem.c * x_strides.c - problem.pad_d * x_strides.d
        - problem.pad_h * x_strides.h - problem.pad_w * x_strides.w
    )
    grad_output += k * grad_strides.k
    sums += (part * problem.g * problem.k + k) * problem.c * weights
    for c in range(problem.c):
        memset(local, 0, weights * VECTOR_BYTES)
        for unit in range(first_unit, end_unit):
            p = unit % cut.row_blocks * cut.rows
            end = min(p + cut.rows, problem.p)
            o = unit // cut.row_blocks % problem.o
            n = unit // cut.row_blocks // problem.o
            in_d = stretch_at(taps, problem.t, o, problem.o)
            while p < end:
                in_h = stretch_at(taps + 2 * problem.t, problem.r, p, end)
                outputs.rows = in_h.end - p
                sum_rows(
                    local,
                    x + n * x_strides.n + c * x_strides.c + o * problem.stride_d * x_strides.d
                    + p * outputs.x_p,
                    x_strides,
                    grad_output + n * grad_strides.n + o * grad_strides.o + p * outputs.grad_p,
                    problem, taps, &in_d, &in_h, &outputs,
                )
                p = in_h.end
        add_lanes(sums + c * weights, local, weights)


cdef void finish_filter(
    const floating* sums, floating* out, const WeightStrides* strides, const ConvProblem* problem,
    const WgradDirectCut* cut, int64_t k,
) noexcept nogil:
    """Add the slices of out-channel ``k`` of all, and write it."""
    cdef int64_t filter_elements = problem.c * problem.t * problem.r * problem.s
    cdef int64_t slice_elements = problem.g * problem.k * filter_elements
    cdef int64_t c, t, r, s, part
    cdef floating total
    sums += k * filter_elements
    out += k * strides.k
    for c in range(problem.c):
        for t in range(problem.t):
            for r in range(problem.r):
                for s in range(problem.s):
                    total = sums[0]
                    for part in range(1, cut.slices):
                        total += sums[part * slice_elements]
                    out[c * strides.c + t * strides.t + r * strides.r + s * strides.s] = total
                    sums += 1


def tiles(
    const floating[:, :, :, :, :] x, const floating[:, :, :, :, :] grad_output,
    floating[::1] sums, floating[:, :, :, :, :] out, problem, cut, floating[::1] local,
    int64_t[::1] queue,
):
    """Run the tasks of the queue."""
    cdef ConvProblem problem_fields
    cdef WgradDirectCut cut_fields
    cdef InputStrides x_strides
    cdef OutputStrides grad_strides
    cdef const int64_t[:, ::1] taps = taps_of(problem)
    cdef int64_t task, begin = 0, end = 0
    read_fields(problem, &problem_fields)
    read_fields(cut, &cut_fields)
    read_strides(x.strides, sizeof(floating), &x_strides)
    read_strides(grad_output.strides, sizeof(floating), &grad_strides)
    with nogil:
        while next_tasks(&queue[0], &begin, &end):
            for task in range(begin, end):
                tile(
                    &x[0, 0, 0, 0, 0], &x_strides, &grad_output[0, 0, 0, 0, 0], &grad_strides,
                    &sums[0], &problem_fields, &taps[0, 0], &cut_fields, &local[0], task,
                )


def finish(
    const floating[::1] sums, floating[:, :, :, :, :] out, problem, cut, int64_t[::1] queue,
):
    """Write the out-channels of the queue."""
    cdef ConvProblem problem_fields
    cdef WgradDirectCut cut_fields
    cdef WeightStrides strides
    cdef int64_t k, begin = 0, end = 0
    read_fields(problem, &problem_fields)
    read_fields(cut, &cut_fields)
    read_strides(out.strides, sizeof(floating), &strides)
    with nogil:
        while next_tasks(&queue[0], &begin, &end):
            for k in range(begin, end):
                finish_filter(
                    &sums[0], &out[0, 0, 0, 0, 0], &strides, &problem_fields, &cut_fields, k
                )


_skipping = drivers.wgrad(wgrad_direct_cut, tiles, finish)
wgrad = drivers.multiplying_padding(_skipping)
