"""Transposed convolutions of calls from C."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._call cimport ConvCall
from cnnfast.kernels.cython_cpu._parts cimport Scratch
from cnnfast.kernels.cython_cpu._problem cimport ConvProblem


cdef enum:
    #: Addresses of functions begin here, codes of activations end with relu6's.
    LEAST_ADDRESS = 4096


cdef bint weights_finite(
    const void* weight, const ConvProblem* problem, const int64_t* strides, int64_t itemsize
) noexcept nogil
cdef int64_t convolve_transposed(
    ConvCall* call, int64_t itemsize, int64_t threads, Scratch* scratch
) noexcept nogil
