from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, WeightStrides, WgradDirectCut,
)


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* grad_output,
    const OutputStrides* grad_strides, floating* sums, floating* out,
    const WeightStrides* out_strides, const ConvProblem* problem, const int64_t* taps,
    const WgradDirectCut* cut, floating* local, int64_t task,
) noexcept nogil

cdef void finish_filter(
    const floating* sums, floating* out, const WeightStrides* strides, const ConvProblem* problem,
    const WgradDirectCut* cut, int64_t k,
) noexcept nogil
