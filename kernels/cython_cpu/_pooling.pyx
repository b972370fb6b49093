"""Pooling: maxima, means, and maxima with their indices, an output row at a time.

x        (N, C, D, H, W)     any strides                                        IN
out      (N, C, O, P, Q)     any strides, overwritten                           OUT
indices  (N, C, O, P, Q)     int64, any strides, overwritten (argmax alone)     OUT
windows  (O + P + Q, 3)      first tap, end and extent of every window          IN
Accumulates in its dtype (int64 wraps), in the order d, h, w. No scratch. Task = (n, c, o, p).
A maximum is NaN where its window holds one, and the least value (index -1) where the window is
empty; an index is the flat d x h x w one of the first maximum, or of the last NaN, as in torch.
A mean of int64 is truncated toward zero, and 0 where the divisor is.
Assumes a validated PoolGeometry; raises nothing.
Why: most windows of a row have the same shape and are evenly apart, so whole vectors of them are
reduced at once; those at the borders, and adaptive ones, go one by one.
"""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._call cimport PoolCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    InputStrides, OutputStrides, PoolProblem, next_tasks, number, read_fields, read_strides,
)

from cnnfast.kernels import drivers


cdef Stretch longest_stretch(const int64_t* windows, int64_t columns) noexcept nogil:
    """The longest stretch of an output row, given the row's windows."""
    cdef Stretch longest, here
    cdef const int64_t* window
    longest.first = longest.end = longest.step = 0
    here.end = 0
    while here.end < columns:
        here.first, here.step = here.end, 0
        here.end += 1
        window = windows + 3 * here.first
        if here.end < columns:
            here.step = window[3] - window[0]
        while (
            here.end < columns
            and windows[3 * here.end] - windows[3 * here.end - 3] == here.step
            and windows[3 * here.end + 1] - windows[3 * here.end] == window[1] - window[0]
            and windows[3 * here.end + 2] == window[2]
        ):
            here.end += 1
        if here.end - here.first > longest.end - longest.first:
            longest = here
    return longest


cdef int64_t taps_of(const int64_t* window, int64_t dilation) noexcept nogil:
    return (window[1] - window[0] + dilation - 1) // dilation


cdef void tile(
    Reduction reduction, const number* x, const InputStrides* x_strides, number* out,
    const OutputStrides* out_strides, int64_t* indices, const OutputStrides* indices_strides,
    const PoolProblem* problem, const int64_t* windows, const Stretch* inner, int64_t task,
) noexcept nogil:
    """One task; ``inner`` is the ``longest_stretch`` of the rows, ``indices`` argmax's alone."""
    cdef int64_t plane = task // problem.p, p = task % problem.p
    cdef int64_t channel = plane // problem.o, o = plane % problem.o
    cdef int64_t n = channel // problem.c, c = channel % problem.c
    cdef const int64_t* in_d = windows + 3 * o
    cdef const int64_t* in_h = windows + 3 * (problem.o + p)
    cdef const int64_t* in_w
    cdef int64_t q = 0, columns, first, step
    cdef Window window
    window.d, window.h = taps_of(in_d, problem.dilation_d), taps_of(in_h, problem.dilation_h)
    window.index_d = problem.dilation_d * problem.h * problem.w
    window.index_h = problem.dilation_h * problem.w
    window.index_w = problem.dilation_w
    window.x_d = problem.dilation_d * x_strides.d
    window.x_h = problem.dilation_h * x_strides.h
    window.x_w = problem.dilation_w * x_strides.w
    x += n * x_strides.n + c * x_strides.c + in_d[0] * x_strides.d + in_h[0] * x_strides.h
    out += n * out_strides.n + c * out_strides.k + o * out_strides.o + p * out_strides.p
    if reduction == ARGMAX:
        indices += (
            n * indices_strides.n + c * indices_strides.k + o * indices_strides.o
            + p * indices_strides.p
        )
    while q < problem.q:
        columns, step = 1, 0
        if q == inner.first:
            columns, step = inner.end - inner.first, inner.step
        in_w = windows + 3 * (problem.o + problem.p + q)
        window.w = taps_of(in_w, problem.dilation_w)
        if reduction == MAX:
            max_row(
                out + q * out_strides.q, out_strides.q, columns, x + in_w[0] * x_strides.w,
                step * x_strides.w, &window,
            )
        elif reduction == MEAN:
            mean_row(
                out + q * out_strides.q, out_strides.q, columns, x + in_w[0] * x_strides.w,
                step * x_strides.w, &window, problem.divisor or in_d[2] * in_h[2] * in_w[2],
            )
        else:
            first = (in_d[0] * problem.h + in_h[0]) * problem.w + in_w[0]
            argmax_row(
                out + q * out_strides.q, out_strides.q, columns, x + in_w[0] * x_strides.w,
                step * x_strides.w, &window, indices + q * indices_strides.q, indices_strides.q,
                first, step,
            )
        q += columns


cdef void run_tasks(const PoolCall* call, const number* x, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef const PoolProblem* problem = &call.problem
    cdef Stretch inner = longest_stretch(
        call.windows + 3 * (problem.o + problem.p), problem.q
    )
    cdef int64_t task, begin = 0, end = 0
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <Reduction>call.reduction, x, &call.x_strides, <number*>call.out,
                &call.out_strides, call.indices, &call.indices_strides, problem, call.windows,
                &inner, task,
            )


def reduce_rows(
    Reduction reduction, const number[:, :, :, :, :] x, number[:, :, :, :, :] out,
    int64_t[:, :, :, :, :] indices, problem, const int64_t[:, ::1] windows,
    int64_t[::1] queue,
):
    """Run the tasks of the queue; ``indices`` is None for all but argmax."""
    cdef PoolCall call
    read_fields(problem, &call.problem)
    read_strides(x.strides, sizeof(number), &call.x_strides)
    read_strides(out.strides, sizeof(number), &call.out_strides)
    call.indices = NULL
    if indices is not None:
        read_strides(indices.strides, sizeof(int64_t), &call.indices_strides)
        call.indices = &indices[0, 0, 0, 0, 0]
    call.x, call.out, call.windows = &x[0, 0, 0, 0, 0], &out[0, 0, 0, 0, 0], &windows[0, 0]
    call.reduction = reduction
    with nogil:
        run_tasks(&call, &x[0, 0, 0, 0, 0], &queue[0])


def max_rows(x, out, problem, windows, queue):
    """Maxima of the queue's tasks."""
    reduce_rows(MAX, x, out, None, problem, windows, queue)


def mean_rows(x, out, problem, windows, queue):
    """Means of the queue's tasks."""
    reduce_rows(MEAN, x, out, None, problem, windows, queue)


def argmax_rows(x, out, indices, problem, windows, queue):
    """Maxima and their indices of the queue's tasks."""
    reduce_rows(ARGMAX, x, out, indices, problem, windows, queue)


_tasks = {
    "float32": address(<void*>run_tasks[float]),
    "float64": address(<void*>run_tasks[double]),
    "int64": address(<void*>run_tasks[int64_t]),
}
_codes = {"max": MAX, "mean": MEAN, "argmax": ARGMAX}
pool = drivers.pool(
    {"max": max_rows, "mean": mean_rows, "argmax": argmax_rows},
    drivers.CompiledPool(_tasks, _codes),
)
