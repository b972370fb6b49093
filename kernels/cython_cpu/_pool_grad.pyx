"""The adjoints of pooling: gradients scattered to where maxima are, or spread over windows.

grad_output  (N, C, O, P, Q)    any strides                                         IN
indices      (N, C, O, P, Q)    int64, any strides: flat d x h x w (scatter alone)  IN
x            (N, C, D, H, W)    any strides: in place of the indices (find alone)   IN
windows      (O + P + Q, 3)     first tap, end and extent (spread and find)         IN
out          (N, C, D, H, W)    any strides, overwritten                            OUT
Accumulates in its dtype: scatter and find in the order o, p, q; spread sums up what a row of gradients gives
to a column, in the order of q, and adds these in the order o, p. Scratch: none, 17 KiB of stack.
Task = (n, block of channels), whole planes of ``out``.
An index outside of the plane (-1: its window was empty) is skipped.
Assumes a validated PoolGeometry; raises nothing.
Why: a plane is one task's, so windows that overlap need no atomic adds; where channels lie side by
side, several planes are filled together, or every cache line would be visited for each of them.
Indices that are found here are used a row at a time; an array of them, 8 bytes an output, would be
written and read again.
"""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from cnnfast.kernels.cython_cpu._call cimport PoolCall, address
from cnnfast.kernels.cython_cpu._pool_windows cimport Pooling, find_stretch
from cnnfast.kernels.cython_cpu._problem cimport next_tasks

from cnnfast.kernels import pool_drivers


cdef void tiles(
    Adjoint adjoint, const floating* grad_output, const void* second, floating* out,
    const Pooling* pooling, const Pooling* reading, int64_t block, int64_t begin, int64_t end,
) noexcept nogil:
    """Tasks ``begin .. end-1``, of ``block`` channels each; ``second`` is scatter's indices or
    find's input, which ``reading`` describes."""
    cdef int64_t blocks = (pooling.problem.c + block - 1) // block
    cdef int64_t n, c, count, channels
    cdef bint apart = adjoint == FIND and block == 1 and are_apart(reading, pooling)
    cdef const floating* grad
    cdef floating* to
    while begin < end:
        n, c = begin // blocks, begin % blocks * block
        # Blocks that lie side by side are one.
        count = 1 if block == 1 else min(end - begin, blocks - begin % blocks)
        if adjoint == FIND and block > 1:
            count = min(count, MOST_CHANNELS // block)
        begin += count
        channels = min(count * block, pooling.problem.c - c)
        to = out + n * pooling.x.n + c * pooling.x.c
        grad = grad_output + n * pooling.out.n + c * pooling.out.c
        if adjoint == SPREAD:
            spread_planes(to, grad, pooling, channels)
        elif adjoint == SCATTER:
            scatter_planes(
                to, grad, <const int64_t*>second + n * pooling.indices.n + c * pooling.indices.c,
                pooling, channels,
            )
        else:
            find_and_scatter(
                to, grad, <const floating*>second + n * reading.x.n + c * reading.x.c, pooling,
                reading, channels, apart,
            )


cdef void run_tasks(
    const PoolCall* call, const floating* grad_output, int64_t* queue
) noexcept nogil:
    """Run the tasks of the queue."""
    cdef Pooling pooling, reading
    cdef int64_t begin = 0, end = 0
    memcpy(&pooling.problem, &call.problem, sizeof(pooling.problem))
    memcpy(&pooling.out, &call.x_strides, sizeof(pooling.out))
    memcpy(&pooling.x, &call.out_strides, sizeof(pooling.x))
    memcpy(&pooling.indices, &call.indices_strides, sizeof(pooling.indices))
    pooling.windows = call.windows
    pooling.in_w = call.windows + 3 * (call.problem.o + call.problem.p)
    if call.reduction != SCATTER:
        find_stretch(&pooling)
    reading = pooling
    if call.reduction == FIND:
        memcpy(&reading.x, &call.indices_strides, sizeof(reading.x))
    while next_tasks(queue, &begin, &end):
        tiles(
            <Adjoint>call.reduction, grad_output, <const void*>call.indices, <floating*>call.out,
            &pooling, &reading, call.block, begin, end,
        )


_tasks = {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])}
_codes = {"spread": SPREAD, "scatter": SCATTER, "find": FIND}
pool_grad = pool_drivers.pool_grad(pool_drivers.CompiledPool(_tasks, _codes))
