"""Poolings for other people's Cython, as ``conv`` has convolutions."""

from libc.stdint cimport int64_t


#: A pooling over three spatial axes; those that aren't there have extents and windows of 1. To
#: ctypes, cffi and Numba it is 23 int64 in this order. A ``divisor`` of 0 is the count of a
#: window's elements, with those of the padding where ``count_include_pad`` isn't 0.
cdef struct PoolShape:
    int64_t n, c, d, h, w
    int64_t t, r, s
    int64_t stride_d, stride_h, stride_w
    int64_t dilation_d, dilation_h, dilation_w
    int64_t before_d, before_h, before_w
    int64_t after_d, after_h, after_w
    int64_t ceil_mode, count_include_pad, divisor


#: Strides in elements: x (n, c, d, h, w), out and indices (n, c, o, p, q).
cdef struct PoolStrides:
    int64_t[5] x
    int64_t[5] out
    int64_t[5] indices


#: Arguments as in ``conv``. ``indices`` may be NULL; they are flat ones of the input's d x h x w.
cdef int max_pool_float32(
    const PoolShape* shape, const PoolStrides* strides, const float* x, float* out,
    int64_t* indices, int64_t threads, void* scratch,
) noexcept nogil
cdef int max_pool_float64(
    const PoolShape* shape, const PoolStrides* strides, const double* x, double* out,
    int64_t* indices, int64_t threads, void* scratch,
) noexcept nogil
cdef int avg_pool_float32(
    const PoolShape* shape, const PoolStrides* strides, const float* x, float* out,
    int64_t threads, void* scratch,
) noexcept nogil
cdef int avg_pool_float64(
    const PoolShape* shape, const PoolStrides* strides, const double* x, double* out,
    int64_t threads, void* scratch,
) noexcept nogil

#: The result's extents n, c, o, p, q; a status.
cdef int pool_output(const PoolShape* shape, int64_t* extents) noexcept nogil

#: Bytes of scratch of a call; negative: a status.
cdef int64_t pool_scratch_bytes(const PoolShape* shape) noexcept nogil

#: The same of arrays of 2 + ``rank`` axes as the buffer protocol describes them, strides in bytes;
#: ``indices`` are NULL, or an array of int64 like ``out``. Windows, steps, padding and modes come
#: in ``shape``; its extents, and axes that aren't there, are filled in.
cdef int pool_arrays(
    PoolShape* shape, int rank, bint average, int64_t itemsize,
    const void* x, const Py_ssize_t* x_extents, const Py_ssize_t* x_strides,
    void* out, const Py_ssize_t* out_extents, const Py_ssize_t* out_strides,
    int64_t* indices, const Py_ssize_t* indices_extents, const Py_ssize_t* indices_strides,
    int64_t threads,
) noexcept nogil


cdef inline PoolShape pool_shape() noexcept nogil:
    """A shape to fill in: no padding, padding counted, everything else 1."""
    cdef PoolShape shape
    cdef int64_t* fields = <int64_t*>&shape
    cdef size_t i
    for i in range(sizeof(PoolShape) // sizeof(int64_t)):
        fields[i] = 1
    shape.before_d = shape.before_h = shape.before_w = 0
    shape.after_d = shape.after_h = shape.after_w = 0
    shape.ceil_mode = shape.divisor = 0
    return shape


cdef inline PoolShape pool_steps(
    int64_t window, int64_t stride, int64_t padding=0, int64_t dilation=1
) noexcept nogil:
    """How a pooling moves, the same along all axes, for the functions of memoryviews: they fill in
    the extents, and leave out axes that they haven't. Fields may be changed before that."""
    cdef PoolShape shape = pool_shape()
    shape.t = shape.r = shape.s = window
    shape.stride_d = shape.stride_h = shape.stride_w = stride
    shape.dilation_d = shape.dilation_h = shape.dilation_w = dilation
    shape.before_d = shape.before_h = shape.before_w = padding
    shape.after_d = shape.after_h = shape.after_w = padding
    return shape
