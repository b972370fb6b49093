"""Direct gradient of the weights: nothing is copied, rows of gradients times rows of the input.

x            (N, C, D, H, W)    any strides                                              IN
grad_output  (N, K, O, P, Q)    any strides                                              IN
out          (K, C/G, T, R, S)  any strides, overwritten                                 OUT
local        [k][t][r][s][lanes]          a vector of sums per weight of a channel       SCRATCH
sums         [slice][g][k][c][t][r][s]    the sums of several slices                     SCRATCH
Accumulates in its dtype, n, o, p and q of a lane in order (even and odd rows apart where weights are
few), then the lanes in pairs, then slice by slice. Task = (g, block of ``filters``, slice of units);
``finish``: one out-channel. Taps in the padding are skipped. Assumes a validated ConvGeometry;
raises nothing.
Why: with one channel or few, register tiles of out-channels stay empty and a copy costs more than
it saves; here columns fill the vectors, and up to five taps of a kernel row x four out-channels
share their loads. A kernel row's taps are the same for all output rows that it reads inside for, so
a plane is ``r`` calls; at the ends of a row loads are masked.
Source: Zhang et al. 2018 (direct convolution); Georganas et al. 2018 (update pass).
"""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, WeightStrides, WgradDirectCut, next_tasks,
)

from cnnfast.kernels import drivers
from cnnfast.kernels.blocking_gradients import wgrad_direct_cut


cdef extern from *:
    """
    #define LOOPS "wgrad_direct.h"
    #define WITH_AVX512
    #include "instruction_sets.h"
    """
    enum:
        SUM_BYTES

    ctypedef struct Rows:
        int64_t count
        int64_t x_p, x_q, x_s, grad_p, grad_q, grad_k, sum_k

    void sum_rows(
        void* sums, const void* x, const void* grad, const Rows* rows, const int64_t* columns,
        int64_t taps, int64_t filters
    ) noexcept nogil
    void add_lanes(void* to, const void* sums, int64_t count) noexcept nogil


cdef void sum_kernel_rows(
    floating* local, const floating* x, const floating* grad_output, Rows rows,
    const int64_t* taps_h, const int64_t* columns, const ConvProblem* problem,
    const WgradDirectCut* cut, int64_t start, int64_t p, int64_t end,
) noexcept nogil:
    """Add the products of the output rows p .. end-1 to one out-channel's sums of every
    ``row_step``-th kernel row from ``start`` on: they read the same rows of the input, for outputs
    ``row_spread`` apart, so they take the place of out-channels. ``x`` is what the first reads."""
    cdef int64_t at = p, final = end, stop, r, behind, begin, finish, first, count
    rows.grad_k, rows.sum_k = -cut.row_spread * rows.grad_p, cut.row_step * rows.sum_k
    r = start + cut.row_step
    while r < problem.r:
        final += cut.row_spread
        r += cut.row_step
    # ``at`` is the output row that reads the input row with the first of them.
    while at < final:
        first, count, stop = 0, 0, final
        r, behind = start, 0
        while r < problem.r:
            begin = max(p, taps_h[2 * r]) + behind
            finish = min(end, taps_h[2 * r + 1]) + behind
            if begin <= at < finish:
                if count == 0:
                    first = behind
                count += 1
                stop = min(stop, finish)
            elif at < begin < finish:
                stop = min(stop, begin)
            r += cut.row_step
            behind += cut.row_spread
        if count:
            rows.count = stop - at
            sum_rows(
                local + first // cut.row_spread * rows.sum_k, x + at * rows.x_p,
                grad_output + (at - first) * rows.grad_p, &rows, columns, problem.s, count,
            )
        at = stop


