from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._pool_windows cimport Pooling


cdef extern from *:
    """
    #define LOOPS "pool_grad.h"
    #define WITH_AVX512
    #include "instruction_sets.h"
    """
    void scatter_planes(
        void* x, const void* grad, const int64_t* indices, const Pooling* pooling, int64_t channels
    ) noexcept nogil
    void spread_planes(
        void* x, const void* grad, const Pooling* pooling, int64_t channels
    ) noexcept nogil


cdef void tiles(
    const floating* grad_output, const int64_t* indices, floating* out, const Pooling* pooling,
    int64_t block, int64_t begin, int64_t end,
) noexcept nogil
