"""Calls of compiled rows, on the calling thread and on helpers that know nothing of Python.

``run_conv`` and ``run_pool`` are what drivers run rows of C functions by; ``_launch`` fills the
structs itself.
"""

import os

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from libc.string cimport memset

cimport numpy as cnp

from cnnfast.kernels.cython_cpu._call cimport ConvCall, PoolCall, RunConv, RunPanels, RunPool
from cnnfast.kernels.cython_cpu._problem cimport read_fields

cnp.import_array()


cdef extern from "team.h":
    """
    /* Returns when all tasks of a queue, each of them taken by now, are done. */
    static inline void wait_for(const int64_t *queue)
    {
        while (__atomic_load_n(&queue[3], __ATOMIC_ACQUIRE) < queue[1])
            let_others_run();
    }
    """
    ctypedef void (*Work)(void* call, int64_t worker) noexcept nogil
    int64_t team_size
    void grow_team(int64_t threads) nogil
    void forget_helpers() nogil
    void set_thread_apart(int64_t thread) nogil
    void work_together(Work work, void* call, int64_t threads) noexcept nogil
    void wait_for(const int64_t* queue) noexcept nogil


def _forget_helpers():
    forget_helpers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


def set_apart(threads):
    """Let threads, given by their native ids, wake up on other cores than the caller's."""
    for thread in threads:
        set_thread_apart(thread)


cdef void fill_queue(int64_t* queue, int64_t tasks, int64_t threads) noexcept nogil:
    """A queue as ``parallel.queue_of`` makes it."""
    queue[0], queue[2], queue[3] = 0, tasks, 0
    queue[1] = min(tasks, 1 if threads == 1 else threads * CHUNKS_PER_THREAD)


cdef int64_t threads_for(int64_t wanted, int64_t tasks) noexcept nogil:
    """So many threads, but no more than tasks, nor than the system gives."""
    cdef int64_t threads = min(wanted, tasks)
    grow_team(threads)
    return min(threads, team_size + 1)


cdef void conv_share(void* given, int64_t worker) noexcept nogil:
    """What each thread of a convolution does."""
    cdef ConvRun* shared = <ConvRun*>given
    cdef ConvCall call = shared.call[0]
    call.shared = shared.shared
    if shared.packing:
        shared.packing(&call, shared.shared, shared.width, shared.panels)
        wait_for(shared.panels)
        call.weight = shared.shared
    shared.run(&call, shared.local + worker * shared.local_bytes, shared.tasks)
    if shared.finish:
        wait_for(shared.tasks)
        shared.finish(&call, shared.shared, shared.width, shared.panels)


cdef void share_conv(ConvRun* shared, int64_t threads) noexcept nogil:
    """Run a convolution on up to so many threads."""
    work_together(conv_share, shared, threads)


cdef void pool_share(void* given, int64_t worker) noexcept nogil:
    """What each thread of a pooling does."""
    cdef PoolRun* shared = <PoolRun*>given
    shared.run(shared.call, shared.call.x, shared.tasks)


cdef void share_pool(PoolRun* shared, int64_t threads) noexcept nogil:
    """Run a pooling on up to so many threads."""
    work_together(pool_share, shared, threads)


cdef void* read_array(cnp.ndarray array, void* strides) except? NULL:
    """The address of a five-axis array, and its strides in elements; a 1-d one has none."""
    cdef int axis
    for axis in range(5 if cnp.PyArray_NDIM(array) == 5 else 0):
        (<int64_t*>strides)[axis] = cnp.PyArray_STRIDE(array, axis) // cnp.PyArray_ITEMSIZE(array)
    return cnp.PyArray_DATA(array)


cdef void* function_of(functions, dtype) except? NULL:
    """The address that a row has for a dtype; NULL where it has no such functions."""
    if functions is None:
        return NULL
    return PyCapsule_GetPointer(functions[dtype.name], NULL)


def run_conv(
    tasks, packing, finish, cnp.ndarray first, cnp.ndarray second, cnp.ndarray bias,
    cnp.ndarray out, problem, const int64_t[:, ::1] taps, cut, cnp.ndarray shared,
    cnp.ndarray local, int64_t activation, int64_t threads,
):
    """Run a row of any convolution family: two inputs, the result, scratch that the threads share
    and a row of each one's own. ``tasks``, ``packing`` and ``finish``: the first's dtype -> C
    function."""
    cdef ConvCall call
    cdef ConvRun run
    cdef int64_t fields[CUT_FIELDS]
    if len(cut) > CUT_FIELDS:
        raise ValueError(f"a cut has {CUT_FIELDS} fields at most, got {len(cut)}")
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError("out is read-only")
    memset(&call, 0, sizeof(ConvCall))
    read_fields(problem, &call.problem)
    read_fields(cut, fields)
    call.cut, call.taps, call.activation = fields, &taps[0, 0], activation
    call.x = read_array(first, &call.x_strides)
    call.weight = read_array(second, &call.weight_strides)
    call.out = read_array(out, &call.out_strides)
    call.bias = cnp.PyArray_DATA(bias) if cnp.PyArray_SIZE(bias) else NULL
    run.call, run.run = &call, <RunConv>function_of(tasks, first.dtype)
    run.packing = <RunPanels>function_of(packing, first.dtype)
    run.finish = <RunPanels>function_of(finish, first.dtype)
    run.shared, run.local = <char*>cnp.PyArray_DATA(shared), <char*>cnp.PyArray_DATA(local)
    run.width = cut.width if run.packing else 0
    run.local_bytes = cnp.PyArray_DIM(local, 1) * cnp.PyArray_ITEMSIZE(local)
    threads = threads_for(threads, cut.tasks)
    fill_queue(run.tasks, cut.tasks, threads)
    fill_queue(run.panels, cut.weight_panels if run.packing or run.finish else 0, threads)
    with nogil:
        share_conv(&run, threads)


def run_pool(
    tasks, int64_t reduction, cnp.ndarray x, cnp.ndarray out, cnp.ndarray indices, problem,
    const int64_t[:, ::1] windows, int64_t block, int64_t count, int64_t threads,
):
    """Run ``count`` tasks of a pooling row, or of its adjoint, which writes ``out`` as well; the
    indices may be None, or the forward pooling's input."""
    cdef PoolCall call
    cdef PoolRun run
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError("out is read-only")
    memset(&call, 0, sizeof(PoolCall))
    read_fields(problem, &call.problem)
    call.x, call.out = read_array(x, &call.x_strides), read_array(out, &call.out_strides)
    if indices is not None:
        call.indices = <int64_t*>read_array(indices, &call.indices_strides)
    call.windows, call.reduction, call.block = &windows[0, 0], reduction, block
    run.call, run.run = &call, <RunPool>function_of(tasks, out.dtype)
    threads = threads_for(threads, count)
    fill_queue(run.tasks, count, threads)
    with nogil:
        share_pool(&run, threads)
