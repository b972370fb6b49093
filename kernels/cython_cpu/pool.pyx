"""Poolings as C functions (pool.pxd): checked, and run without the GIL by the row of the table."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._call cimport PoolCall, RunPool
from cnnfast.kernels.cython_cpu._geometry cimport (
    LIMIT, MOST_ELEMENTS, MOST_OPERATIONS, fill_contiguous, spread_strides,
)
from cnnfast.kernels.cython_cpu._parts cimport serial_threads
from cnnfast.kernels.cython_cpu._problem cimport InputStrides, OutputStrides, PoolProblem
from cnnfast.kernels.cython_cpu._team cimport PoolRun, fill_queue, share_pool, threads_for
from cnnfast.kernels.cython_cpu.status cimport *

from cnnfast.kernels import costs
from cnnfast.kernels.cython_cpu import _pooling

cdef enum:
    #: Bytes of scratch, which holds int64.
    ALIGNMENT = 8

cdef RunPool[2] _tasks
_tasks[0] = <RunPool>PyCapsule_GetPointer(_pooling._tasks["float32"], NULL)
_tasks[1] = <RunPool>PyCapsule_GetPointer(_pooling._tasks["float64"], NULL)
cdef int64_t MAX = _pooling._codes["max"]
cdef int64_t MEAN = _pooling._codes["mean"]
cdef int64_t ARGMAX = _pooling._codes["argmax"]
cdef double POOL_TAP = costs.POOL_TAP


cdef int find_outputs(
    int64_t* outputs, int64_t size, int64_t kernel, int64_t stride, int64_t dilation,
    int64_t before, int64_t after, bint ceil_mode,
) noexcept nogil:
    """An axis' outputs, or what is wrong with it."""
    cdef int64_t room
    if size < 1 or kernel < 1:
        return CNNFAST_BAD_EXTENT
    if stride < 1 or dilation < 1:
        return CNNFAST_BAD_STEP
    if before < 0 or after < 0 or max(before, after) > kernel // 2:
        return CNNFAST_BAD_PADDING
    if max(size, kernel, stride, dilation) > LIMIT:
        return CNNFAST_TOO_LARGE
    if <double>dilation * (kernel - 1) + 1 > size + before + after:
        return CNNFAST_BAD_KERNEL
    room = size + before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        outputs[0] = room // stride + 1
        return CNNFAST_OK
    outputs[0] = (room + stride - 1) // stride + 1
    if (outputs[0] - 1) * stride >= size + before:
        outputs[0] -= 1
    return CNNFAST_OK


cdef int find_problem(PoolProblem* problem, const PoolShape* shape, double* taps) noexcept nogil:
    """The problem, and how many taps its windows have together; or what is wrong."""
    cdef int axis, status
    cdef double images, inside = 1, results = 1
    if shape == NULL:
        return CNNFAST_NULL_POINTER
    if shape.n < 0 or shape.c < 1:
        return CNNFAST_BAD_EXTENT
    images = <double>max(shape.n, 1) * shape.c
    taps[0] = images
    for axis in range(3):
        status = find_outputs(
            &(&problem.o)[axis], (&shape.d)[axis], (&shape.t)[axis], (&shape.stride_d)[axis],
            (&shape.dilation_d)[axis], (&shape.before_d)[axis], (&shape.after_d)[axis],
            shape.ceil_mode != 0,
        )
        if status != CNNFAST_OK:
            return status
        (&problem.d)[axis] = (&shape.d)[axis]
        (&problem.dilation_d)[axis] = (&shape.dilation_d)[axis]
        inside *= (&shape.d)[axis] + (&shape.before_d)[axis] + (&shape.after_d)[axis]
        results *= (&problem.o)[axis]
        taps[0] *= <double>(&problem.o)[axis] * (&shape.t)[axis]
    if images * max(inside, results) > MOST_ELEMENTS or taps[0] > MOST_OPERATIONS:
        return CNNFAST_TOO_LARGE
    problem.n, problem.c, problem.divisor = shape.n, shape.c, shape.divisor
    return CNNFAST_OK


cdef void fill_windows(
    int64_t* table, const PoolProblem* problem, const PoolShape* shape
) noexcept nogil:
    """A row per output of each axis: first tap inside the input, end, taps that a mean counts (as
    ``PoolGeometry.windows``)."""
    cdef int64_t at, start, end, first, last, size, dilation, padded
    cdef int axis
    for axis in range(3):
        size, dilation = (&problem.d)[axis], (&problem.dilation_d)[axis]
        for at in range((&problem.o)[axis]):
            start = at * (&shape.stride_d)[axis] - (&shape.before_d)[axis]
            end = start + dilation * ((&shape.t)[axis] - 1) + 1
            # A tap before the input moves up by whole dilations, so that it stays a tap.
            first = (dilation - -start % dilation) % dilation if start < 0 else start
            last = max(min(end, size), first)
            padded = min(end, size + (&shape.after_d)[axis]) - start
            table[0], table[1] = first, last
            table[2] = padded if shape.count_include_pad else last - first
            table[2] = (table[2] + dilation - 1) // dilation
            table += 3


cdef int64_t table_bytes(const PoolProblem* problem) noexcept nogil:
    return 3 * sizeof(int64_t) * (problem.o + problem.p + problem.q)


