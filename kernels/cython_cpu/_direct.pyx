"""Direct convolution: rows of the output are summed in registers, the input read where it lies.

x       (N, C, D, H, W)       any strides                             IN
weight  (K, C/G, T, R, S)     any strides                             IN
bias    (K,) or (0,)          contiguous                              IN
out     (N, K, O, P, Q)       any strides, overwritten                OUT
local   RowsCut: offsets of (s, c), weights, padded input             SCRATCH
Accumulates in its dtype, in the order t, r, s, c. Task = (n, g, out-channels, o, rows, columns).
Assumes a validated ConvGeometry; raises nothing.
Why: with few channels a copy per tap (im2col) or a transposed one (tiled) costs more than the sums.
Where columns lie next to each other and the stride is 1, nothing is copied: lanes outside of the
input aren't loaded (one channel), or only tasks at a border copy. Everything else (stride 2,
channels last, the baseline's vectors) sums over a padded copy of the few rows under a task, its
columns dealt out by their position modulo the stride. Source: Zhang et al. 2018.
"""

from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, RowsCut, WeightStrides, next_tasks,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking_rows import rows_cut
from cnnfast.kernels.cython_cpu import _loop


cdef extern from *:
    """
    #define WITH_AVX512
    #define LOOPS "direct.h"
    #include "instruction_sets.h"
    """
    int64_t DIRECT_CHANNELS
    bint LOADS_LANES

    ctypedef struct Step:
        int64_t x, column

    ctypedef struct Window:
        int64_t t, r, steps
        int64_t x_t, x_r, x_p
        int64_t at_d, at_h, at_w, d, h, w
        int64_t dilation_d, dilation_h, stride
        void* edges

    ctypedef struct Target:
        int64_t k, p, q
        int64_t activation

    void sum_plane(
        void* out, const Target* target, const void* x, const void* w, const void* bias,
        const Window* window, const Step* steps, int64_t channels, int64_t rows, int64_t columns,
        bint in_place
    ) noexcept nogil
    ctypedef struct Copy:
        int64_t pitch, phases, channels, rows
        int64_t x_c, x_h, x_w
        int64_t stride, at_h, at_w, h, w

    ctypedef struct Columns:
        int64_t taps, dilation, stride, at, size, x_w

    void copy_rows(void* to, const void* x, const Copy* copy) noexcept nogil
    int64_t channels_together(const void* x) noexcept nogil
    void sum_channels(
        void* out, const Target* target, const void* x, const void* w, const void* bias,
        const Window* window, const Columns* columns, int64_t rows, int64_t pixels,
        int64_t channels
    ) noexcept nogil


cdef inline bint copies(const ConvProblem* problem, const InputStrides* x_strides) noexcept nogil:
    """Whether tasks copy their input."""
    return x_strides.w != 1 or problem.stride_w != 1 or not LOADS_LANES


cdef void fill_steps(
    Step* steps, const ConvProblem* problem, const RowsCut* cut, const InputStrides* x_strides,
) noexcept nogil:
    """How far (s, c) is from column 0 of channel 0: first in the input, then in a copy."""
    cdef int64_t s, c, column
    cdef Step* copied = steps + problem.s * problem.c
    for s in range(problem.s):
        column = s * problem.dilation_w
        for c in range(problem.c):
            steps.column = copied.column = column
            steps.x = c * x_strides.c + column
            copied.x = (
                (c * cut.phases + column % problem.stride_w) * cut.pitch
                + column // problem.stride_w
            )
            steps += 1
            copied += 1


