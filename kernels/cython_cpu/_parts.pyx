"""One fprop of a call from C: its row, cut and memory, and the run on one thread or several."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc

from cnnfast.kernels.cython_cpu._call cimport ConvCall, RunConv, RunPanels
from cnnfast.kernels.cython_cpu._choice cimport choose
from cnnfast.kernels.cython_cpu._cuts cimport DIRECT, IM2COL, LOOP, TILED, cut_for
from cnnfast.kernels.cython_cpu._problem cimport ConvProblem, InputStrides
from cnnfast.kernels.cython_cpu._team cimport (
    ALIGNMENT, ConvRun, fill_queue, share_conv, threads_for,
)

from cnnfast.kernels.cython_cpu import _direct, _im2col, _loop, _packing, _tiled


cdef enum:
    #: Below these estimated nanoseconds a call stays on its thread, as in the planner.
    SERIAL_NS = 35000


#: Functions of the rows by algorithm, and of packing, for float and double.
cdef RunConv[4][2] _tasks
cdef RunPanels[2] _panels


cdef int read_functions() except -1:
    cdef int i
    rows = (TILED, _tiled), (IM2COL, _im2col), (DIRECT, _direct), (LOOP, _loop)
    for i, dtype in enumerate(("float32", "float64")):
        for algorithm, row in rows:
            _tasks[<int>algorithm][i] = <RunConv>PyCapsule_GetPointer(row._tasks[dtype], NULL)
        _panels[i] = <RunPanels>PyCapsule_GetPointer(_packing.packing[dtype], NULL)
    return 0


read_functions()


cdef int64_t aligned(int64_t size) noexcept nogil:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


cdef char* room(Scratch* scratch, int64_t size) noexcept nogil:
    """So many bytes, aligned; NULL if there is no memory."""
    cdef uintptr_t start
    if scratch.given == NULL and (scratch.own == NULL or size > scratch.size):
        free(scratch.own)
        scratch.own, scratch.size = malloc(size + ALIGNMENT), size
    start = <uintptr_t>(scratch.given if scratch.given else scratch.own)
    if start == 0:
        return NULL
    return <char*>((start + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)


cdef int64_t serial_threads(int64_t threads, double cost) noexcept nogil:
    """One thread for little work."""
    return 1 if cost < SERIAL_NS else threads


cdef void plan(
    Part* part, const ConvProblem* problem, const InputStrides* x_strides, int64_t itemsize,
    int64_t threads, bint with_loop, bint skipping,
) noexcept nogil:
    """How a problem runs on up to so many threads; ``skipping`` asks for the row that skips
    padding, the plain loops."""
    cdef double cost
    part.algorithm = choose(problem, x_strides, itemsize, with_loop, &cost)
    if skipping:
        part.algorithm = LOOP
    cut_for(&part.blocks, part.algorithm, problem, itemsize)
    part.threads = serial_threads(min(threads, part.blocks.tasks), cost)
    part.taps_bytes = 0
    if part.algorithm == IM2COL:
        part.taps_bytes = aligned(2 * sizeof(int64_t) * (problem.t + problem.r + problem.s))
    part.shared_bytes = aligned(part.blocks.shared_elements * itemsize)
    part.local_bytes = aligned(part.blocks.local_elements * itemsize)
    part.bytes = part.taps_bytes + part.shared_bytes + part.threads * part.local_bytes


cdef int64_t* fill_taps(
    int64_t* table, int64_t size, int64_t kernel, int64_t outputs, int64_t stride,
    int64_t dilation, int64_t before
) noexcept nogil:
    """An axis of ``problem.taps_of``; where the next one begins."""
    cdef int64_t tap, first, last
    for tap in range(kernel):
        first, last = before - tap * dilation, size + before - tap * dilation
        # Of negative numbers C rounds a quotient up.
        table[0] = min((first + stride - 1) // stride if first > 0 else 0, outputs)
        table[1] = max(min((last + stride - 1) // stride if last > 0 else 0, outputs), table[0])
        table += 2
    return table


cdef int run(ConvCall* call, const Part* part, int64_t itemsize, Scratch* scratch) noexcept nogil:
    """Run a part; 0, or -1 if there is no memory."""
    cdef const ConvProblem* problem = &call.problem
    cdef int dtype = itemsize == sizeof(double)
    cdef ConvRun shared
    cdef int64_t* table
    cdef int64_t threads
    cdef char* memory = room(scratch, part.bytes)
    if memory == NULL:
        return -1
    if part.algorithm == IM2COL:
        call.taps = table = <int64_t*>memory
        table = fill_taps(
            table, problem.d, problem.t, problem.o, problem.stride_d, problem.dilation_d,
            problem.pad_d,
        )
        table = fill_taps(
            table, problem.h, problem.r, problem.p, problem.stride_h, problem.dilation_h,
            problem.pad_h,
        )
        fill_taps(
            table, problem.w, problem.s, problem.q, problem.stride_w, problem.dilation_w,
            problem.pad_w,
        )
    call.cut = &part.blocks.cut
    shared.call, shared.run, shared.finish = call, _tasks[<int>part.algorithm][dtype], NULL
    shared.packing = _panels[dtype] if part.blocks.weight_panels else NULL
    shared.width, shared.local_bytes = part.blocks.width, part.local_bytes
    shared.shared = memory + part.taps_bytes
    shared.local = shared.shared + part.shared_bytes
    threads = threads_for(part.threads, part.blocks.tasks)
    fill_queue(shared.panels, part.blocks.weight_panels, threads)
    fill_queue(shared.tasks, part.blocks.tasks, threads)
    share_conv(&shared, threads)
    return 0
