"""A call of a pooling row as its loop body reads it (see ``_call``)."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._pool_windows cimport Pooling


cdef struct PoolCall:
    #: ``indices`` is NULL where no one wants them.
    const void* x
    void* out
    int64_t* indices
    int64_t reduction
    Pooling pooling


#: Runs the tasks of a queue; ``x`` is the call's, of the function's dtype.
ctypedef void (*RunPool)(const PoolCall* call, const void* x, int64_t* queue) noexcept nogil
