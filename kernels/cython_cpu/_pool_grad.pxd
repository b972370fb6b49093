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
    #: Planes that ``writing`` describes, from those of ``reading``; ``apart`` as ``are_apart`` says.
    void find_and_scatter(
        void* to, const void* grad, const void* x, const Pooling* writing, const Pooling* reading,
        int64_t channels, bint apart
    ) noexcept nogil
    bint are_apart(const Pooling* reading, const Pooling* writing) noexcept nogil
    void spread_planes(
        void* x, const void* grad, const Pooling* pooling, int64_t channels
    ) noexcept nogil


#: Channels that ``find_and_scatter`` is given, no more than it keeps places.
cdef enum:
    MOST_CHANNELS = 256


cdef enum Adjoint:
    SPREAD
    SCATTER
    FIND


cdef void tiles(
    Adjoint adjoint, const floating* grad_output, const void* second, floating* out,
    const Pooling* pooling, const Pooling* reading, int64_t block, int64_t begin, int64_t end,
) noexcept nogil
