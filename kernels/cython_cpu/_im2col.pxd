from cython cimport floating
from libc.stdint cimport int64_t, uint64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, GemmCut, InputStrides, OutputStrides,
)


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* packed, const floating* bias,
    floating* out, const OutputStrides* out_strides, const ConvProblem* problem,
    const int64_t* taps, const GemmCut* cut, floating* local, int64_t activation, int64_t task,
    uint64_t* inside, int64_t* masked,
) noexcept nogil
