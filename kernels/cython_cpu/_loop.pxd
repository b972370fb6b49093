from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, WeightStrides, number,
)


cdef void tile(
    const number* x, const InputStrides* x_strides, const number* weight,
    const WeightStrides* weight_strides, const number* bias, number* out,
    const OutputStrides* out_strides, const ConvProblem* problem, int64_t activation, int64_t task,
) noexcept nogil
