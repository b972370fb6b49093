"""What the threads of a compiled call share, and how they are set to work."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._call cimport ConvCall, PoolCall, RunConv, RunPanels, RunPool


cdef enum:
    ALIGNMENT = 64
    #: Chunks of tasks that a thread takes on average, as in ``parallel``.
    CHUNKS_PER_THREAD = 16
    #: int64 fields of the largest cut.
    CUT_FIELDS = 32


#: ``packing`` writes panels to ``shared`` before the tasks, ``finish`` reads what they left there;
#: each is NULL for none. ``local`` is where the scratch of the threads begins.
cdef struct ConvRun:
    const ConvCall* call
    RunConv run
    RunPanels packing
    RunPanels finish
    char* shared
    char* local
    int64_t width, local_bytes
    int64_t[4] panels
    int64_t[4] tasks


cdef struct PoolRun:
    const PoolCall* call
    RunPool run
    int64_t[4] tasks


cdef void fill_queue(int64_t* queue, int64_t tasks, int64_t threads) noexcept nogil
cdef int64_t threads_for(int64_t wanted, int64_t tasks) noexcept nogil
cdef void share_conv(ConvRun* shared, int64_t threads) noexcept nogil
cdef void share_pool(PoolRun* shared, int64_t threads) noexcept nogil