cdef void copy_halo(
    const floating* x, const InputStrides* x_strides, const ConvProblem* problem,
    const RowsCut* cut, floating* halo, const Window* window, int64_t rows,
) noexcept nogil:
    """Copy what is under ``rows`` output rows, with the padding."""
    cdef Copy copy
    cdef int64_t t, d
    copy.pitch, copy.phases, copy.channels = cut.pitch, cut.phases, problem.c
    copy.rows = (rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1
    copy.x_c, copy.x_h, copy.x_w = x_strides.c, x_strides.h, x_strides.w
    copy.stride, copy.h, copy.w = problem.stride_w, problem.h, problem.w
    copy.at_h, copy.at_w = window.at_h, window.at_w
    for t in range(problem.t):
        d = window.at_d + t * problem.dilation_d
        copy_rows(
            halo + t * cut.halo_rows * problem.c * cut.phases * cut.pitch,
            x + d * x_strides.d if 0 <= d < problem.d else NULL, &copy,
        )


cdef bint gather_weights(
    const floating* weight, const WeightStrides* strides, const ConvProblem* problem,
    floating* gathered, int64_t channels,
) noexcept nogil:
    """The weights of some out-channels as ``[t][r][s][c][k]``. Returns whether all are finite."""
    cdef int64_t t, r, s, c, k
    cdef const floating* tap
    cdef floating zero = 0
    for t in range(problem.t):
        for r in range(problem.r):
            for s in range(problem.s):
                tap = weight + t * strides.t + r * strides.r + s * strides.s
                for c in range(problem.c):
                    for k in range(channels):
                        gathered[k] = tap[k * strides.k + c * strides.c]
                        zero += gathered[k] * 0
                    gathered += channels
    return zero == 0


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* weight,
    const WeightStrides* weight_strides, const floating* bias, floating* out,
    const OutputStrides* out_strides, const ConvProblem* problem, const RowsCut* cut,
    floating* local, int64_t activation, int64_t task,
) noexcept nogil:
    """One task; ``bias`` may be NULL. ``local`` begins with the steps (``fill_steps``)."""
    cdef int64_t rest = task // cut.column_blocks, q = task % cut.column_blocks * cut.columns
    cdef int64_t p = rest % cut.row_blocks * cut.rows
    rest //= cut.row_blocks
    cdef int64_t o = rest % problem.o
    rest //= problem.o
    cdef int64_t k_first = rest % cut.k_blocks * cut.channels
    rest //= cut.k_blocks
    cdef int64_t g = rest % problem.g, n = rest // problem.g
    cdef int64_t k = k_first, k_last = min(k_first + cut.channels, problem.k), channels, phase
    cdef int64_t x_h
    cdef const floating* from_
    cdef int64_t rows = min(cut.rows, problem.p - p), columns = min(cut.columns, problem.q - q)
    # Output rows that see the same input rows are `between` apart.
    cdef int64_t between = problem.dilation_h if problem.stride_h == 1 else 1
    cdef int64_t steps = problem.s * problem.c
    cdef floating* gathered = local + cut.step_elements
    cdef floating* halo = gathered + cut.weight_elements
    cdef bint in_place = not copies(problem, x_strides), copied = False, finite
    cdef Window window, part
    cdef Target target
    window.t, window.r, window.steps = problem.t, problem.r, steps
    window.stride = problem.stride_h * between
    window.at_d = o * problem.stride_d - problem.pad_d
    window.at_h = p * problem.stride_h - problem.pad_h
    window.at_w = q * problem.stride_w - problem.pad_w
    window.d, window.h, window.w = problem.d, problem.h, problem.w
    window.dilation_d, window.dilation_h = problem.dilation_d, problem.dilation_h
    window.edges = local + cut.step_elements - cut.edge_elements
    x += n * x_strides.n + g * problem.c * x_strides.c
    target.k, target.p, target.q = out_strides.k, between * out_strides.p, out_strides.q
    target.activation = activation
    out += (
        n * out_strides.n + g * problem.k * out_strides.k + o * out_strides.o
        + p * out_strides.p + q * out_strides.q
    )
    while k < k_last:
        channels = min(k_last - k, DIRECT_CHANNELS)
        finite = gather_weights(
            weight + (g * problem.k + k) * weight_strides.k, weight_strides, problem, gathered,
            channels,
        )
        # Rows in the padding are skipped in place, but an infinite weight meets their zeros.
        if in_place and finite:
            from_ = x + (
                window.at_d * x_strides.d + window.at_h * x_strides.h
                + window.at_w * x_strides.w
            )
            x_h = x_strides.h
            window.x_t = problem.dilation_d * x_strides.d
        else:
            if not copied:
                copy_halo(x, x_strides, problem, cut, halo, &window, rows)
                copied = True
            from_ = halo
            x_h = problem.c * cut.phases * cut.pitch
            window.x_t = cut.halo_rows * x_h
        window.x_r, window.x_p = problem.dilation_h * x_h, window.stride * x_h
        for phase in range(min(between, rows)):
            part = window
            part.at_h += phase * problem.stride_h
            sum_plane(
                out + k * out_strides.k + phase * out_strides.p, &target,
                from_ + phase * problem.stride_h * x_h, gathered,
                bias + g * problem.k + k if bias else NULL, &part,
                <const Step*> local + (0 if in_place and finite else steps), channels,
                (rows - phase + between - 1) // between, columns, in_place and finite,
            )
        k += channels


