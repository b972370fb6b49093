"""Convolutions and transposed ones as C functions (conv.pxd): checked, shared out among the rows of
the table, and run without the GIL.

A convolution is one part (``_parts``), a transposed one several (``_transposed``).
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._call cimport ConvCall
from cnnfast.kernels.cython_cpu._choice cimport reads_padding
from cnnfast.kernels.cython_cpu._cuts cimport LOOP
from cnnfast.kernels.cython_cpu._geometry cimport fill_strides, find_problem, spread_strides
from cnnfast.kernels.cython_cpu._parts cimport Part, Scratch, plan, run
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, WeightStrides,
)
from cnnfast.kernels.cython_cpu._team cimport ALIGNMENT
from cnnfast.kernels.cython_cpu._transposed cimport (
    LEAST_ADDRESS, convolve_transposed, weights_finite,
)
from cnnfast.kernels.cython_cpu.status cimport *


cdef int convolve(
    ConvCall* call, int64_t itemsize, int64_t threads, Scratch* scratch
) noexcept nogil:
    """A convolution. The plain loops skip padding, which others multiply."""
    cdef Part part
    plan(&part, &call.problem, &call.x_strides, itemsize, threads, True, False)
    if part.algorithm == LOOP and reads_padding(&call.problem) and not weights_finite(
        call.weight, &call.problem, <const int64_t*>&call.weight_strides, itemsize
    ):
        plan(&part, &call.problem, &call.x_strides, itemsize, threads, False, False)
    return run(call, &part, itemsize, scratch)


cdef int prepare(
    ConvCall* call, const ConvShape* shape, const ConvStrides* strides, bint transposed
) noexcept nogil:
    """Problem and strides of a call."""
    cdef ConvStrides all_strides
    cdef int status = find_problem(&call.problem, shape, transposed)
    if status != CNNFAST_OK:
        return status
    fill_strides(&all_strides, strides, &call.problem, transposed)
    call.x_strides = (<InputStrides*>all_strides.x)[0]
    call.weight_strides = (<WeightStrides*>all_strides.weight)[0]
    call.out_strides = (<OutputStrides*>all_strides.out)[0]
    return CNNFAST_OK


cdef int checked(
    const ConvShape* shape, const ConvStrides* strides, const void* x, const void* weight,
    const void* bias, void* out, int64_t activation, int64_t threads, void* given,
    int64_t itemsize, bint transposed,
) noexcept nogil:
    """Run a call if it is good."""
    cdef ConvCall call
    cdef Scratch scratch
    cdef int64_t done
    memset(&call, 0, sizeof(call))
    cdef int status = prepare(&call, shape, strides, transposed)
    if status != CNNFAST_OK:
        return status
    if activation < 0 or CNNFAST_RELU6 < activation < LEAST_ADDRESS:
        return CNNFAST_BAD_ACTIVATION
    if threads < 1:
        return CNNFAST_BAD_THREADS
    if shape.n == 0:
        return CNNFAST_OK
    if x == NULL or weight == NULL or out == NULL:
        return CNNFAST_NULL_POINTER
    call.x, call.weight, call.bias, call.out = x, weight, bias, out
    call.activation = activation
    scratch.given, scratch.own, scratch.size = given, NULL, 0
    if transposed:
        done = convolve_transposed(&call, itemsize, threads, &scratch)
    else:
        done = convolve(&call, itemsize, threads, &scratch)
    free(scratch.own)
    return CNNFAST_NO_MEMORY if done < 0 else CNNFAST_OK


cdef int conv_float32(
    const ConvShape* shape, const ConvStrides* strides, const float* x, const float* weight,
    const float* bias, float* out, int64_t activation, int64_t threads, void* scratch,
) noexcept nogil:
    return checked(
        shape, strides, x, weight, bias, out, activation, threads, scratch, sizeof(float), False
    )


cdef int conv_float64(
    const ConvShape* shape, const ConvStrides* strides, const double* x, const double* weight,
    const double* bias, double* out, int64_t activation, int64_t threads, void* scratch,
) noexcept nogil:
    return checked(
        shape, strides, x, weight, bias, out, activation, threads, scratch, sizeof(double), False
    )


cdef int conv_transpose_float32(
    const ConvShape* shape, const ConvStrides* strides, const float* x, const float* weight,
    const float* bias, float* out, int64_t activation, int64_t threads, void* scratch,
) noexcept nogil:
    return checked(
        shape, strides, x, weight, bias, out, activation, threads, scratch, sizeof(float), True
    )


cdef int conv_transpose_float64(
    const ConvShape* shape, const ConvStrides* strides, const double* x, const double* weight,
    const double* bias, double* out, int64_t activation, int64_t threads, void* scratch,
) noexcept nogil:
    return checked(
        shape, strides, x, weight, bias, out, activation, threads, scratch, sizeof(double), True
    )


cdef int find_extents(const ConvShape* shape, int64_t* extents, bint transposed) noexcept nogil:
    cdef ConvProblem problem
    cdef int status = find_problem(&problem, shape, transposed)
    if status != CNNFAST_OK:
        return status
    if extents == NULL:
        return CNNFAST_NULL_POINTER
    extents[0], extents[1] = shape.n, shape.k
    if transposed:
        extents[2], extents[3], extents[4] = problem.d, problem.h, problem.w
    else:
        extents[2], extents[3], extents[4] = problem.o, problem.p, problem.q
    return CNNFAST_OK


cdef int conv_output(const ConvShape* shape, int64_t* extents) noexcept nogil:
    return find_extents(shape, extents, False)


cdef int conv_transpose_output(const ConvShape* shape, int64_t* extents) noexcept nogil:
    return find_extents(shape, extents, True)


cdef int64_t scratch_bytes(
    const ConvShape* shape, const ConvStrides* strides, int64_t itemsize, int64_t threads,
    bint transposed,
) noexcept nogil:
    cdef ConvCall call
    cdef Part part
    cdef int64_t size
    memset(&call, 0, sizeof(call))
    cdef int status = prepare(&call, shape, strides, transposed)
    if status != CNNFAST_OK:
        return status
    if itemsize != sizeof(float) and itemsize != sizeof(double):
        return CNNFAST_BAD_ARRAY
    if threads < 1:
        return CNNFAST_BAD_THREADS
    if shape.n == 0:
        return 0
    if transposed:
        return ALIGNMENT + convolve_transposed(&call, itemsize, threads, NULL)
    plan(&part, &call.problem, &call.x_strides, itemsize, threads, True, False)
    size = part.bytes
    if part.algorithm == LOOP:
        # Weights that aren't finite are for another row.
        plan(&part, &call.problem, &call.x_strides, itemsize, threads, False, False)
        size = max(size, part.bytes)
    return ALIGNMENT + size


cdef int64_t conv_scratch_bytes(
    const ConvShape* shape, const ConvStrides* strides, int64_t itemsize, int64_t threads
) noexcept nogil:
    return scratch_bytes(shape, strides, itemsize, threads, False)


cdef int64_t conv_transpose_scratch_bytes(
    const ConvShape* shape, const ConvStrides* strides, int64_t itemsize, int64_t threads
) noexcept nogil:
    return scratch_bytes(shape, strides, itemsize, threads, True)


cdef int conv_arrays(
    ConvShape* shape, int rank, bint transposed, int64_t itemsize,
    const void* x, const Py_ssize_t* x_extents, const Py_ssize_t* x_strides,
    const void* weight, const Py_ssize_t* weight_extents, const Py_ssize_t* weight_strides,
    const void* bias,
    void* out, const Py_ssize_t* out_extents, const Py_ssize_t* out_strides,
    int64_t activation, int64_t threads,
) noexcept nogil:
    cdef ConvStrides strides
    cdef int64_t extents[5]
    cdef int64_t ins, outs
    cdef int axis, status
    if shape == NULL:
        return CNNFAST_NULL_POINTER
    if rank < 1 or rank > 3 or itemsize != sizeof(float) and itemsize != sizeof(double):
        return CNNFAST_BAD_ARRAY
    shape.n, shape.c, shape.k = x_extents[0], x_extents[1], out_extents[1]
    for axis in range(3 - rank):
        (&shape.d)[axis] = (&shape.t)[axis] = 1
        (&shape.stride_d)[axis] = (&shape.dilation_d)[axis] = 1
        (&shape.before_d)[axis] = (&shape.after_d)[axis] = (&shape.output_padding_d)[axis] = 0
    for axis in range(3 - rank, 3):
        (&shape.d)[axis] = x_extents[axis - 1 + rank]
        (&shape.t)[axis] = weight_extents[axis - 1 + rank]
    status = find_extents(shape, extents, transposed)
    if status != CNNFAST_OK:
        return status
    outs, ins = (shape.c, shape.k) if transposed else (shape.k, shape.c)
    if (
        weight_extents[0] != outs or weight_extents[1] != ins // shape.groups
        or out_extents[0] != shape.n
        or not spread_strides(strides.x, x_strides, rank, itemsize)
        or not spread_strides(strides.weight, weight_strides, rank, itemsize)
        or not spread_strides(strides.out, out_strides, rank, itemsize)
    ):
        return CNNFAST_BAD_ARRAY
    for axis in range(3 - rank, 3):
        if out_extents[axis - 1 + rank] != extents[2 + axis]:
            return CNNFAST_BAD_ARRAY
    return checked(
        shape, &strides, x, weight, bias, out, activation, threads, NULL, itemsize, transposed
    )


cdef const char* status_text(int status) noexcept nogil:
    if status == CNNFAST_OK:
        return "computed"
    if status == CNNFAST_NULL_POINTER:
        return "an array or a shape is NULL"
    if status == CNNFAST_BAD_EXTENT:
        return "extents must be positive (a batch may be 0), and so must those of the result"
    if status == CNNFAST_BAD_STEP:
        return "strides and dilations must be positive"
    if status == CNNFAST_BAD_PADDING:
        return (
            "padding must not be negative, nor above half the window of a pooling; output padding "
            "is for transposed convolutions, below the stride or the dilation"
        )
    if status == CNNFAST_BAD_GROUPS:
        return "groups must divide the channels of the input and of the result"
    if status == CNNFAST_BAD_KERNEL:
        return "the kernel must fit the padded input"
    if status == CNNFAST_BAD_ACTIVATION:
        return "an activation must be a code or the address of a function"
    if status == CNNFAST_BAD_ARRAY:
        return (
            "arrays of 1 to 3 spatial axes, of float or double, must have extents that belong "
            "together and strides of whole elements"
        )
    if status == CNNFAST_TOO_LARGE:
        return "arrays or operations are more than index arithmetic is sure to hold"
    if status == CNNFAST_NO_MEMORY:
        return "there is no memory for scratch"
    if status == CNNFAST_BAD_THREADS:
        return "threads must be positive"
    return "not a status of cnnfast"


cdef int api_version() noexcept nogil:
    return CNNFAST_API_VERSION
