"""Direct gradient of the input for a column stride of 2 and few channels: nothing is copied.

grad_output  (N, K, O, P, Q)    any strides, columns next to each other             IN
weight       (K, C/G, T, R, S)  any strides                                         IN
out          (N, C, D, H, W)    any strides, columns next to each other             OUT
Accumulates in its dtype, in the order t, r, s downwards, then k. Scratch: none. Task = (n, g, block
of channels, d, block of rows). Gradients outside of a row count as zeros that are multiplied, so
weights must be finite. Assumes a validated ConvGeometry; raises nothing.
Why: as fprops of stride 1 the phases of a depthwise 3x3/2 either write every second column or go
through an array of their own, which took longer than the sums. Source: Dumoulin and Visin 2016.
"""

from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, DgradCut, InputStrides, OutputStrides, WeightStrides, next_tasks,
)

from cnnfast.kernels import drivers
from cnnfast.kernels.blocking_gradients import dgrad_cut
from cnnfast.kernels.cython_cpu import _direct


cdef extern from *:
    """
    #define LOOPS "dgrad_direct.h"
    #define WITH_AVX512
    #include "instruction_sets.h"
    """
    ctypedef struct Source:
        int64_t most
        const int64_t* end
        const int64_t* grad
        const int64_t* weight
        int64_t taps, filters, columns
        int64_t grad_k, weight_k, weight_c, weight_s

    ctypedef struct Target:
        int64_t channels, rows, width, pad
        int64_t step_c, step_h

    void fill_rows(
        void* out, const Target* target, const void* grad, const void* weight, const Source* source
    ) noexcept nogil


cdef enum:
    #: As ``blocking_gradients.PAIR_PLACES``: rows of a task times taps (t, r).
    PLACES = 512


cdef void find_places(
    const ConvProblem* problem, const OutputStrides* grad_strides, const WeightStrides* strides,
    int64_t d, int64_t h, int64_t rows, int64_t* end, int64_t* grad, int64_t* weight,
) noexcept nogil:
    """Note the gradients and weights that the result rows (d, h), (d, h + 1) ... read, the last taps
    first: those of row i are at ``i * t * r`` .. ``end[i] - 1``."""
    cdef int64_t most = problem.t * problem.r
    cdef int64_t t, r, o, p, row
    for row in range(rows):
        end[row] = row * most
    for t in range(problem.t - 1, -1, -1):
        o = d + problem.pad_d - t * problem.dilation_d
        if o < 0 or o % problem.stride_d or o // problem.stride_d >= problem.o:
            continue
        o = o // problem.stride_d * grad_strides.o
        for r in range(problem.r - 1, -1, -1):
            row = r * problem.dilation_h - problem.pad_h - h
            p = max(-row + problem.stride_h - 1, 0) // problem.stride_h
            row += p * problem.stride_h
            while row < rows and p < problem.p:
                grad[end[row]] = o + p * grad_strides.p
                weight[end[row]] = t * strides.t + r * strides.r
                end[row] += 1
                row += problem.stride_h
                p += 1


cdef void tile(
    const floating* grad_output, const OutputStrides* grad_strides, const floating* weight,
    const WeightStrides* strides, floating* out, const InputStrides* out_strides,
    const ConvProblem* problem, const DgradCut* cut, int64_t task,
) noexcept nogil:
    """One task."""
    cdef int64_t end[PLACES]
    cdef int64_t grad[PLACES]
    cdef int64_t taps[PLACES]
    cdef int64_t h = task % cut.row_blocks * cut.rows
    cdef int64_t d, c, g, row
    cdef Source source
    cdef Target target
    task //= cut.row_blocks
    d = task % problem.d
    task //= problem.d
    c = task % cut.channel_blocks * cut.channels
    task //= cut.channel_blocks
    g = task % problem.g
    task //= problem.g
    target.channels, target.rows = min(cut.channels, problem.c - c), min(cut.rows, problem.h - h)
    target.width, target.pad = problem.w, problem.pad_w
    target.step_c, target.step_h = out_strides.c, out_strides.h
    find_places(problem, grad_strides, strides, d, h, target.rows, end, grad, taps)
    source.most, source.end, source.grad, source.weight = (
        problem.t * problem.r, end, grad, taps
    )
    source.taps, source.filters, source.columns = problem.s, problem.k, problem.q
    source.grad_k, source.weight_k = grad_strides.k, strides.k
    source.weight_c, source.weight_s = strides.c, strides.s
    fill_rows(
        out + task * out_strides.n + (g * problem.c + c) * out_strides.c + d * out_strides.d
        + h * out_strides.h,
        &target, grad_output + task * grad_strides.n + g * problem.k * grad_strides.k,
        weight + g * problem.k * strides.k + c * strides.c, &source,
    )


cdef void run_tasks(const ConvCall* call, floating* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef int64_t task, begin = 0, end = 0
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <const floating*>call.x, <const OutputStrides*>&call.x_strides,
                <const floating*>call.weight, &call.weight_strides, <floating*>call.out,
                <const InputStrides*>&call.out_strides, &call.problem, <const DgradCut*>call.cut,
                task,
            )


_tasks = {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])}
dgrad = drivers.dgrad_in_pairs(dgrad_cut, _tasks, otherwise=_direct.dgrad)