cdef void sum_unit(
    floating* local, const floating* x, const InputStrides* x_strides, const floating* grad_output,
    const OutputStrides* grad_strides, const ConvProblem* problem, const int64_t* taps,
    const WgradDirectCut* cut, int64_t unit, int64_t filters,
) noexcept nogil:
    """Add a unit's products to the sums of all taps of a channel; ``x`` is what tap (0, 0, 0) reads
    for the first output."""
    cdef const int64_t* taps_h = taps + 2 * problem.t
    cdef const int64_t* columns = taps_h + 2 * problem.r
    cdef int64_t row_elements = problem.s * (SUM_BYTES // sizeof(floating))
    cdef int64_t p = unit * cut.rows, o = 0, n = 0, t, r, first, end
    cdef Rows rows
    if unit >= cut.row_blocks:
        p = unit % cut.row_blocks * cut.rows
        o, n = unit // cut.row_blocks % problem.o, unit // cut.row_blocks // problem.o
    end = min(p + cut.rows, problem.p)
    rows.x_p, rows.x_q = problem.stride_h * x_strides.h, problem.stride_w * x_strides.w
    rows.x_s = problem.dilation_w * x_strides.w
    rows.grad_p, rows.grad_q, rows.grad_k = grad_strides.p, grad_strides.q, grad_strides.k
    x += n * x_strides.n + o * problem.stride_d * x_strides.d
    grad_output += n * grad_strides.n + o * grad_strides.o
    for t in range(problem.t):
        if not taps[2 * t] <= o < taps[2 * t + 1]:
            continue
        if filters == 1:
            rows.sum_k = row_elements
            for r in range(min(cut.row_step, problem.r)):
                sum_kernel_rows(
                    local + (t * problem.r + r) * row_elements,
                    x + t * problem.dilation_d * x_strides.d
                    + r * problem.dilation_h * x_strides.h,
                    grad_output, rows, taps_h, columns, problem, cut, r, p, end,
                )
            continue
        rows.sum_k = problem.t * problem.r * row_elements
        for r in range(problem.r):
            first = max(p, taps_h[2 * r])
            rows.count = min(end, taps_h[2 * r + 1]) - first
            if rows.count > 0:
                sum_rows(
                    local + (t * problem.r + r) * row_elements,
                    x + t * problem.dilation_d * x_strides.d + r * problem.dilation_h * x_strides.h
                    + first * rows.x_p,
                    grad_output + first * rows.grad_p, &rows, columns, problem.s, filters,
                )


cdef void write_sums(
    const floating* local, floating* out, const WeightStrides* strides, const ConvProblem* problem,
) noexcept nogil:
    """Add up the lanes of a channel's sums, and write them."""
    cdef int64_t elements = SUM_BYTES // sizeof(floating), t, r, s
    for t in range(problem.t):
        for r in range(problem.r):
            if strides.s == 1:
                add_lanes(out + t * strides.t + r * strides.r, local, problem.s)
                local += problem.s * elements
                continue
            for s in range(problem.s):
                add_lanes(out + t * strides.t + r * strides.r + s * strides.s, local, 1)
                local += elements


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* grad_output,
    const OutputStrides* grad_strides, floating* sums, floating* out,
    const WeightStrides* out_strides, const ConvProblem* problem, const int64_t* taps,
    const WgradDirectCut* cut, floating* local, int64_t task,
) noexcept nogil:
    """One task."""
    cdef int64_t part = task % cut.slices, g, first, filters
    cdef int64_t weights = problem.t * problem.r * problem.s
    cdef int64_t first_unit = part * cut.slice_units
    cdef int64_t end_unit = min(first_unit + cut.slice_units, cut.units)
    cdef int64_t c, k, unit
    cdef WeightStrides strides = out_strides[0]
    task //= cut.slices
    g, first = task // cut.k_blocks, task % cut.k_blocks * cut.filters
    filters = min(cut.filters, problem.k - first)
    x += (
        g * problem.c * x_strides.c - problem.pad_d * x_strides.d - problem.pad_h * x_strides.h
        - problem.pad_w * x_strides.w
    )
    first += g * problem.k
    grad_output += first * grad_strides.k
    if cut.slices > 1:
        strides.s, strides.r, strides.t = 1, problem.s, problem.s * problem.r
        strides.c, strides.k = weights, problem.c * weights
        out = sums + part * problem.g * problem.k * strides.k
    out += first * strides.k
    for c in range(problem.c):
        memset(local, 0, filters * weights * SUM_BYTES)
        for unit in range(first_unit, end_unit):
            sum_unit(
                local, x + c * x_strides.c, x_strides, grad_output, grad_strides, problem, taps,
                cut, unit, filters,
            )
        for k in range(filters):
            write_sums(
                local + k * weights * (SUM_BYTES // sizeof(floating)),
                out + k * strides.k + c * strides.c, &strides, problem,
            )


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


cdef void run_tasks(const ConvCall* call, floating* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef int64_t task, begin = 0, end = 0
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <const floating*>call.x, &call.x_strides, <const floating*>call.weight,
                <const OutputStrides*>&call.weight_strides, <floating*>call.shared,
                <floating*>call.out, <const WeightStrides*>&call.out_strides, &call.problem,
                call.taps, <const WgradDirectCut*>call.cut, local, task,
            )


cdef void run_finish(
    const ConvCall* call, floating* sums, int64_t width, int64_t* queue
) noexcept nogil:
    """Write the out-channels of the queue."""
    cdef int64_t k, begin = 0, end = 0
    while next_tasks(queue, &begin, &end):
        for k in range(begin, end):
            finish_filter(
                sums, <floating*>call.out, <const WeightStrides*>&call.out_strides, &call.problem,
                <const WgradDirectCut*>call.cut, k,
            )


_skipping = drivers.wgrad(
    wgrad_direct_cut,
    {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])},
    {"float32": address(<void*>run_finish[float]), "float64": address(<void*>run_finish[double])},
)
wgrad = drivers.wgrad_multiplying_padding(_skipping)
