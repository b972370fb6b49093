"""Transposed convolutions without Python: a part (``_parts``) per phase, as in ``adjoints``.

Results whose positions agree modulo the stride are a convolution of stride 1, with every other
(flipped) tap, on strided views. Where several groups have several channels each runs by itself, for
their exchanged channels aren't a view.
"""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._array cimport all_finite
from cnnfast.kernels.cython_cpu._call cimport ConvCall
from cnnfast.kernels.cython_cpu._choice cimport reads_padding
from cnnfast.kernels.cython_cpu._geometry cimport fill_contiguous
from cnnfast.kernels.cython_cpu._parts cimport Part, Scratch, plan, run
from cnnfast.kernels.cython_cpu._problem cimport ConvProblem, OutputStrides
from cnnfast.kernels.cython_cpu.status cimport CNNFAST_RELU6


cdef bint weights_finite(
    const void* weight, const ConvProblem* problem, const int64_t* strides, int64_t itemsize
) noexcept nogil:
    """Whether no weight is infinite or NaN; a contiguous array is one long row."""
    cdef int64_t shape[5]
    cdef int64_t steps[5]
    cdef int64_t dense[5]
    cdef int axis
    cdef bint contiguous = True
    shape[0], shape[1] = problem.g * problem.k, problem.c
    shape[2], shape[3], shape[4] = problem.t, problem.r, problem.s
    fill_contiguous(dense, problem.c, problem.t, problem.r, problem.s)
    for axis in range(5):
        steps[axis] = strides[axis]
        contiguous = contiguous and strides[axis] == dense[axis]
    if contiguous:
        shape[4] = shape[0] * dense[0]
        shape[0] = shape[1] = shape[2] = shape[3] = 1
    return all_finite(<const char*>weight, <int>itemsize, shape, steps)


cdef struct Phase:
    #: Of an axis: results ``start, start + stride, ...`` of which there are ``places``; they read
    #: ``taps`` taps from ``last`` down, ``step`` apart, and the first begins ``before`` the first
    #: position, or behind it if that is negative.
    int64_t start, places, taps, last, step, dilation, before


