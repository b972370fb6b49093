"""Pooling: maxima, means, and maxima with their indices, output rows at a time.

x        (N, C, D, H, W)     any strides                                        IN
out      (N, C, O, P, Q)     any strides, overwritten                           OUT
indices  (N, C, O, P, Q)     int64, any strides, overwritten (argmax alone)     OUT
windows  (O + P + Q, 3)      first tap, end and extent of every window          IN
Accumulates in its dtype (int64 wraps): each of a window's columns over d and h, then these over w;
a sum begins with 0. Scratch: none, 16 KiB of stack. Task = (n, c, o, p), or (n, o, p, c) where
channels lie side by side in memory.
A maximum is NaN where its window holds one, and the least value (index -1) where the window is
empty; an index is the flat d x h x w one of the first maximum, or of the last NaN, as in torch.
A mean of int64 is truncated toward zero, and 0 where the divisor is.
Assumes a validated PoolGeometry; raises nothing.
Why: whole vectors of columns are reduced over d and h without a shuffle, and shared by the windows
that overlap; where windows are evenly apart, vectors of those are reduced over w.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from cnnfast.kernels.cython_cpu._call cimport PoolCall, address
from cnnfast.kernels.cython_cpu._pool_windows cimport Pooling, find_layout, find_stretch
from cnnfast.kernels.cython_cpu._problem cimport next_tasks, number

from cnnfast.kernels import pool_drivers


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
    cdef Pooling pooling
    cdef int64_t begin = 0, end = 0
    memcpy(&pooling.problem, &call.problem, sizeof(pooling.problem))
    memcpy(&pooling.x, &call.x_strides, sizeof(pooling.x))
    memcpy(&pooling.out, &call.out_strides, sizeof(pooling.out))
    memcpy(&pooling.indices, &call.indices_strides, sizeof(pooling.indices))
    pooling.windows = call.windows
    pooling.in_w = call.windows + 3 * (call.problem.o + call.problem.p)
    find_stretch(&pooling)
    find_layout(&pooling, call.indices != NULL)
    while next_tasks(queue, &begin, &end):
        tiles(
            <Reduction>call.reduction, x, <number*>call.out, call.indices, &pooling, begin, end
        )


_tasks = {
    "float32": address(<void*>run_tasks[float]),
    "float64": address(<void*>run_tasks[double]),
    "int64": address(<void*>run_tasks[int64_t]),
}
_codes = {"max": MAX, "mean": MEAN, "argmax": ARGMAX}
pool = pool_drivers.pool(pool_drivers.CompiledPool(_tasks, _codes))
