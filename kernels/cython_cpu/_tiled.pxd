from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, TiledCut, WeightStrides,
)


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* weight,
    const WeightStrides* weight_strides, const floating* bias, floating* out,
    const OutputStrides* out_strides, const ConvProblem* problem, const TiledCut* cut,
    floating* local, int64_t activation, int64_t task, int64_t* copied,
) noexcept nogil