cdef int64_t gcd(int64_t a, int64_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef int64_t phases_along(const ConvProblem* problem, int axis) noexcept nogil:
    """How many phases ``find_phase`` is to be asked for."""
    cdef int64_t stride = (&problem.stride_d)[axis]
    return min(stride // gcd(stride, (&problem.dilation_d)[axis]), (&problem.t)[axis])


cdef bint find_phase(
    Phase* phase, const ConvProblem* problem, int axis, int64_t first
) noexcept nogil:
    """The phase that reads every ``step``-th tap from ``first`` on, as ``adjoints`` finds it; False
    if it has no results, or none that reads anything."""
    cdef int64_t stride = (&problem.stride_d)[axis], dilation = (&problem.dilation_d)[axis]
    cdef int64_t size = (&problem.d)[axis], pad = (&problem.pad_d)[axis]
    cdef int64_t common = gcd(stride, dilation), a = first * dilation % stride, behind
    phase.step, phase.dilation = stride // common, dilation // common
    phase.start = (a - pad) % stride
    if phase.start < 0:
        phase.start += stride
    phase.taps = ((&problem.t)[axis] - 1 - first) // phase.step + 1
    behind = (first * dilation - a) // stride + (phase.taps - 1) * phase.dilation
    phase.before = behind - (phase.start + pad) // stride
    phase.last = first + (phase.taps - 1) * phase.step
    phase.places = (size - phase.start + stride - 1) // stride
    return phase.start < size and -phase.before < (&problem.o)[axis]


cdef void take_phase(
    ConvCall* part, const ConvCall* call, const Phase* phases, int64_t itemsize
) noexcept nogil:
    """The fprop of a phase of ``call``, a dgrad: what it reads and writes of the arrays."""
    cdef int64_t* x_strides = &part.x_strides.d
    cdef int64_t* weight_strides = &part.weight_strides.t
    cdef int64_t* out_strides = &part.out_strides.o
    cdef ConvProblem* problem = &part.problem
    cdef const Phase* phase
    cdef int64_t skipped
    cdef int axis
    part[0] = call[0]
    problem.c, problem.k = call.problem.k, call.problem.c
    part.weight_strides.c = call.weight_strides.k
    part.weight_strides.k = call.weight_strides.c
    if problem.g > 1:
        # One channel of results in each group.
        part.weight_strides.k = call.weight_strides.k * problem.c
    for axis in range(3):
        phase = &phases[axis]
        skipped = max(-phase.before, 0)
        (&problem.d)[axis] = (&call.problem.o)[axis] - skipped
        (&problem.o)[axis], (&problem.t)[axis] = phase.places, phase.taps
        (&problem.stride_d)[axis], (&problem.dilation_d)[axis] = 1, phase.dilation
        (&problem.pad_d)[axis] = max(phase.before, 0)
        part.x = <const char*>part.x + skipped * x_strides[axis] * itemsize
        part.weight = <const char*>part.weight + phase.last * weight_strides[axis] * itemsize
        part.out = <char*>part.out + phase.start * out_strides[axis] * itemsize
        weight_strides[axis] *= -phase.step
        out_strides[axis] *= (&call.problem.stride_d)[axis]


cdef void apply_to_one(void* value, int64_t activation) noexcept nogil:
    (<void (*)(void*, int64_t) noexcept nogil>activation)(value, 1)


cdef void fill_alone(const ConvCall* call, int64_t itemsize) noexcept nogil:
    """Fill the results of a dgrad with what no input reaches: bias and activation."""
    cdef const ConvProblem* at = &call.problem
    cdef const OutputStrides* strides = &call.out_strides
    cdef int64_t n, c, d, h, w, to
    cdef double wide = 0
    cdef float narrow = 0
    for c in range(at.g * at.c):
        if itemsize == sizeof(float):
            narrow = (<const float*>call.bias)[c] if call.bias else 0
            if call.activation >= LEAST_ADDRESS:
                apply_to_one(&narrow, call.activation)
            elif call.activation:
                narrow = 0 if narrow < 0 else narrow
                narrow = 6 if call.activation == CNNFAST_RELU6 and narrow > 6 else narrow
        else:
            wide = (<const double*>call.bias)[c] if call.bias else 0
            if call.activation >= LEAST_ADDRESS:
                apply_to_one(&wide, call.activation)
            elif call.activation:
                wide = 0 if wide < 0 else wide
                wide = 6 if call.activation == CNNFAST_RELU6 and wide > 6 else wide
        for n in range(at.n):
            for d in range(at.d):
                for h in range(at.h):
                    to = n * strides.n + c * strides.k + d * strides.o + h * strides.p
                    for w in range(at.w):
                        if itemsize == sizeof(float):
                            (<float*>call.out)[to + w * strides.q] = narrow
                        else:
                            (<double*>call.out)[to + w * strides.q] = wide


cdef bint leaves_gaps(const ConvProblem* problem) noexcept nogil:
    """Whether there are results that no input reaches."""
    cdef Phase phase
    cdef int64_t first, places
    cdef int axis
    for axis in range(3):
        places = 0
        for first in range(phases_along(problem, axis)):
            if find_phase(&phase, problem, axis, first):
                places += phase.places
        if places < (&problem.d)[axis]:
            return True
    return False


cdef int64_t run_phases(
    const ConvCall* call, int64_t itemsize, int64_t threads, Scratch* scratch
) noexcept nogil:
    """All phases of a dgrad; without scratch nothing runs: bytes of it that the largest takes."""
    cdef Phase phases[3]
    cdef ConvCall view
    cdef Part part
    cdef int64_t first, second, third, most = 0
    cdef bint skipping
    cdef int finite = -1
    for first in range(phases_along(&call.problem, 0)):
        if not find_phase(&phases[0], &call.problem, 0, first):
            continue
        for second in range(phases_along(&call.problem, 1)):
            if not find_phase(&phases[1], &call.problem, 1, second):
                continue
            for third in range(phases_along(&call.problem, 2)):
                if not find_phase(&phases[2], &call.problem, 2, third):
                    continue
                take_phase(&view, call, phases, itemsize)
                skipping = False
                if scratch != NULL and reads_padding(&view.problem):
                    # No result sees an input that isn't there, not even times zero.
                    if finite < 0:
                        finite = weights_finite(
                            call.weight, &call.problem, <const int64_t*>&call.weight_strides,
                            itemsize,
                        )
                    skipping = not finite
                plan(&part, &view.problem, &view.x_strides, itemsize, threads, False, skipping)
                most = max(most, part.bytes)
                if scratch != NULL and run(&view, &part, itemsize, scratch) != 0:
                    return -1
    return most


cdef int64_t convolve_transposed(
    ConvCall* call, int64_t itemsize, int64_t threads, Scratch* scratch
) noexcept nogil:
    """A dgrad, each group by itself if they aren't views together; as ``run_phases``."""
    cdef int64_t groups = 1, most = 0, group, size
    cdef ConvProblem* problem = &call.problem
    if scratch != NULL and leaves_gaps(problem):
        fill_alone(call, itemsize)
    if problem.g > 1 and problem.c > 1:
        groups, problem.g = problem.g, 1
    for group in range(groups):
        size = run_phases(call, itemsize, threads, scratch)
        if size < 0 or scratch == NULL:
            return size
        most = max(most, size)
        call.x = <const char*>call.x + problem.k * call.x_strides.c * itemsize
        call.weight = <const char*>call.weight + problem.k * call.weight_strides.k * itemsize
        call.out = <char*>call.out + problem.c * call.out_strides.k * itemsize
        if call.bias != NULL:
            call.bias = <const char*>call.bias + problem.c * itemsize
    return most
