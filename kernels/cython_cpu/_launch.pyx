"""Calls of compiled rows without drivers: everything but the arrays' addresses is prepared.

A launcher is made for arrays of one shape, one dtype and the same strides, and called with such
arrays: it takes their addresses, makes the result, and runs the row's tasks, on the calling thread
or as a body of ``parallel.run``. Arrays unlike those that it was made for, an ``out`` that may
overlap an input, and weights that the row can't take go the ordinary way (``otherwise``).
Why: drivers and memoryviews cost 20 us a call, as much as a layer of 2 MFLOP.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memset

cimport numpy as cnp

from cnnfast.kernels.cython_cpu._call cimport ConvCall, PoolCall, RunConv, RunPacking, RunPool
from cnnfast.kernels.cython_cpu._problem cimport read_fields

cnp.import_array()


cdef extern from *:
    """
    #ifdef _WIN32
    #include <windows.h>
    #define let_others_run() SwitchToThread()
    #else
    #include <sched.h>
    #define let_others_run() sched_yield()
    #endif

    /* Returns when all tasks of a queue, each of them taken by now, are done. */
    static inline void wait_for(const int64_t *queue)
    {
        while (__atomic_load_n(&queue[3], __ATOMIC_ACQUIRE) < queue[1])
            let_others_run();
    }
    """
    void wait_for(const int64_t* queue) noexcept nogil


cdef enum:
    #: Axes of an array that a launcher takes.
    MOST_AXES = 8
    #: Scratch up to this is on the stack.
    STACK_BYTES = 32768
    ALIGNMENT = 64
    #: Calls of more work let go of the GIL: that costs about as much as this work.
    HOLDING_FLOPS = 20000
    #: int64 fields of the largest cut.
    CUT_FIELDS = 32
    #: Chunks of tasks that a thread takes on average, as in ``parallel``.
    CHUNKS_PER_THREAD = 16


#: What arrays must be like: their dtype's number, shape and strides in bytes; the bytes before and
#: behind the first element that they span; and where the first element of the five-axis view is.
cdef struct Like:
    int axes, number
    cnp.npy_intp shape[MOST_AXES]
    cnp.npy_intp strides[MOST_AXES]
    int64_t before, behind, start


cdef bint read_like(Like* like, cnp.ndarray array) except -1:
    """Note what an array is like; False if it isn't one for launchers."""
    cdef int axis
    cdef int64_t reach
    like.axes, like.number = cnp.PyArray_NDIM(array), cnp.PyArray_TYPE(array)
    like.before, like.behind, like.start = 0, cnp.PyArray_ITEMSIZE(array), 0
    if like.axes > MOST_AXES or not cnp.PyArray_CheckExact(array):
        return False
    for axis in range(like.axes):
        like.shape[axis] = cnp.PyArray_DIM(array, axis)
        like.strides[axis] = cnp.PyArray_STRIDE(array, axis)
        reach = (like.shape[axis] - 1) * like.strides[axis]
        if reach < 0:
            like.before -= reach
        else:
            like.behind += reach
    return alike(like, array)


cdef bint read_view(Like* like, cnp.ndarray array, cnp.ndarray view, void* strides) except -1:
    """Note what an array is like, and where its view begins and how it strides."""
    cdef bint good = read_like(like, array)
    cdef int axis
    like.start = <char*>cnp.PyArray_DATA(view) - <char*>cnp.PyArray_DATA(array)
    for axis in range(cnp.PyArray_NDIM(view)):
        (<int64_t*>strides)[axis] = (
            cnp.PyArray_STRIDE(view, axis) // cnp.PyArray_ITEMSIZE(array)
        )
    return good


cdef inline bint alike(const Like* like, object given) noexcept:
    """Whether an array is what a launcher was made for."""
    cdef cnp.ndarray array
    if not cnp.PyArray_CheckExact(given):
        return False
    array = <cnp.ndarray>given
    return (
        cnp.PyArray_TYPE(array) == like.number and cnp.PyArray_NDIM(array) == like.axes
        and memcmp(cnp.PyArray_DIMS(array), like.shape, like.axes * sizeof(cnp.npy_intp)) == 0
        and memcmp(cnp.PyArray_STRIDES(array), like.strides, like.axes * sizeof(cnp.npy_intp)) == 0
        and cnp.PyArray_ISALIGNED(array) and cnp.PyArray_ISNOTSWAPPED(array)
    )


cdef inline bint apart(const Like* one, object first, const Like* two, object second) noexcept:
    """Whether the bytes that two arrays span are apart."""
    cdef uintptr_t a = <uintptr_t>cnp.PyArray_DATA(<cnp.ndarray>first)
    cdef uintptr_t b = <uintptr_t>cnp.PyArray_DATA(<cnp.ndarray>second)
    return a + one.behind <= b - two.before or b + two.behind <= a - one.before


