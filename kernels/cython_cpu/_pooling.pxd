from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._pool_windows cimport Pooling
from cnnfast.kernels.cython_cpu._problem cimport number


cdef extern from *:
    """
    #define LOOPS "pooling.h"
    #define WITH_INT64
    #define WITH_AVX512
    #include "instruction_sets.h"
    """
    void max_rows(
        void* out, const void* x, const Pooling* pooling, int64_t begin, int64_t end
    ) noexcept nogil
    void mean_rows(
        void* out, const void* x, const Pooling* pooling, int64_t begin, int64_t end
    ) noexcept nogil
    void argmax_rows(
        void* out, const void* x, int64_t* indices, const Pooling* pooling, int64_t begin,
        int64_t end
    ) noexcept nogil


cdef enum Reduction:
    MAX
    MEAN
    ARGMAX


cdef void tiles(
    Reduction reduction, const number* x, number* out, int64_t* indices, const Pooling* pooling,
    int64_t begin, int64_t end,
) noexcept nogil
