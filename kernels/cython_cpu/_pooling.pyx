"""Pooling: maxima, means, and maxima with their indices, output rows at a time.

x        (N, C, D, H, W)     any strides                                        IN
out      (N, C, O, P, Q)     any strides, overwritten                           OUT
indices  (N, C, O, P, Q)     int64, any strides, overwritten (argmax alone)     OUT
windows  (O + P + Q, 3)      first tap, end and extent of every window          IN
Accumulates in its dtype (int64 wraps): each of a window's columns over d and h, then these over w;
a sum begins with 0. Scratch: none, 16 KiB of stack. Task = (n, c, o, p), or (n, o, p) where the
channels lie side by side in memory.
A maximum is NaN where its window holds one, and the least value (index -1) where the window is
empty; an index is the flat d x h x w one of the first maximum, or of the last NaN, as in torch.
A mean of int64 is truncated toward zero, and 0 where the divisor is.
Assumes a validated PoolGeometry; raises nothing.
Why: whole vectors of columns are reduced over d and h without a shuffle, and shared by the windows
that overlap; where windows are evenly apart, vectors of those are reduced over w.
"""

from libc.stdint cimport int64_t

<<<<<<< HEAD
from cnnfast.kernels.cython_cpu._pool_windows cimport Pooling, find_stretch, slides_of
from cnnfast.kernels.cython_cpu._problem cimport next_tasks, number, read_fields, read_strides
=======
from cnnfast.kernels.cython_cpu._call cimport PoolCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    InputStrides, OutputStrides, PoolProblem, next_tasks, number, read_fields, read_strides,
)
>>>>>>> main

from cnnfast.kernels import drivers


cdef void tiles(
    Reduction reduction, const number* x, number* out, int64_t* indices, const Pooling* pooling,
    int64_t begin, int64_t end,
) noexcept nogil:
    """Tasks ``begin .. end-1``; ``indices`` are argmax's alone."""
    if reduction == MAX:
        max_rows(out, x, pooling, begin, end)
    elif reduction == MEAN:
        mean_rows(out, x, pooling, begin, end)
    else:
        argmax_rows(out, x, indices, pooling, begin, end)


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
    int64_t[:, :, :, :, :] indices, problem, const int64_t[:, ::1] windows, bint channels_last,
    int64_t[::1] queue,
):
    """Run the tasks of the queue; ``indices`` is None for all but argmax."""
<<<<<<< HEAD
    cdef Pooling pooling
    cdef int64_t* first_index = NULL
    cdef int64_t begin = 0, end = 0
    read_fields(problem, &pooling.problem)
    read_strides(x.strides, sizeof(number), &pooling.x)
    read_strides(out.strides, sizeof(number), &pooling.out)
    if indices is not None:
        read_strides(indices.strides, sizeof(int64_t), &pooling.indices)
        first_index = &indices[0, 0, 0, 0, 0]
    with nogil:
        pooling.windows = &windows[0, 0]
        pooling.in_w = &windows[pooling.problem.o + pooling.problem.p, 0]
        pooling.channels_last = channels_last
        find_stretch(&pooling)
        pooling.slides = slides_of(&pooling)
        while next_tasks(&queue[0], &begin, &end):
            tiles(
                reduction, &x[0, 0, 0, 0, 0], &out[0, 0, 0, 0, 0], first_index, &pooling,
                begin, end,
            )
=======
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
>>>>>>> main


def max_tiles(x, out, problem, windows, channels_last, queue):
    """Maxima of the queue's tasks."""
    reduce_rows(MAX, x, out, None, problem, windows, channels_last, queue)


def mean_tiles(x, out, problem, windows, channels_last, queue):
    """Means of the queue's tasks."""
    reduce_rows(MEAN, x, out, None, problem, windows, channels_last, queue)


def argmax_tiles(x, out, indices, problem, windows, channels_last, queue):
    """Maxima and their indices of the queue's tasks."""
    reduce_rows(ARGMAX, x, out, indices, problem, windows, channels_last, queue)


<<<<<<< HEAD
pool = drivers.pool({"max": max_tiles, "mean": mean_tiles, "argmax": argmax_tiles})
=======
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
>>>>>>> main