cdef inline char* data_of(const Like* like, object array) noexcept:
    """The address of the view's first element."""
    return <char*>cnp.PyArray_DATA(<cnp.ndarray>array) + like.start


cdef bint row_finite(const char* values, int itemsize, int64_t stride, int64_t count) noexcept nogil:
    """Whether none of a row of floats is infinite or NaN: has all bits of the exponent set."""
    cdef int64_t i
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef const uint32_t* singles = <const uint32_t*>values
    cdef const uint64_t* doubles = <const uint64_t*>values
    if itemsize == 4:
        for i in range(count):
            narrow |= (singles[i * stride] & 0x7f800000u) == 0x7f800000u
        return narrow == 0
    for i in range(count):
        wide |= (doubles[i * stride] & 0x7ff0000000000000u) == 0x7ff0000000000000u
    return wide == 0


cdef bint all_finite(
    const char* values, int itemsize, const int64_t* shape, const int64_t* strides
) noexcept nogil:
    """The same of a five-axis array."""
    cdef int64_t a, b, c, d
    for a in range(shape[0]):
        for b in range(shape[1]):
            for c in range(shape[2]):
                for d in range(shape[3]):
                    if not row_finite(
                        values + itemsize * (
                            a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3]
                        ),
                        itemsize, strides[4], shape[4],
                    ):
                        return False
    return True


def finite(cnp.ndarray array):
    """Whether no element of a five-axis array of float or double is infinite or NaN."""
    cdef int64_t shape[5]
    cdef int64_t strides[5]
    cdef int itemsize = cnp.PyArray_ITEMSIZE(array)
    cdef const char* values = <const char*>cnp.PyArray_DATA(array)
    cdef bint found
    read_rows(array, itemsize, shape, strides)
    with nogil:
        found = all_finite(values, itemsize, shape, strides)
    return found


cdef int read_rows(cnp.ndarray array, int itemsize, int64_t* shape, int64_t* strides) except -1:
    """Shape and element strides of five axes; a contiguous array is one long row."""
    cdef int axis
    for axis in range(5):
        shape[axis] = cnp.PyArray_DIM(array, axis)
        strides[axis] = cnp.PyArray_STRIDE(array, axis) // itemsize
    if cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS):
        shape[0] = shape[1] = shape[2] = shape[3] = strides[4] = 1
        shape[4] = cnp.PyArray_SIZE(array)
    return 0


cdef void fill_queue(int64_t* queue, int64_t tasks, int64_t threads) noexcept nogil:
    """A queue as ``parallel.queue_of`` makes it."""
    queue[0], queue[2], queue[3] = 0, tasks, 0
    queue[1] = 1 if threads == 1 else min(tasks, threads * CHUNKS_PER_THREAD)


cdef class Launcher:
    """What the launchers of all families share.

    ``running`` says on how many threads, ``needs()``, unless there is too little work for more than
    one (``alone``); ``empty`` makes large results.
    """

    cdef Like first, out
    cdef bint has_out, alone, letting_go
    cdef int64_t tasks
    cdef object otherwise, running, empty, dtype, run_parallel

    def __init__(self, otherwise, has_out, tasks, flops, alone, run_parallel):
        self.otherwise, self.has_out, self.tasks = otherwise, has_out, tasks
        self.running, self.alone, self.letting_go = otherwise.running, alone, flops > HOLDING_FLOPS
        self.empty, self.dtype = otherwise.delivery.large, otherwise.delivery.result
        self.run_parallel = run_parallel

    cdef object new_result(self):
        if self.empty is None:
            return cnp.PyArray_EMPTY(self.out.axes, self.out.shape, self.out.number, 0)
        return self.empty(self.otherwise.delivery.shape, self.dtype)