cdef bint along_channels(
    const ConvProblem* problem, const InputStrides* x_strides, const OutputStrides* out_strides,
) noexcept nogil:
    """Whether vectors are channels: those of depthwise convolutions, next to each other."""
    return problem.c == 1 and problem.k == 1 and x_strides.c == 1 and out_strides.k == 1


cdef void channel_tile(
    const floating* x, const InputStrides* x_strides, const floating* weight,
    const WeightStrides* weight_strides, const floating* bias, floating* out,
    const OutputStrides* out_strides, const ConvProblem* problem, const RowsCut* cut,
    floating* local, int64_t activation, int64_t task,
) noexcept nogil:
    """One task of vectors along channels: the first group's of a vector does all of it, the others
    do nothing, so that the tasks are the same for every layout."""
    cdef int64_t rest = task // cut.column_blocks, q = task % cut.column_blocks * cut.columns
    cdef int64_t p = rest % cut.row_blocks * cut.rows, together = channels_together(x)
    rest //= cut.row_blocks
    cdef int64_t o = rest % problem.o
    rest //= problem.o
    cdef int64_t g = rest % problem.g, n = rest // problem.g
    cdef int64_t rows = min(cut.rows, problem.p - p), columns = min(cut.columns, problem.q - q)
    cdef int64_t channels = min(together, problem.g - g), t, r, s, i
    cdef floating* tap = local + cut.step_elements
    cdef const floating* source
    cdef Window window
    cdef Columns along
    cdef Target target
    if g % together:
        return
    for t in range(problem.t):
        for r in range(problem.r):
            for s in range(problem.s):
                source = (
                    weight + g * weight_strides.k + t * weight_strides.t + r * weight_strides.r
                    + s * weight_strides.s
                )
                for i in range(channels):
                    tap[i] = source[i * weight_strides.k]
                for i in range(channels, together):
                    tap[i] = 0
                tap += together
    window.t, window.r, window.stride = problem.t, problem.r, problem.stride_h
    window.at_d = o * problem.stride_d - problem.pad_d
    window.at_h = p * problem.stride_h - problem.pad_h
    window.d, window.h = problem.d, problem.h
    window.dilation_d, window.dilation_h = problem.dilation_d, problem.dilation_h
    window.x_t = problem.dilation_d * x_strides.d
    window.x_r = problem.dilation_h * x_strides.h
    window.x_p = problem.stride_h * x_strides.h
    along.taps, along.dilation, along.stride = problem.s, problem.dilation_w, problem.stride_w
    along.at, along.size, along.x_w = (
        q * problem.stride_w - problem.pad_w, problem.w, x_strides.w
    )
    target.p, target.q, target.activation = out_strides.p, out_strides.q, activation
    sum_channels(
        out + n * out_strides.n + g + o * out_strides.o + p * out_strides.p + q * out_strides.q,
        &target,
        x + n * x_strides.n + g + window.at_d * x_strides.d + window.at_h * x_strides.h
        + along.at * x_strides.w,
        local + cut.step_elements, bias + g if bias else NULL, &window, &along, rows, columns,
        channels,
    )


cdef void run_tasks(const ConvCall* call, floating* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef const RowsCut* cut = <const RowsCut*>call.cut
    cdef const floating* x = <const floating*>call.x
    cdef const floating* weight = <const floating*>call.weight
    cdef const floating* bias = <const floating*>call.bias
    cdef floating* out = <floating*>call.out
    cdef bint of_channels = along_channels(&call.problem, &call.x_strides, &call.out_strides)
    cdef int64_t task, begin = 0, end = 0
    fill_steps(<Step*> local, &call.problem, cut, &call.x_strides)
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            if of_channels:
                channel_tile(
                    x, &call.x_strides, weight, &call.weight_strides, bias, out,
                    &call.out_strides, &call.problem, cut, local, call.activation, task,
                )
            else:
                tile(
                    x, &call.x_strides, weight, &call.weight_strides, bias, out,
                    &call.out_strides, &call.problem, cut, local, call.activation, task,
                )


_tasks = {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])}
fprop = drivers.fprop(rows_cut, _tasks)
# Columns in the padding add a zero times the weight.
dgrad = adjoints.dgrad(fprop, skipping=_loop.dgrad, split=adjoints.in_rows)
