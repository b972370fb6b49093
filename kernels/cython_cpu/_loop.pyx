"""The seven plain loops, compiled as they stand: the baseline of every comparison.

x       (N, C, D, H, W)      any strides                 IN
weight  (K, C/G, T, R, S)    any strides                 IN
bias    (K,) or (0,)         contiguous                  IN
out     (N, K, O, P, Q)      any strides, overwritten    OUT
Accumulates in its dtype (int64 wraps), in the order c, t, r, s. No scratch. Task = (n, k), an
output plane. Assumes a validated ConvGeometry; raises nothing.
"""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, WeightStrides, next_tasks, number,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking import plain_cut


cdef extern from *:
    """
    #define apply(value, activation) ((void (*)(void *, int64_t))(activation))(value, 1)
    """
    void apply(void* value, int64_t activation) noexcept nogil


cdef number activate(number y, int64_t activation) noexcept nogil:
    """The activation as in ``vectors.h``."""
    if activation > 2:
        apply(&y, activation)
        return y
    if activation >= 1 and y < 0:
        y = 0
    if activation == 2 and y > 6:
        y = 6
    return y


cdef void tile(
    const number* x, const InputStrides* x_strides, const number* weight,
    const WeightStrides* weight_strides, const number* bias, number* out,
    const OutputStrides* out_strides, const ConvProblem* problem, int64_t activation, int64_t task,
) noexcept nogil:
    """One task; ``bias`` may be NULL."""
    cdef int64_t k = task % (problem.g * problem.k)
    cdef int64_t n = task // (problem.g * problem.k)
    cdef int64_t o, p, q, c, t, r, s, d, h, w
    cdef number y
    x += n * x_strides.n + k // problem.k * problem.c * x_strides.c
    weight += k * weight_strides.k
    out += n * out_strides.n + k * out_strides.k
    for o in range(problem.o):
        for p in range(problem.p):
            for q in range(problem.q):
                y = 0
                for c in range(problem.c):
                    for t in range(problem.t):
                        d = o * problem.stride_d - problem.pad_d + t * problem.dilation_d
                        for r in range(problem.r):
                            h = p * problem.stride_h - problem.pad_h + r * problem.dilation_h
                            for s in range(problem.s):
                                w = q * problem.stride_w - problem.pad_w + s * problem.dilation_w
                                if (0 <= d < problem.d and 0 <= h < problem.h
                                        and 0 <= w < problem.w):
                                    y += weight[
                                        c * weight_strides.c + t * weight_strides.t
                                        + r * weight_strides.r + s * weight_strides.s
                                    ] * x[
                                        c * x_strides.c + d * x_strides.d + h * x_strides.h
                                        + w * x_strides.w
                                    ]
                if bias:
                    y += bias[k]
                out[o * out_strides.o + p * out_strides.p + q * out_strides.q] = activate(
                    y, activation
                )


cdef void run_tasks(const ConvCall* call, number* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef int64_t task, begin = 0, end = 0
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <const number*>call.x, &call.x_strides, <const number*>call.weight,
                &call.weight_strides, <const number*>call.bias, <number*>call.out,
                &call.out_strides, &call.problem, call.activation, task,
            )


_tasks = {
    "float32": address(<void*>run_tasks[float]),
    "float64": address(<void*>run_tasks[double]),
    "int64": address(<void*>run_tasks[int64_t]),
}
_skipping = drivers.fprop(plain_cut, _tasks)
fprop = drivers.multiplying_padding(_skipping)
dgrad = adjoints.dgrad(_skipping)
wgrad = adjoints.wgrad(fprop)