cdef class ConvLauncher(Launcher):
    """``launcher(first, second, bias, out)``, a prepared call of an fprop row.

    The weight is the second itself, or what ``weight_of`` makes of it: an array, or finished panels.
    """

    cdef ConvCall call
    cdef Like second, bias
    cdef bint has_bias, looks_at_weights
    cdef RunConv run
    cdef RunPacking packing
    cdef int64_t cut[CUT_FIELDS]
    cdef int64_t weight_shape[5]
    cdef int64_t weight_strides[5]
    cdef int64_t panels, width, shared_bytes, local_bytes
    cdef int itemsize
    cdef object following, taps, scratch, weight_of

    def __init__(
        self, otherwise, arrays, views, problem, cut, taps, tasks, packing, flops, alone,
        run_parallel, scratch, looks_at_weights, weight_of,
    ):
        """``arrays``: first, second, bias or None, the result, and whether that is given;
        ``views``: first, second and result with five axes (a second of panels has one);
        ``tasks`` and ``packing``: functions of the row; ``weight_of``: what makes the array of what
        is given as second, or None."""
        cdef const int64_t[:, ::1] table = taps
        first, second, bias, result, has_out = arrays
        Launcher.__init__(self, otherwise, has_out, cut.tasks, flops, alone, run_parallel)
        self.following, self.taps, self.scratch = otherwise.following, taps, scratch
        self.weight_of, self.looks_at_weights = weight_of, looks_at_weights
        self.run = <RunConv>PyCapsule_GetPointer(tasks, NULL)
        self.packing = NULL
        if packing is not None:
            self.packing = <RunPacking>PyCapsule_GetPointer(packing, NULL)
            self.panels, self.width = cut.weight_panels, cut.width
        self.has_bias, self.itemsize = bias is not None, first.itemsize
        self.shared_bytes = aligned(cut.shared_elements * self.itemsize)
        self.local_bytes = aligned(cut.local_elements * self.itemsize)
        if len(cut) > CUT_FIELDS:
            raise ValueError(f"a cut has {CUT_FIELDS} fields at most, got {len(cut)}")
        read_fields(cut, self.cut)
        memset(&self.call, 0, sizeof(ConvCall))
        read_fields(problem, &self.call.problem)
        self.call.activation = otherwise.code
        self.call.taps = &table[0, 0]
        if not (
            read_view(&self.first, first, views[0], &self.call.x_strides)
            and read_view(&self.second, second, views[1], &self.call.weight_strides)
            and read_view(&self.out, result, views[2], &self.call.out_strides)
            and (bias is None or read_like(&self.bias, bias))
        ):
            raise ValueError("a launcher takes plain, aligned arrays in the machine's byte order")
        if looks_at_weights:
            read_rows(views[1], self.itemsize, self.weight_shape, self.weight_strides)

    def __call__(self, first, second, bias=None, out=None):
        """The result, or what ``otherwise`` gives."""
        cdef ConvCall call
        cdef char stack[STACK_BYTES + ALIGNMENT]
        cdef char* memory
        cdef int64_t threads = 1, size = self.shared_bytes + self.local_bytes
        weight = second if self.weight_of is None else self.weight_of(second)
        if not (
            alike(&self.first, first) and alike(&self.second, weight)
            and (bias is not None) == self.has_bias and (out is not None) == self.has_out
            and (bias is None or alike(&self.bias, bias))
            and (out is None or self.takes(first, weight, bias, out))
            and (not self.looks_at_weights or self.finite(weight))
        ):
            return self.otherwise(first, second, bias, out)
        result = self.new_result() if out is None else out
        call = self.call
        call.x, call.weight = data_of(&self.first, first), data_of(&self.second, weight)
        call.out, call.cut = data_of(&self.out, result), self.cut
        if self.has_bias:
            call.bias = cnp.PyArray_DATA(<cnp.ndarray>bias)
        if not self.alone:
            threads, size = self.running.needs()
            # There is scratch for as many threads as there are tasks.
            threads = min(threads, self.tasks)
        if threads > 1 or size > STACK_BYTES:
            self.use_scratch(&call, threads, size)
        else:
            memory = stack + (-<uintptr_t>stack & <uintptr_t>(ALIGNMENT - 1))
            if self.letting_go:
                with nogil:
                    self.compute(&call, memory)
            else:
                self.compute(&call, memory)
        if self.following is not None:
            self.following(result)
        return result

    cdef bint takes(self, first, weight, bias, out) noexcept:
        """Whether ``out`` is as prepared for, writeable, and surely apart from the inputs."""
        return (
            alike(&self.out, out) and cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out)
            and apart(&self.out, out, &self.first, first)
            and apart(&self.out, out, &self.second, weight)
            and (bias is None or apart(&self.out, out, &self.bias, bias))
        )

    cdef bint finite(self, weight) noexcept:
        return all_finite(
            data_of(&self.second, weight), self.itemsize, self.weight_shape,
            self.weight_strides,
        )

    cdef int use_scratch(self, ConvCall* call, int64_t threads, int64_t size) except -1:
        """Compute with this thread's scratch; on several threads as ``parallel`` has them."""
        cdef ConvRun body
        cdef char* memory
        holder = self.scratch(size)
        buffer = holder.__enter__()
        memory = <char*>cnp.PyArray_DATA(<cnp.ndarray>buffer)
        if threads == 1:
            with nogil:
                self.compute(call, memory)
        else:
            body = ConvRun.__new__(ConvRun)
            body.launcher, body.call, body.memory = self, call[0], memory
            fill_queue(body.packing, self.panels, threads)
            fill_queue(body.tasks, self.tasks, threads)
            self.run_parallel(body, threads)
        # Not after an exception: a helping thread may still be writing.
        holder.__exit__(None, None, None)
        return 0

    cdef void compute(self, ConvCall* call, char* memory) noexcept nogil:
        """Pack the weights if the row does, and run all tasks."""
        cdef int64_t queue[4]
        if self.packing:
            fill_queue(queue, self.panels, 1)
            self.packing(call, memory, self.width, queue)
            call.weight = memory
        fill_queue(queue, self.tasks, 1)
        self.run(call, memory + self.shared_bytes, queue)


