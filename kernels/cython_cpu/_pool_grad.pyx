"""The adjoints of pooling: gradients scattered to where maxima were, or spread over windows.

grad_output  (N, C, O, P, Q)    any strides                                         IN
indices      (N, C, O, P, Q)    int64, any strides: flat d x h x w (scatter alone)  IN
windows      (O + P + Q, 3)     first tap, end and extent (spread alone)            IN
out          (N, C, D, H, W)    any strides, overwritten                            OUT
Accumulates in its dtype, in the order o, p, q. No scratch. Task = (n, c), a plane of ``out``.
An index outside of the plane (-1: its window was empty) is skipped.
Assumes a validated PoolGeometry; raises nothing.
Why: a plane is one task, so windows that overlap need no atomic adds; windows of one shape share
their gradients out a row at a time, tap by tap, as the forward row reduces them.
"""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._pooling cimport (
    Stretch, Window, longest_stretch, spread_row, taps_of,
)
from cnnfast.kernels.cython_cpu._problem cimport (
    InputStrides, OutputStrides, PoolProblem, next_tasks, read_fields, read_strides,
)

from cnnfast.kernels import drivers


cdef void clear_plane(
    floating* out, const InputStrides* strides, const PoolProblem* problem
) noexcept nogil:
    cdef int64_t d, h, w
    cdef floating* row
    for d in range(problem.d):
        for h in range(problem.h):
            row = out + d * strides.d + h * strides.h
            if strides.w == 1:
                memset(row, 0, problem.w * sizeof(floating))
            else:
                for w in range(problem.w):
                    row[w * strides.w] = 0


cdef void scatter_plane(
    const floating* grad_output, const OutputStrides* grad_strides, const int64_t* indices,
    const OutputStrides* indices_strides, floating* out, const InputStrides* out_strides,
    const PoolProblem* problem, int64_t task,
) noexcept nogil:
    """One task."""
    cdef int64_t n = task // problem.c, c = task % problem.c
    cdef int64_t size = problem.d * problem.h * problem.w
    cdef bint flat = (
        out_strides.h == problem.w * out_strides.w
        and out_strides.d == problem.h * out_strides.h
    )
    cdef int64_t o, p, q, at
    cdef floating grad
    grad_output += n * grad_strides.n + c * grad_strides.k
    indices += n * indices_strides.n + c * indices_strides.k
    out += n * out_strides.n + c * out_strides.c
    clear_plane(out, out_strides, problem)
    for o in range(problem.o):
        for p in range(problem.p):
            for q in range(problem.q):
                at = indices[
                    o * indices_strides.o + p * indices_strides.p + q * indices_strides.q
                ]
                if not 0 <= at < size:
                    continue
                if flat:
                    at *= out_strides.w
                else:
                    at = (
                        at // (problem.h * problem.w) * out_strides.d
                        + at // problem.w % problem.h * out_strides.h
                        + at % problem.w * out_strides.w
                    )
                grad = grad_output[
                    o * grad_strides.o + p * grad_strides.p + q * grad_strides.q
                ]
                out[at] += grad


cdef void spread_plane(
    const floating* grad_output, const OutputStrides* grad_strides, floating* out,
    const InputStrides* out_strides, const PoolProblem* problem, const int64_t* windows,
    const Stretch* inner, int64_t task,
) noexcept nogil:
    """One task; ``inner`` is the ``longest_stretch`` of the rows."""
    cdef int64_t n = task // problem.c, c = task % problem.c
    cdef int64_t o, p, q, columns, step
    cdef const int64_t* in_d
    cdef const int64_t* in_h
    cdef const int64_t* in_w
    cdef Window window
    window.x_d = problem.dilation_d * out_strides.d
    window.x_h = problem.dilation_h * out_strides.h
    window.x_w = problem.dilation_w * out_strides.w
    grad_output += n * grad_strides.n + c * grad_strides.k
    out += n * out_strides.n + c * out_strides.c
    clear_plane(out, out_strides, problem)
    for o in range(problem.o):
        in_d = windows + 3 * o
        window.d = taps_of(in_d, problem.dilation_d)
        for p in range(problem.p):
            in_h = windows + 3 * (problem.o + p)
            window.h = taps_of(in_h, problem.dilation_h)
            q = 0
            while q < problem.q:
                columns, step = 1, 0
                if q == inner.first:
                    columns, step = inner.end - inner.first, inner.step
                in_w = windows + 3 * (problem.o + problem.p + q)
                window.w = taps_of(in_w, problem.dilation_w)
                spread_row(
                    out + in_d[0] * out_strides.d + in_h[0] * out_strides.h
                    + in_w[0] * out_strides.w,
                    step * out_strides.w, columns,
                    grad_output + o * grad_strides.o + p * grad_strides.p + q * grad_strides.q,
                    grad_strides.q, &window, problem.divisor or in_d[2] * in_h[2] * in_w[2],
                )
                q += columns


def scatter(
    const floating[:, :, :, :, :] grad_output, const int64_t[:, :, :, :, :] indices,
    floating[:, :, :, :, :] out, problem, int64_t[::1] queue,
):
    """Run the tasks of the queue."""
    cdef PoolProblem fields
    cdef OutputStrides grad_strides, indices_strides
    cdef InputStrides out_strides
    cdef int64_t task, begin = 0, end = 0
    read_fields(problem, &fields)
    read_strides(grad_output.strides, sizeof(floating), &grad_strides)
    read_strides(indices.strides, sizeof(int64_t), &indices_strides)
    read_strides(out.strides, sizeof(floating), &out_strides)
    with nogil:
        while next_tasks(&queue[0], &begin, &end):
            for task in range(begin, end):
                scatter_plane(
                    &grad_output[0, 0, 0, 0, 0], &grad_strides, &indices[0, 0, 0, 0, 0],
                    &indices_strides, &out[0, 0, 0, 0, 0], &out_strides, &fields, task,
                )


def spread(
    const floating[:, :, :, :, :] grad_output, floating[:, :, :, :, :] out, problem,
    const int64_t[:, ::1] windows, int64_t[::1] queue,
):
    """Run the tasks of the queue."""
    cdef PoolProblem fields
    cdef OutputStrides grad_strides
    cdef InputStrides out_strides
    cdef Stretch inner
    cdef int64_t task, begin = 0, end = 0
    read_fields(problem, &fields)
    read_strides(grad_output.strides, sizeof(floating), &grad_strides)
    read_strides(out.strides, sizeof(floating), &out_strides)
    with nogil:
        inner = longest_stretch(&windows[fields.o + fields.p, 0], fields.q)
        while next_tasks(&queue[0], &begin, &end):
            for task in range(begin, end):
                spread_plane(
                    &grad_output[0, 0, 0, 0, 0], &grad_strides, &out[0, 0, 0, 0, 0], &out_strides,
                    &fields, &windows[0, 0], &inner, task,
                )


pool_grad = drivers.pool_grad({"scatter": scatter, "spread": spread})
