from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, TiledCut, WeightStrides,
)
from cnnfast.kernels.cython_cpu._stored cimport stored


cdef void tile(
    const stored* x, const InputStrides* x_strides, const void* weight,
    const WeightStrides* weight_strides, const char* bias, char* out,
    const OutputStrides* out_strides, const ConvProblem* problem, const TiledCut* cut,
    char* local, int64_t activation, int64_t task, int64_t* copied,
) noexcept nogil
