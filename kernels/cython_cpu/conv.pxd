"""Convolutions for other people's Cython: C functions without GIL, Python objects or exceptions.

They take pointers (``views`` has functions of typed memoryviews) and return 0, or a negative code of
``status`` when nothing was computed. docs/cython.md has complete programs.
"""

from libc.stdint cimport int64_t


#: A convolution of three spatial axes; those that aren't there have extents, taps and strides of 1.
#: To ctypes, cffi and Numba it is 25 int64 in this order. ``c`` and ``k`` are all channels of the
#: input and of the result; ``output_padding`` is for transposed convolutions alone.
cdef struct ConvShape:
    int64_t n, c, d, h, w
    int64_t k, t, r, s
    int64_t stride_d, stride_h, stride_w
    int64_t dilation_d, dilation_h, dilation_w
    int64_t before_d, before_h, before_w
    int64_t after_d, after_h, after_w
    int64_t output_padding_d, output_padding_h, output_padding_w
    int64_t groups


#: Strides in elements, of the arrays' own axes: x (n, c, d, h, w), out (n, k, o, p, q), weight
#: (k, c / groups, t, r, s), or (c, k / groups, t, r, s) of a transposed convolution.
cdef struct ConvStrides:
    int64_t[5] x
    int64_t[5] weight
    int64_t[5] out


#: ``strides`` may be NULL, for C-contiguous arrays, and so may ``bias`` (k values, contiguous).
#: ``threads``: at most so many, 1 for the calling thread alone. ``scratch``: NULL, or at least
#: ``conv_scratch_bytes`` that no one else uses meanwhile. ``out`` must not overlap the others.
cdef int conv_float32(
    const ConvShape* shape, const ConvStrides* strides, const float* x, const float* weight,
    const float* bias, float* out, int64_t activation, int64_t threads, void* scratch,
) noexcept nogil
cdef int conv_float64(
    const ConvShape* shape, const ConvStrides* strides, const double* x, const double* weight,
    const double* bias, double* out, int64_t activation, int64_t threads, void* scratch,
) noexcept nogil
cdef int conv_transpose_float32(
    const ConvShape* shape, const ConvStrides* strides, const float* x, const float* weight,
    const float* bias, float* out, int64_t activation, int64_t threads, void* scratch,
) noexcept nogil
cdef int conv_transpose_float64(
    const ConvShape* shape, const ConvStrides* strides, const double* x, const double* weight,
    const double* bias, double* out, int64_t activation, int64_t threads, void* scratch,
) noexcept nogil

#: The result's extents n, k, o, p, q; a status.
cdef int conv_output(const ConvShape* shape, int64_t* extents) noexcept nogil
cdef int conv_transpose_output(const ConvShape* shape, int64_t* extents) noexcept nogil

#: Bytes of scratch of a call of ``itemsize`` (4 or 8); negative: a status.
cdef int64_t conv_scratch_bytes(
    const ConvShape* shape, const ConvStrides* strides, int64_t itemsize, int64_t threads
) noexcept nogil
cdef int64_t conv_transpose_scratch_bytes(
    const ConvShape* shape, const ConvStrides* strides, int64_t itemsize, int64_t threads
) noexcept nogil

#: The same of arrays of 2 + ``rank`` axes as the buffer protocol describes them, strides in bytes.
#: Steps, padding and groups come in ``shape``; extents, and axes that aren't there, are filled in.
cdef int conv_arrays(
    ConvShape* shape, int rank, bint transposed, int64_t itemsize,
    const void* x, const Py_ssize_t* x_extents, const Py_ssize_t* x_strides,
    const void* weight, const Py_ssize_t* weight_extents, const Py_ssize_t* weight_strides,
    const void* bias,
    void* out, const Py_ssize_t* out_extents, const Py_ssize_t* out_strides,
    int64_t activation, int64_t threads,
) noexcept nogil

#: A status in words.
cdef const char* status_text(int status) noexcept nogil

#: What ``cnnfast.h`` is compared with when it fetches these functions.
cdef int api_version() noexcept nogil


cdef inline ConvShape conv_shape() noexcept nogil:
    """A shape to fill in: no padding, everything else 1."""
    cdef ConvShape shape
    cdef int64_t* fields = <int64_t*>&shape
    cdef size_t i
    for i in range(sizeof(ConvShape) // sizeof(int64_t)):
        fields[i] = 1
    shape.before_d = shape.before_h = shape.before_w = 0
    shape.after_d = shape.after_h = shape.after_w = 0
    shape.output_padding_d = shape.output_padding_h = shape.output_padding_w = 0
    return shape


cdef inline ConvShape conv_steps(
    int64_t stride=1, int64_t padding=0, int64_t dilation=1, int64_t groups=1
) noexcept nogil:
    """How a convolution moves, the same along all axes, for the functions of memoryviews: they fill
    in the extents, and leave out axes that they haven't. Fields may be changed before that."""
    cdef ConvShape shape = conv_shape()
    shape.stride_d = shape.stride_h = shape.stride_w = stride
    shape.dilation_d = shape.dilation_h = shape.dilation_w = dilation
    shape.before_d = shape.before_h = shape.before_w = padding
    shape.after_d = shape.after_h = shape.after_w = padding
    shape.groups = groups
    return shape
