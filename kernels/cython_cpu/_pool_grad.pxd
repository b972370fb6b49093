from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._pooling cimport Stretch
from cnnfast.kernels.cython_cpu._problem cimport InputStrides, OutputStrides, PoolProblem


cdef void scatter_plane(
    const floating* grad_output, const OutputStrides* grad_strides, const int64_t* indices,
    const OutputStrides* indices_strides, floating* out, const InputStrides* out_strides,
    const PoolProblem* problem, int64_t task,
) noexcept nogil

cdef void spread_plane(
    const floating* grad_output, const OutputStrides* grad_strides, floating* out,
    const InputStrides* out_strides, const PoolProblem* problem, const int64_t* windows,
    const Stretch* inner, int64_t task,
) noexcept nogil