cdef class ConvRun:
    """What each thread of a call does."""

    cdef ConvLauncher launcher
    cdef ConvCall call
    cdef char* memory
    cdef int64_t packing[4]
    cdef int64_t tasks[4]

    def __call__(self, int64_t worker):
        cdef ConvLauncher launcher = self.launcher
        cdef ConvCall call = self.call
        cdef char* local = self.memory + launcher.shared_bytes + worker * launcher.local_bytes
        with nogil:
            if launcher.packing:
                launcher.packing(&call, self.memory, launcher.width, self.packing)
                wait_for(self.packing)
                call.weight = self.memory
            launcher.run(&call, local, self.tasks)


cdef class PoolLauncher(Launcher):
    """``launcher(x, out)``, a prepared call of a pooling row; the result, and the indices if they
    are wanted."""

    cdef PoolCall call
    cdef bint with_indices
    cdef RunPool run
    cdef object windows

    def __init__(
        self, otherwise, arrays, views, problem, windows, tasks, reduction, flops, alone,
        run_parallel,
    ):
        """``arrays``: x, the result, whether that is given; ``views``: x, the result and a new
        result with five axes; ``tasks``: the row's function; ``reduction``: its code."""
        cdef const int64_t[:, ::1] table = windows
        x, result, has_out = arrays
        count = problem.n * problem.c * problem.o * problem.p
        Launcher.__init__(self, otherwise, has_out, count, flops, alone, run_parallel)
        self.windows, self.with_indices = windows, otherwise.with_indices
        self.run = <RunPool>PyCapsule_GetPointer(tasks, NULL)
        memset(&self.call, 0, sizeof(PoolCall))
        read_fields(problem, &self.call.problem)
        self.call.windows, self.call.reduction = &table[0, 0], reduction
        if not (
            read_view(&self.first, x, views[0], &self.call.x_strides)
            and read_view(&self.out, result, views[1], &self.call.out_strides)
        ):
            raise ValueError("a launcher takes plain, aligned arrays in the machine's byte order")
        for axis in range(5):
            (<int64_t*>&self.call.indices_strides)[axis] = (
                views[2].strides[axis] // views[2].itemsize
            )

    def __call__(self, x, out=None):
        """The result, or what ``otherwise`` gives."""
        cdef PoolRun body
        cdef PoolCall call
        cdef int64_t threads = 1
        cdef int64_t queue[4]
        if not (
            alike(&self.first, x) and (out is not None) == self.has_out
            and (
                out is None
                or alike(&self.out, out) and cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out)
                and apart(&self.out, out, &self.first, x)
            )
        ):
            return self.otherwise(x, out)
        result, indices = self.new_result() if out is None else out, None
        call = self.call
        call.x, call.out = data_of(&self.first, x), data_of(&self.out, result)
        if self.with_indices:
            indices = self.otherwise.new_indices()
            call.indices = <int64_t*>cnp.PyArray_DATA(<cnp.ndarray>indices)
        if not self.alone:
            threads = min(self.running.needs()[0], self.tasks)
        if threads > 1:
            body = PoolRun.__new__(PoolRun)
            body.run, body.call = self.run, call
            fill_queue(body.tasks, self.tasks, threads)
            self.run_parallel(body, threads)
        else:
            fill_queue(queue, self.tasks, 1)
            if self.letting_go:
                with nogil:
                    self.run(&call, call.x, queue)
            else:
                self.run(&call, call.x, queue)
        return (result, indices) if self.with_indices else result


cdef class PoolRun:
    """What each thread of a call does."""

    cdef RunPool run
    cdef PoolCall call
    cdef int64_t tasks[4]

    def __call__(self, int64_t worker):
        with nogil:
            self.run(&self.call, self.call.x, self.tasks)


cdef int64_t aligned(int64_t size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