cdef int checked(
    const PoolShape* shape, const PoolStrides* strides, const void* x, void* out,
    int64_t* indices, int64_t reduction, int64_t threads, void* given, int64_t itemsize,
) noexcept nogil:
    """Run a call if it is good."""
    cdef PoolCall call
    cdef PoolRun shared
    cdef PoolStrides dense
    cdef double taps
    cdef int64_t tasks
    cdef void* own = NULL
    memset(&call, 0, sizeof(call))
    cdef const PoolProblem* at = &call.problem
    cdef int status = find_problem(&call.problem, shape, &taps)
    if status != CNNFAST_OK:
        return status
    if threads < 1:
        return CNNFAST_BAD_THREADS
    if shape.n == 0:
        return CNNFAST_OK
    if x == NULL or out == NULL:
        return CNNFAST_NULL_POINTER
    if strides == NULL:
        fill_contiguous(dense.x, at.c, at.d, at.h, at.w)
        fill_contiguous(dense.out, at.c, at.o, at.p, at.q)
        fill_contiguous(dense.indices, at.c, at.o, at.p, at.q)
        strides = &dense
    call.x_strides = (<InputStrides*>strides.x)[0]
    call.out_strides = (<OutputStrides*>strides.out)[0]
    call.indices_strides = (<OutputStrides*>strides.indices)[0]
    if given == NULL:
        given = own = malloc(table_bytes(at))
        if own == NULL:
            return CNNFAST_NO_MEMORY
    else:
        given = <void*>((<size_t>given + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)
    fill_windows(<int64_t*>given, at, shape)
    call.x, call.out, call.indices = x, out, indices
    call.windows, call.reduction = <int64_t*>given, reduction
    tasks = at.n * at.c * at.o * at.p
    threads = threads_for(serial_threads(threads, taps * POOL_TAP), tasks)
    shared.call, shared.run = &call, _tasks[itemsize == sizeof(double)]
    fill_queue(shared.tasks, tasks, threads)
    share_pool(&shared, threads)
    free(own)
    return CNNFAST_OK


cdef int max_pool_float32(
    const PoolShape* shape, const PoolStrides* strides, const float* x, float* out,
    int64_t* indices, int64_t threads, void* scratch,
) noexcept nogil:
    return checked(
        shape, strides, x, out, indices, MAX if indices == NULL else ARGMAX, threads, scratch,
        sizeof(float),
    )


cdef int max_pool_float64(
    const PoolShape* shape, const PoolStrides* strides, const double* x, double* out,
    int64_t* indices, int64_t threads, void* scratch,
) noexcept nogil:
    return checked(
        shape, strides, x, out, indices, MAX if indices == NULL else ARGMAX, threads, scratch,
        sizeof(double),
    )


cdef int avg_pool_float32(
    const PoolShape* shape, const PoolStrides* strides, const float* x, float* out,
    int64_t threads, void* scratch,
) noexcept nogil:
    return checked(shape, strides, x, out, NULL, MEAN, threads, scratch, sizeof(float))


cdef int avg_pool_float64(
    const PoolShape* shape, const PoolStrides* strides, const double* x, double* out,
    int64_t threads, void* scratch,
) noexcept nogil:
    return checked(shape, strides, x, out, NULL, MEAN, threads, scratch, sizeof(double))


cdef int pool_output(const PoolShape* shape, int64_t* extents) noexcept nogil:
    cdef PoolProblem problem
    cdef double taps
    cdef int status = find_problem(&problem, shape, &taps)
    if status != CNNFAST_OK:
        return status
    if extents == NULL:
        return CNNFAST_NULL_POINTER
    extents[0], extents[1] = shape.n, shape.c
    extents[2], extents[3], extents[4] = problem.o, problem.p, problem.q
    return CNNFAST_OK


cdef int64_t pool_scratch_bytes(const PoolShape* shape) noexcept nogil:
    cdef PoolProblem problem
    cdef double taps
    cdef int status = find_problem(&problem, shape, &taps)
    return status if status != CNNFAST_OK else ALIGNMENT + table_bytes(&problem)


cdef int pool_arrays(
    PoolShape* shape, int rank, bint average, int64_t itemsize,
    const void* x, const Py_ssize_t* x_extents, const Py_ssize_t* x_strides,
    void* out, const Py_ssize_t* out_extents, const Py_ssize_t* out_strides,
    int64_t* indices, const Py_ssize_t* indices_extents, const Py_ssize_t* indices_strides,
    int64_t threads,
) noexcept nogil:
    cdef PoolStrides strides
    cdef int64_t extents[5]
    cdef int axis, status
    if shape == NULL:
        return CNNFAST_NULL_POINTER
    if rank < 1 or rank > 3 or itemsize != sizeof(float) and itemsize != sizeof(double):
        return CNNFAST_BAD_ARRAY
    shape.n, shape.c = x_extents[0], x_extents[1]
    for axis in range(3 - rank):
        (&shape.d)[axis] = (&shape.t)[axis] = 1
        (&shape.stride_d)[axis] = (&shape.dilation_d)[axis] = 1
        (&shape.before_d)[axis] = (&shape.after_d)[axis] = 0
    for axis in range(3 - rank, 3):
        (&shape.d)[axis] = x_extents[axis - 1 + rank]
    status = pool_output(shape, extents)
    if status != CNNFAST_OK:
        return status
    if (
        out_extents[0] != shape.n or out_extents[1] != shape.c
        or not spread_strides(strides.x, x_strides, rank, itemsize)
        or not spread_strides(strides.out, out_strides, rank, itemsize)
        or indices != NULL
        and not spread_strides(strides.indices, indices_strides, rank, sizeof(int64_t))
    ):
        return CNNFAST_BAD_ARRAY
    for axis in range(3 - rank, 3):
        if out_extents[axis - 1 + rank] != extents[2 + axis]:
            return CNNFAST_BAD_ARRAY
    if indices != NULL:
        for axis in range(2 + rank):
            if indices_extents[axis] != out_extents[axis]:
                return CNNFAST_BAD_ARRAY
    return checked(
        shape, &strides, x, out, NULL if average else indices,
        MEAN if average else MAX if indices == NULL else ARGMAX, threads, NULL, itemsize,
    )
