"""Calls of compiled rows without drivers: everything but the arrays' addresses is prepared.

A launcher is made for arrays of one shape, one dtype and the same strides, and called with such
arrays: it takes their addresses, makes the result, and runs the row's tasks on the calling thread.
Arrays unlike those that it was made for, an ``out`` that may overlap an input, weights that the row
can't take, and calls on several threads go the ordinary way (``otherwise``).
Why: drivers and memoryviews cost 20 us a call, as much as a layer of 2 MFLOP.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memset

cimport numpy as cnp

from cnnfast.kernels.cython_cpu._call cimport ConvCall, PoolCall, RunConv, RunPacking, RunPool
from cnnfast.kernels.cython_cpu._problem cimport read_fields

cnp.import_array()


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
    for axis in range(5):
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


cdef bint all_finite(
    const char* values, int itemsize, const int64_t* shape, const int64_t* strides
) noexcept nogil:
    """Whether no float of a five-axis array is infinite or NaN: all bits of the exponent set."""
    cdef int64_t a, b, c, d, e
    cdef const char* row
    cdef uint32_t narrow, mask = 0x7f800000
    cdef uint64_t wide, wide_mask = 0x7ff0000000000000
    cdef bint found = False
    for a in range(shape[0]):
        for b in range(shape[1]):
            for c in range(shape[2]):
                for d in range(shape[3]):
                    row = values + (
                        a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3]
                    ) * itemsize
                    for e in range(shape[4]):
                        if itemsize == 4:
                            narrow = (<const uint32_t*>row)[e * strides[4]]
                            found |= narrow & mask == mask
                        else:
                            wide = (<const uint64_t*>row)[e * strides[4]]
                            found |= wide & wide_mask == wide_mask
        if found:
            return False
    return True


cdef class ConvLauncher:
    """``launcher(first, second, bias, out)``, a prepared call of an fprop row on one thread."""

    cdef ConvCall call
    cdef Like first, second, bias, out
    cdef bint has_bias, has_out, looks_at_weights, letting_go
    cdef RunConv run
    cdef RunPacking packing
    cdef int64_t cut[CUT_FIELDS]
    cdef int64_t weight_shape[5]
    cdef int64_t tasks, panels, width, shared_bytes, local_bytes
    cdef int itemsize
    cdef object otherwise, following, taps

    def __init__(
        self, otherwise, arrays, views, problem, cut, taps, tasks, packing, activation, following,
        looks_at_weights, flops,
    ):
        """``arrays``: first, second, bias or None, and the result; ``views``: first, second and
        result with five axes; ``tasks`` and ``packing``: functions of the row; ``otherwise``: the
        same call the ordinary way, its ``single`` bytes of shared and local scratch."""
        cdef const int64_t[:, ::1] table = taps
        first, second, bias, result, has_out = arrays
        self.otherwise, self.following, self.taps = otherwise, following, taps
        self.run = <RunConv>PyCapsule_GetPointer(tasks, NULL)
        self.packing = NULL
        if packing is not None:
            self.packing = <RunPacking>PyCapsule_GetPointer(packing, NULL)
            self.panels, self.width = cut.weight_panels, cut.width
        self.tasks, self.has_bias, self.has_out = cut.tasks, bias is not None, has_out
        self.looks_at_weights, self.letting_go = looks_at_weights, flops > HOLDING_FLOPS
        self.itemsize = first.itemsize
        self.shared_bytes = aligned(cut.shared_elements * self.itemsize)
        self.local_bytes = aligned(cut.local_elements * self.itemsize)
        if len(cut) > CUT_FIELDS:
            raise ValueError(f"a cut has {CUT_FIELDS} fields at most, got {len(cut)}")
        read_fields(cut, self.cut)
        memset(&self.call, 0, sizeof(ConvCall))
        read_fields(problem, &self.call.problem)
        self.call.activation = activation
        self.call.taps = &table[0, 0]
        if not (
            read_view(&self.first, first, views[0], &self.call.x_strides)
            and read_view(&self.second, second, views[1], &self.call.weight_strides)
            and read_view(&self.out, result, views[2], &self.call.out_strides)
            and (bias is None or read_like(&self.bias, bias))
        ):
            raise ValueError("a launcher takes plain, aligned arrays in the machine's byte order")
        for i in range(5):
            self.weight_shape[i] = views[1].shape[i]

    def __call__(self, first, second, bias=None, out=None):
        """The result, or what ``otherwise`` gives."""
        cdef ConvCall call
        cdef char stack[STACK_BYTES + ALIGNMENT]
        cdef char* memory
        if not alike(&self.first, first) or not alike(&self.second, second):
            return self.otherwise(first, second, bias, out)
        if (bias is not None) != self.has_bias or (out is not None) != self.has_out:
            return self.otherwise(first, second, bias, out)
        if self.has_bias and not alike(&self.bias, bias):
            return self.otherwise(first, second, bias, out)
        result = out
        if out is None:
            result = cnp.PyArray_EMPTY(self.out.axes, self.out.shape, self.out.number, 0)
        elif not self.takes(first, second, bias, out):
            return self.otherwise(first, second, bias, out)
        if self.looks_at_weights and not all_finite(
            data_of(&self.second, second), self.itemsize, self.weight_shape,
            <const int64_t*>&self.call.weight_strides,
        ):
            return self.otherwise(first, second, bias, out)
        call = self.call
        call.x, call.weight = data_of(&self.first, first), data_of(&self.second, second)
        call.out, call.cut = data_of(&self.out, result), self.cut
        if self.has_bias:
            call.bias = cnp.PyArray_DATA(<cnp.ndarray>bias)
        memory = stack + (-<uintptr_t>stack & <uintptr_t>(ALIGNMENT - 1))
        if self.letting_go:
            with nogil:
                self.compute(&call, memory)
        else:
            self.compute(&call, memory)
        if self.following is not None:
            self.following(result)
        return result

    cdef bint takes(self, first, second, bias, out) noexcept:
        """Whether ``out`` is as prepared for, writeable, and surely apart from the inputs."""
        return (
            alike(&self.out, out) and cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out)
            and apart(&self.out, out, &self.first, first)
            and apart(&self.out, out, &self.second, second)
            and (bias is None or apart(&self.out, out, &self.bias, bias))
        )

    cdef void compute(self, ConvCall* call, char* memory) noexcept nogil:
        """Pack the weights if the row does, and run all tasks."""
        cdef int64_t queue[4]
        if self.packing:
            queue[0], queue[1], queue[2], queue[3] = 0, 1, self.panels, 0
            self.packing(call, memory, self.width, queue)
            call.weight = memory
        queue[0], queue[1], queue[2], queue[3] = 0, 1, self.tasks, 0
        self.run(call, memory + self.shared_bytes, queue)


cdef class PoolLauncher:
    """``launcher(x, out)``, a prepared call of a pooling row on one thread; the result, and the
    indices if they are wanted."""

    cdef PoolCall call
    cdef Like first, out
    cdef bint has_out, with_indices, letting_go
    cdef RunPool run
    cdef int64_t tasks
    cdef object otherwise, windows

    def __init__(
        self, otherwise, arrays, views, problem, windows, tasks, reduction, with_indices, flops
    ):
        """``arrays``: x, the result, whether that is given; ``views``: both with five axes;
        ``tasks``: the row's function; ``reduction``: its code."""
        cdef const int64_t[:, ::1] table = windows
        x, result, has_out = arrays
        self.otherwise, self.windows, self.has_out = otherwise, windows, has_out
        self.run = <RunPool>PyCapsule_GetPointer(tasks, NULL)
        self.tasks = problem.n * problem.c * problem.o * problem.p
        self.with_indices, self.letting_go = with_indices, flops > HOLDING_FLOPS
        memset(&self.call, 0, sizeof(PoolCall))
        read_fields(problem, &self.call.problem)
        self.call.windows, self.call.reduction = &table[0, 0], reduction
        if not (
            read_view(&self.first, x, views[0], &self.call.x_strides)
            and read_view(&self.out, result, views[1], &self.call.out_strides)
        ):
            raise ValueError("a launcher takes plain, aligned arrays in the machine's byte order")
        fresh = cnp.PyArray_EMPTY(self.out.axes, self.out.shape, cnp.NPY_INT64, 0)
        view = views[2].of(fresh)
        for i in range(5):
            (<int64_t*>&self.call.indices_strides)[i] = view.strides[i] // 8

    def __call__(self, x, out=None):
        """The result, or what ``otherwise`` gives."""
        cdef PoolCall call
        cdef int64_t queue[4]
        if not alike(&self.first, x) or (out is not None) != self.has_out:
            return self.otherwise(x, out)
        result, indices = out, None
        if out is None:
            result = cnp.PyArray_EMPTY(self.out.axes, self.out.shape, self.out.number, 0)
        elif not alike(&self.out, out) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out) or not (
            apart(&self.out, out, &self.first, x)
        ):
            return self.otherwise(x, out)
        call = self.call
        call.x, call.out = data_of(&self.first, x), data_of(&self.out, result)
        if self.with_indices:
            indices = cnp.PyArray_EMPTY(self.out.axes, self.out.shape, cnp.NPY_INT64, 0)
            call.indices = <int64_t*>cnp.PyArray_DATA(<cnp.ndarray>indices)
        queue[0], queue[1], queue[2], queue[3] = 0, 1, self.tasks, 0
        if self.letting_go:
            with nogil:
                self.run(&call, call.x, queue)
        else:
            self.run(&call, call.x, queue)
        return (result, indices) if self.with_indices else result


cdef int64_t aligned(int64_t size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
