"""The validation of calls from C: no geometry that passes makes index arithmetic overflow."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport ConvProblem
from cnnfast.kernels.cython_cpu.conv cimport ConvShape, ConvStrides
from cnnfast.kernels.cython_cpu.status cimport (
    CNNFAST_BAD_EXTENT, CNNFAST_BAD_GROUPS, CNNFAST_BAD_KERNEL, CNNFAST_BAD_PADDING,
    CNNFAST_BAD_STEP, CNNFAST_NULL_POINTER, CNNFAST_OK, CNNFAST_TOO_LARGE,
)

LIMIT = 1LL << 40
MOST_ELEMENTS = 2.0 ** 48
MOST_OPERATIONS = 2.0 ** 62
#: Parts of a transposed convolution, each of which is planned by itself.
cdef double MOST_PHASES = 2.0 ** 20


cdef int find_outputs(
    int64_t* outputs, int64_t size, int64_t kernel, int64_t stride, int64_t dilation,
    int64_t before, int64_t after, int64_t extra, bint transposed,
) noexcept nogil:
    """An axis' outputs, or what is wrong with it."""
    cdef double span
    if size < 1 or kernel < 1:
        return CNNFAST_BAD_EXTENT
    if stride < 1 or dilation < 1:
        return CNNFAST_BAD_STEP
    if before < 0 or after < 0 or extra < 0:
        return CNNFAST_BAD_PADDING
    if max(size, kernel, stride, dilation, before, after) > LIMIT:
        return CNNFAST_TOO_LARGE
    span = <double>dilation * (kernel - 1) + 1
    if not transposed:
        if extra != 0:
            return CNNFAST_BAD_PADDING
        if span > size + before + after:
            return CNNFAST_BAD_KERNEL
        outputs[0] = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
        return CNNFAST_OK
    if extra >= max(stride, dilation):
        return CNNFAST_BAD_PADDING
    if span + <double>(size - 1) * stride > MOST_ELEMENTS:
        return CNNFAST_TOO_LARGE
    outputs[0] = (size - 1) * stride + dilation * (kernel - 1) + 1 + extra - before - after
    return CNNFAST_OK if outputs[0] >= 1 else CNNFAST_BAD_EXTENT


cdef int find_problem(
    ConvProblem* problem, const ConvShape* shape, bint transposed
) noexcept nogil:
    """The problem; a transposed convolution's is that of the one that it is adjoint to."""
    cdef int64_t outputs[3]
    cdef int64_t groups, padding
    cdef int axis, status
    cdef double images, inside = 1, taps = 1, results = 1, phases = 1
    if shape == NULL:
        return CNNFAST_NULL_POINTER
    if shape.n < 0 or shape.c < 1 or shape.k < 1:
        return CNNFAST_BAD_EXTENT
    groups = shape.groups
    if groups < 1 or shape.c % groups != 0 or shape.k % groups != 0:
        return CNNFAST_BAD_GROUPS
    for axis in range(3):
        status = find_outputs(
            &outputs[axis], (&shape.d)[axis], (&shape.t)[axis], (&shape.stride_d)[axis],
            (&shape.dilation_d)[axis], (&shape.before_d)[axis], (&shape.after_d)[axis],
            (&shape.output_padding_d)[axis], transposed,
        )
        if status != CNNFAST_OK:
            return status
        padding = (&shape.before_d)[axis] + (&shape.after_d)[axis]
        inside *= (&shape.d)[axis] + (0 if transposed else padding)
        results *= outputs[axis] + (padding if transposed else 0)
        taps *= (&shape.t)[axis]
        phases *= min((&shape.t)[axis], (&shape.stride_d)[axis])
    images = max(shape.n, 1)
    if (
        images * shape.c * inside > MOST_ELEMENTS or images * shape.k * results > MOST_ELEMENTS
        or <double>shape.c * shape.k / groups * taps > MOST_ELEMENTS
        or images * shape.c * shape.k / groups * taps * max(results, inside) > MOST_OPERATIONS
        or transposed and phases > MOST_PHASES
    ):
        return CNNFAST_TOO_LARGE
    problem.n, problem.g = shape.n, groups
    problem.c, problem.k = shape.c // groups, shape.k // groups
    for axis in range(3):
        (&problem.d)[axis], (&problem.o)[axis] = (&shape.d)[axis], outputs[axis]
        (&problem.t)[axis], (&problem.pad_d)[axis] = (&shape.t)[axis], (&shape.before_d)[axis]
        (&problem.stride_d)[axis] = (&shape.stride_d)[axis]
        (&problem.dilation_d)[axis] = (&shape.dilation_d)[axis]
    if transposed:
        problem.c, problem.k = problem.k, problem.c
        for axis in range(3):
            (&problem.d)[axis], (&problem.o)[axis] = (&problem.o)[axis], (&problem.d)[axis]
    return CNNFAST_OK


cdef void fill_contiguous(
    int64_t* strides, int64_t channels, int64_t first, int64_t second, int64_t third
) noexcept nogil:
    """Strides of a contiguous array of five axes."""
    strides[4], strides[3], strides[2] = 1, third, third * second
    strides[1] = third * second * first
    strides[0] = strides[1] * channels


cdef void fill_strides(
    ConvStrides* to, const ConvStrides* given, const ConvProblem* problem, bint transposed
) noexcept nogil:
    """The strides of x, weight and out as they were given, or of contiguous arrays."""
    cdef const ConvProblem* at = problem
    if given != NULL:
        to[0] = given[0]
        return
    fill_contiguous(to.weight, at.c, at.t, at.r, at.s)
    if transposed:
        fill_contiguous(to.x, at.g * at.k, at.o, at.p, at.q)
        fill_contiguous(to.out, at.g * at.c, at.d, at.h, at.w)
    else:
        fill_contiguous(to.x, at.g * at.c, at.d, at.h, at.w)
        fill_contiguous(to.out, at.g * at.k, at.o, at.p, at.q)


cdef bint spread_strides(
    int64_t* to, const Py_ssize_t* strides, int rank, int64_t itemsize
) noexcept nogil:
    """Strides in bytes of 2 + rank axes as those of five in elements; False if not whole ones."""
    cdef int axis
    cdef bint whole = True
    for axis in range(5):
        to[axis] = 0
    for axis in range(2 + rank):
        whole = whole and strides[axis] % itemsize == 0
        to[axis if axis < 2 else axis + 3 - rank] = strides[axis] // itemsize
    return whole
