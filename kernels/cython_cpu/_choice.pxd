"""Which row takes a problem, without Python: what ``costs`` says, for calls from C."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._cuts cimport Algorithm
from cnnfast.kernels.cython_cpu._problem cimport ConvProblem, InputStrides


cdef bint reads_padding(const ConvProblem* problem) noexcept nogil
cdef double tiled_cost(
    const ConvProblem* problem, const InputStrides* strides, int64_t itemsize
) noexcept nogil
cdef double im2col_cost(
    const ConvProblem* problem, const InputStrides* strides, int64_t itemsize
) noexcept nogil
cdef double rows_cost(
    const ConvProblem* problem, const InputStrides* strides, int64_t itemsize
) noexcept nogil
cdef Algorithm choose(
    const ConvProblem* problem, const InputStrides* strides, int64_t itemsize,
    bint with_loop, double* cost,
) noexcept nogil
