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
    ConvProblem, InputStrides, OutputStrides, RowsCut, WeightStrides, next_tasks, read_fields,
    read_strides,
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
        int64_t t, r, steps, stride
        int64_t x_t, x_r
        int64_t at_d, at_h, at_w, d, h, w, dilation_d, dilation_h

    ctypedef struct Target:
        int64_t k, p, q
        int64_t activation

    void sum_plane(
        void* out, const Target* target, const void* x, const void* w, const void* bias,
        const Window* window, const Step* steps, int64_t channels, int64_t rows, int64_t columns,
        bint in_place
    ) noexcept nogil
    void copy_row(
        void* to, int64_t pitch, int64_t phases, const void* x, int64_t x_w, int64_t stride,
        int64_t at, int64_t size
    ) noexcept nogil


cdef inline int64_t common_divisor(int64_t first, int64_t second) noexcept nogil:
    while second:
        first, second = second, first % second
    return first


cdef inline bint copies(const ConvProblem* problem, const InputStrides* x_strides) noexcept nogil:
    """Whether all tasks copy their input."""
    return x_strides.w != 1 or problem.stride_w != 1 or not LOADS_LANES


cdef void fill_steps(
    Step* steps, const ConvProblem* problem, const RowsCut* cut, const InputStrides* x_strides,
    bint copied,
) noexcept nogil:
    """Where (s, c) is, from tap column 0 of channel 0, in the input or in a copy."""
    cdef int64_t s, c, column
    cdef Step* step = steps
    for s in range(problem.s):
        column = s * problem.dilation_w
        for c in range(problem.c):
            step.column = column
            if copied:
                step.x = (
                    (c * cut.phases + column % problem.stride_w) * cut.pitch
                    + column // problem.stride_w
                )
            else:
                step.x = c * x_strides.c + column
            step += 1


cdef void copy_halo(
    const floating* x, const InputStrides* x_strides, const ConvProblem* problem,
    const RowsCut* cut, floating* halo, int64_t at_d, int64_t at_h, int64_t at_w, int64_t rows,
) noexcept nogil:
    """Copy ``rows`` rows and what is under the tap planes of a group, with the padding."""
    cdef int64_t t, i, c, d, h, size
    for t in range(problem.t):
        d = at_d + t * problem.dilation_d
        for i in range(rows):
            h = at_h + i
            size = problem.w if 0 <= d < problem.d and 0 <= h < problem.h else 0
            for c in range(problem.c):
                copy_row(
                    halo + ((t * cut.halo_rows + i) * problem.c + c) * cut.phases * cut.pitch,
                    cut.pitch, cut.phases,
                    x + c * x_strides.c + (d * x_strides.d + h * x_strides.h if size else 0),
                    x_strides.w, problem.stride_w, at_w, size,
                )


