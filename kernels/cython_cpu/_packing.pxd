from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport ConvProblem, WeightStrides


cdef void pack_panel(
    const floating* weight, const WeightStrides* strides, floating* packed,
    const ConvProblem* problem, int64_t width, int64_t panel,
) noexcept nogil
