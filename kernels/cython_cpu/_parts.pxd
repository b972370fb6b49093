"""Parts of calls from C: one fprop each, planned, cut and run without Python."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._call cimport ConvCall
from cnnfast.kernels.cython_cpu._cuts cimport Algorithm, Blocks
from cnnfast.kernels.cython_cpu._problem cimport ConvProblem, InputStrides


#: Memory that parts use one after the other: the caller's, or their own.
cdef struct Scratch:
    void* given
    void* own
    int64_t size


#: How a part runs, and the scratch that it takes.
cdef struct Part:
    Algorithm algorithm
    Blocks blocks
    int64_t threads, taps_bytes, shared_bytes, local_bytes, bytes


cdef char* room(Scratch* scratch, int64_t size) noexcept nogil
cdef void plan(
    Part* part, const ConvProblem* problem, const InputStrides* x_strides, int64_t itemsize,
    int64_t threads, bint with_loop, bint skipping,
) noexcept nogil
cdef int run(ConvCall* call, const Part* part, int64_t itemsize, Scratch* scratch) noexcept nogil
cdef int64_t serial_threads(int64_t threads, double cost) noexcept nogil
