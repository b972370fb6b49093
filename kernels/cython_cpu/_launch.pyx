"""Calls of compiled rows without drivers: everything but the arrays' addresses is prepared.

A launcher is made for arrays of one shape, one dtype and the same strides, and called with such
arrays: it takes their addresses, makes the result, and runs the row's tasks, on the calling thread
and on helpers that know nothing of Python (``team.h``). Arrays unlike those that it was made for, an
``out`` that may overlap an input, and weights that the row can't take go the ordinary way
(``otherwise``). Why: drivers cost more than a small layer (``cnnfast bench --peers --layers tiny``).
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

cimport numpy as cnp

from cnnfast.kernels.cython_cpu._array cimport (
    Like, alike, all_finite, apart, data_of, read_like, read_rows, read_view,
)
from cnnfast.kernels.cython_cpu._call cimport ConvCall, PoolCall, RunConv, RunPanels, RunPool
from cnnfast.kernels.cython_cpu._problem cimport read_fields
from cnnfast.kernels.cython_cpu._team cimport (
    ALIGNMENT, CUT_FIELDS, ConvRun, PoolRun, fill_queue, share_conv, share_pool, threads_for,
)

cnp.import_array()


cdef enum:
    #: Scratch up to this is on the stack.
    STACK_BYTES = 32768
    #: Calls of more work let go of the GIL: that costs about as much as this work.
    HOLDING_FLOPS = 20000


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


cdef class Launcher:
    """What the launchers of all families share.

    ``running`` says on how many threads, ``needs()``, unless there is too little work for more than
    one (``alone``); ``empty`` makes large results.
    """

    cdef Like first, out
    cdef bint has_out, alone, letting_go
    cdef int64_t tasks
    cdef object otherwise, running, empty, dtype

    def __init__(self, otherwise, has_out, tasks, flops, alone):
        self.otherwise, self.has_out, self.tasks = otherwise, has_out, tasks
        self.running, self.alone, self.letting_go = otherwise.running, alone, flops > HOLDING_FLOPS
        self.empty, self.dtype = otherwise.delivery.large, otherwise.delivery.result

    cdef object new_result(self):
        if self.empty is None:
            return cnp.PyArray_EMPTY(self.out.axes, self.out.shape, self.out.number, 0)
        return self.empty(self.otherwise.delivery.shape, self.dtype)


cdef class ConvLauncher(Launcher):
    """``launcher(first, second, bias, out)``, a prepared call of an fprop row, or of a phase of a gradient.

    The weight is the second itself, or what ``weight_of`` makes of it: an array, or finished panels.
    """

    cdef ConvCall call
    cdef Like second, bias
    cdef bint has_bias, looks_at_weights
    cdef RunConv tasks_of_row
    cdef RunPanels packing
    cdef int64_t cut[CUT_FIELDS]
    cdef int64_t weight_shape[5]
    cdef int64_t weight_strides[5]
    cdef int64_t panels, width, shared_bytes, local_bytes
    cdef int itemsize
    cdef object following, taps, scratch, weight_of

    def __init__(
        self, otherwise, arrays, views, problem, cut, taps, tasks, packing, flops, alone,
        scratch, looks_at_weights, weight_of, itemsize,
    ):
        """``arrays``: first, second, bias or None, the result, and whether that is given;
        ``views``: first, second and result with five axes (a second of panels has one);
        ``tasks`` and ``packing``: functions of the row; ``weight_of``: what makes the array of what
        is given as second, or None; ``itemsize``: of what the row computes in."""
        cdef const int64_t[:, ::1] table = taps
        first, second, bias, result, has_out = arrays
        Launcher.__init__(self, otherwise, has_out, cut.tasks, flops, alone)
        self.following, self.taps, self.scratch = otherwise.following, taps, scratch
        self.weight_of, self.looks_at_weights = weight_of, looks_at_weights
        self.tasks_of_row = <RunConv>PyCapsule_GetPointer(tasks, NULL)
        self.packing = NULL
        if packing is not None:
            self.packing = <RunPanels>PyCapsule_GetPointer(packing, NULL)
            self.panels, self.width = cut.weight_panels, cut.width
        self.has_bias, self.itemsize = bias is not None, itemsize
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
            threads = threads_for(threads, self.tasks)
        if threads > 1 or size > STACK_BYTES:
            holder = self.scratch(size)
            buffer = holder.__enter__()
            with nogil:
                self.run(&call, <char*>cnp.PyArray_DATA(<cnp.ndarray>buffer), threads)
            holder.__exit__(None, None, None)
        else:
            memory = stack + (-<uintptr_t>stack & <uintptr_t>(ALIGNMENT - 1))
            if self.letting_go:
                with nogil:
                    self.run(&call, memory, 1)
            else:
                self.run(&call, memory, 1)
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

    cdef void run(self, const ConvCall* call, char* memory, int64_t threads) noexcept nogil:
        """Pack the weights if the row does, and run all tasks."""
        cdef ConvRun shared
        shared.call, shared.run, shared.packing = call, self.tasks_of_row, self.packing
        shared.finish, shared.width, shared.local_bytes = NULL, self.width, self.local_bytes
        shared.shared, shared.local = memory, memory + self.shared_bytes
        fill_queue(shared.panels, self.panels, threads)
        fill_queue(shared.tasks, self.tasks, threads)
        share_conv(&shared, threads)


cdef class PoolLauncher(Launcher):
    """``launcher(x, out)``, a prepared call of a pooling row; the result, and the indices if they
    are wanted."""

    cdef PoolCall call
    cdef bint with_indices
    cdef RunPool run
    cdef object windows

    def __init__(
        self, otherwise, arrays, views, problem, windows, tasks, reduction, flops, alone,
    ):
        """``arrays``: x, the result, whether that is given; ``views``: x, the result and a new
        result with five axes; ``tasks``: the row's function; ``reduction``: its code."""
        cdef const int64_t[:, ::1] table = windows
        x, result, has_out = arrays
        count = problem.n * problem.c * problem.o * problem.p
        Launcher.__init__(self, otherwise, has_out, count, flops, alone)
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
        cdef PoolRun shared
        cdef PoolCall call
        cdef int64_t threads
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
        threads = 1 if self.alone else threads_for(self.running.needs()[0], self.tasks)
        shared.call, shared.run = &call, self.run
        fill_queue(shared.tasks, self.tasks, threads)
        if threads > 1 or self.letting_go:
            with nogil:
                share_pool(&shared, threads)
        else:
            share_pool(&shared, 1)
        return (result, indices) if self.with_indices else result


cdef int64_t aligned(int64_t size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
