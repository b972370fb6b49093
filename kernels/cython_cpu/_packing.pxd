from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport ConvProblem, WeightStrides
from cnnfast.kernels.cython_cpu._stored cimport stored


cdef void pack_panel(
    const stored* weight, const WeightStrides* strides, void* packed,
    const ConvProblem* problem, int64_t width, int64_t panel,
) noexcept nogil