cdef void gather_weights(
    const floating* weight, const WeightStrides* strides, const ConvProblem* problem,
    floating* gathered, int64_t channels,
) noexcept nogil:
    """The weights of some out-channels as ``[t][r][s][c][k]``."""
    cdef int64_t t, r, s, c, k, at = 0
    for t in range(problem.t):
        for r in range(problem.r):
            for s in range(problem.s):
                for c in range(problem.c):
                    for k in range(channels):
                        gathered[at] = weight[
                            k * strides.k + c * strides.c + t * strides.t + r * strides.r
                            + s * strides.s
                        ]
                        at += 1


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* weight,
    const WeightStrides* weight_strides, const floating* bias, floating* out,
    const OutputStrides* out_strides, const ConvProblem* problem, const RowsCut* cut,
    floating* local, int64_t activation, int64_t task,
) noexcept nogil:
    """One task; ``bias`` may be NULL. ``local`` begins with the steps (``fill_steps``), of the
    input and, behind them, of the copy."""
    cdef int64_t rest = task // cut.column_blocks, q = task % cut.column_blocks * cut.columns
    cdef int64_t p = rest % cut.row_blocks * cut.rows
    rest //= cut.row_blocks
    cdef int64_t o = rest % problem.o
    rest //= problem.o
    cdef int64_t k_first = rest % cut.k_blocks * cut.channels
    rest //= cut.k_blocks
    cdef int64_t g = rest % problem.g, n = rest // problem.g
    cdef int64_t k, k_last = min(k_first + cut.channels, problem.k), channels, phase, count
    cdef int64_t rows = min(cut.rows, problem.p - p), columns = min(cut.columns, problem.q - q)
    # Output rows that see the same input rows are `between` apart.
    cdef int64_t common = common_divisor(problem.stride_h, problem.dilation_h)
    cdef int64_t between = problem.dilation_h // common
    cdef int64_t span = (rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1
    cdef floating* gathered = local + cut.step_elements
    cdef floating* halo = gathered + cut.weight_elements
    cdef const Step* steps = <const Step*> local
    cdef Window window, part
    cdef Target target
    cdef int64_t x_p
    cdef bint in_place
    window.t, window.r, window.steps = problem.t, problem.r, problem.s * problem.c
    window.stride = problem.stride_h // common
    window.at_d = o * problem.stride_d - problem.pad_d
    window.at_h = p * problem.stride_h - problem.pad_h
    window.at_w = q * problem.stride_w - problem.pad_w
    window.d, window.h, window.w = problem.d, problem.h, problem.w
    window.dilation_d, window.dilation_h = problem.dilation_d, problem.dilation_h
    x += n * x_strides.n + g * problem.c * x_strides.c
    in_place = not copies(problem, x_strides) and problem.k == 1
    if not in_place:
        copy_halo(
            x, x_strides, problem, cut, halo, window.at_d, window.at_h, window.at_w, span,
        )
        x = halo
        x_p = problem.c * cut.phases * cut.pitch
        window.x_t = cut.halo_rows * x_p
        window.x_r = problem.dilation_h * x_p
        x_p *= problem.stride_h
    else:
        x += (
            window.at_d * x_strides.d + window.at_h * x_strides.h + window.at_w * x_strides.w
        )
        window.x_t = problem.dilation_d * x_strides.d
        window.x_r = problem.dilation_h * x_strides.h
        x_p = problem.stride_h * x_strides.h
    target.k, target.p, target.q = out_strides.k, between * out_strides.p, out_strides.q
    target.activation = activation
    out += (
        n * out_strides.n + g * problem.k * out_strides.k + o * out_strides.o
        + p * out_strides.p + q * out_strides.q
    )
    k = k_first
    while k < k_last:
        channels = min(k_last - k, DIRECT_CHANNELS)
        gather_weights(
            weight + (g * problem.k + k) * weight_strides.k, weight_strides, problem, gathered,
            channels,
        )
        for phase in range(min(between, rows)):
            part = window
            part.at_h += phase * problem.stride_h
            count = (rows - phase + between - 1) // between
            sum_plane(
                out + k * out_strides.k + phase * out_strides.p, &target, x + phase * x_p,
                gathered, bias + g * problem.k + k if bias else NULL, &part, steps, channels,
                count, columns, in_place,
            )
        k += channels


cdef void run_tasks(const ConvCall* call, floating* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef const RowsCut* cut = <const RowsCut*>call.cut
    cdef int64_t task, begin = 0, end = 0
    fill_steps(
        <Step*> local, &call.problem, cut, &call.x_strides,
        copies(&call.problem, &call.x_strides) or call.problem.k > 1,
    )
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <const floating*>call.x, &call.x_strides, <const floating*>call.weight,
                &call.weight_strides, <const floating*>call.bias, <floating*>call.out,
                &call.out_strides, &call.problem, cut, local, call.activation, task,
            )


def tiles(
    const floating[:, :, :, :, :] x, const floating[:, :, :, :, :] weight,
    const floating[::1] bias, floating[:, :, :, :, :] out, problem, taps, cut,
    floating[::1] local, int64_t activation, int64_t[::1] queue,
):
    """Run the tasks of the queue."""
    cdef ConvCall call
    cdef RowsCut cut_fields
    read_fields(problem, &call.problem)
    read_fields(cut, &cut_fields)
    read_strides(x.strides, sizeof(floating), &call.x_strides)
    read_strides(weight.strides, sizeof(floating), &call.weight_strides)
    read_strides(out.strides, sizeof(floating), &call.out_strides)
    call.x, call.weight = &x[0, 0, 0, 0, 0], &weight[0, 0, 0, 0, 0]
    call.bias = &bias[0] if bias.shape[0] else NULL
    call.out, call.cut, call.activation = &out[0, 0, 0, 0, 0], &cut_fields, activation
    with nogil:
        run_tasks(&call, &local[0], &queue[0])


_tasks = {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])}
fprop = drivers.fprop(rows_cut, tiles, compiled=drivers.Compiled(rows_cut, _tasks))
# Columns in the padding add a zero times the weight.
dgrad = adjoints.dgrad(fprop, skipping=_loop.dgrad, split=adjoints.in_rows)
