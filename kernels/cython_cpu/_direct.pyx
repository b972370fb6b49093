"""Direct convolution: stretches of output rows are summed in registers, without columns per tap.

x       (N, C, D, H, W)       any strides                             IN
weight  (K, C/G, T, R, S)     any strides                             IN
bias    (K,) or (0,)          contiguous                              IN
out     (N, K, O, P, Q)       any strides, overwritten                OUT
local   RowsCut: offsets of taps, weights, padded input               SCRATCH
Accumulates in its dtype, in the order t, r, s, c. Task = (n, g, out-channels, o, rows, columns).
Assumes a validated ConvGeometry; raises nothing.
Why: with few channels a copy per tap (im2col) or a transposed one (tiled) costs more than the sums.
Four ways: depthwise layers whose channels lie next to each other have vectors of channels. One
channel with 3 x 3 taps reads its input in place. All others sum over a padded copy of the input
under a task, its rows and columns dealt out by their position modulo the stride: taller kernels of
one out-channel share loads between rows (and copy nothing where no padding is near), up to four
out-channels share them. Source: Zhang et al. 2018.
"""

from cython cimport floating
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, RowsCut, WeightStrides, next_tasks,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking_rows import rows_cut
from cnnfast.kernels.cython_cpu import _loop


cdef extern from *:
    """
    #define WITH_AVX512
    #define LOOPS "direct.h"
    #include "instruction_sets.h"
    """
    int64_t DIRECT_CHANNELS, SHARED_ROWS, CHANNEL_VECTORS

    ctypedef struct Window:
        int64_t t, r
        int64_t x_t, x_r, x_p
        int64_t at_d, at_h, d, h
        int64_t dilation_d, dilation_h, stride

    ctypedef struct Target:
        int64_t k, p, q
        int64_t activation, streaming

    ctypedef struct Copy:
        int64_t pitch, plane, rest, phases_h, phases_w, channels, rows
        int64_t x_c, x_h, x_w, stride_h, stride_w
        int64_t at_h, at_w, h, w

    ctypedef struct Flat:
        int64_t taps
        const int64_t* steps
        int64_t rows, columns, pitch

    ctypedef struct Plane:
        int64_t x_h, at_h, at_w, h, w, stride
        const void* zeros

    ctypedef struct Columns:
        int64_t taps, dilation, stride, at, size, x_w

    void copy_plane(void* to, const void* x, const Copy* copy) noexcept nogil
    void sum_flat(
        void* out, const Target* target, const void* x, const void* w, const void* bias,
        const Flat* flat, int64_t channels
    ) noexcept nogil
    void sum_shared(
        void* out, const Target* target, const void* x, const void* w, const void* bias,
        const Window* window, const int64_t* steps, int64_t count, int64_t rows, int64_t columns
    ) noexcept nogil
    void sum_3x3(
        void* out, const Target* target, const void* x, const void* w, const void* bias,
        const Plane* plane, int64_t rows, int64_t columns
    ) noexcept nogil
    int64_t lanes_of(const void* x) noexcept nogil
    void sum_channels(
        void* out, const Target* target, const void* x, const void* w, const void* bias,
        const Window* window, const Columns* columns, int64_t rows, int64_t pixels,
        int64_t channels
    ) noexcept nogil


cdef enum:
    #: Planes that are stored past the caches: half of a 32 MiB L3.
    STREAMED_BYTES = 16 << 20


cdef void fill_steps(
    int64_t* steps, const ConvProblem* problem, const RowsCut* cut, const InputStrides* x_strides,
) noexcept nogil:
    """How far taps (t, r, s, c) are from the first output's place in a copy; then how far (s, c)
    are from the first tap's in the input."""
    cdef int64_t t, r, s, c, h, w, phase
    for t in range(problem.t):
        for r in range(problem.r):
            h = r * problem.dilation_h
            for s in range(problem.s):
                w = s * problem.dilation_w
                phase = h % problem.stride_h * cut.phases_w + w % problem.stride_w
                for c in range(problem.c):
                    steps[0] = (
                        ((t * problem.c + c) * cut.phases_h * cut.phases_w + phase) * cut.plane
                        + h // problem.stride_h * cut.pitch + w // problem.stride_w
                    )
                    steps += 1
    for s in range(problem.s):
        for c in range(problem.c):
            steps[0] = c * x_strides.c + s * problem.dilation_w * x_strides.w
            steps += 1


cdef void gather_weights(
    const floating* weight, const WeightStrides* strides, const ConvProblem* problem,
    floating* gathered, int64_t channels,
) noexcept nogil:
    """The weights of some out-channels as ``[t][r][s][c][k]``."""
    cdef int64_t t, r, s, c, k
    cdef const floating* tap
    for t in range(problem.t):
        for r in range(problem.r):
            for s in range(problem.s):
                tap = weight + t * strides.t + r * strides.r + s * strides.s
                for c in range(problem.c):
                    for k in range(channels):
                        gathered[k] = tap[k * strides.k]
                    tap += strides.c
                    gathered += channels


cdef void plane_tile(
    const floating* x, const floating* bias, floating* out, const ConvCall* call, floating* local,
    const Block* block,
) noexcept nogil:
    """A task of one channel with 3 x 3 taps, whose input is read in place; the copy's place is
    zeros."""
    cdef const ConvProblem* problem = &call.problem
    cdef const RowsCut* cut = <const RowsCut*>call.cut
    cdef const WeightStrides* strides = &call.weight_strides
    cdef floating* gathered = local + cut.step_elements
    cdef const floating* weight = <const floating*>call.weight
    cdef int64_t d = block.o * problem.stride_d - problem.pad_d, k
    cdef Plane plane
    cdef Target target
    plane.stride, plane.x_h = problem.stride_h, call.x_strides.h
    plane.zeros = gathered + cut.weight_elements
    plane.at_h = block.p * problem.stride_h - problem.pad_h
    plane.at_w = block.q * problem.stride_w - problem.pad_w
    plane.h, plane.w = problem.h, problem.w
    if not 0 <= d < problem.d:
        d = plane.h = 0
    target.p, target.q = call.out_strides.p, call.out_strides.q
    target.activation = call.activation
    target.streaming = (
        problem.p * problem.q * <int64_t>sizeof(floating) >= STREAMED_BYTES
        and target.q == 1 and target.p * sizeof(floating) % 64 == 0
        and call.out_strides.k * sizeof(floating) % 64 == 0 and <uintptr_t>out % 64 == 0
    )
    x += d * call.x_strides.d
    weight += (block.g * problem.k + block.k) * strides.k
    for k in range(block.k, block.k_end):
        if strides.r != 3 or strides.s != 1:
            gather_weights(weight, strides, problem, gathered, 1)
        sum_3x3(
            out, &target, x, weight if strides.r == 3 and strides.s == 1 else gathered, bias,
            &plane, block.rows, block.columns,
        )
        weight += strides.k
        out += call.out_strides.k
        if bias:
            bias += 1


cdef void copy_input(
    const floating* x, floating* halo, const ConvCall* call, const Block* block
) noexcept nogil:
    """Copy what is under a task, with the padding."""
    cdef const ConvProblem* problem = &call.problem
    cdef const RowsCut* cut = <const RowsCut*>call.cut
    cdef const InputStrides* strides = &call.x_strides
    cdef int64_t t, d = block.o * problem.stride_d - problem.pad_d
    cdef Copy copy
    copy.pitch, copy.plane, copy.rest = cut.pitch, cut.plane, cut.rest
    copy.phases_h, copy.phases_w, copy.channels = cut.phases_h, cut.phases_w, problem.c
    copy.rows = (block.rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1
    copy.x_c, copy.x_h, copy.x_w = strides.c, strides.h, strides.w
    copy.stride_h, copy.stride_w = problem.stride_h, problem.stride_w
    copy.h, copy.w = problem.h, problem.w
    copy.at_h = block.p * problem.stride_h - problem.pad_h
    copy.at_w = block.q * problem.stride_w - problem.pad_w
    for t in range(problem.t):
        copy_plane(halo, x + d * strides.d if 0 <= d < problem.d else NULL, &copy)
        halo += problem.c * cut.phases_h * cut.phases_w * cut.plane
        d += problem.dilation_d


cdef bint is_inside(const ConvProblem* problem, const Block* block, int64_t lanes) noexcept nogil:
    """Whether all that whole vectors of a task's columns read is inside of the input."""
    cdef int64_t d = block.o * problem.stride_d - problem.pad_d, h = block.p - problem.pad_h
    cdef int64_t w = block.q - problem.pad_w
    cdef int64_t columns = (block.columns + lanes - 1) // lanes * lanes
    return (
        d >= 0 and h >= 0 and w >= 0 and d + (problem.t - 1) * problem.dilation_d < problem.d
        and h + block.rows - 1 + problem.r - 1 < problem.h
        and w + columns - 1 + (problem.s - 1) * problem.dilation_w < problem.w
    )


cdef void tile(
    const floating* x, const floating* bias, floating* out, const ConvCall* call, floating* local,
    const Block* block,
) noexcept nogil:
    """A task over a copy, or, where rows share loads and no padding is near, in place."""
    cdef const ConvProblem* problem = &call.problem
    cdef const RowsCut* cut = <const RowsCut*>call.cut
    cdef const WeightStrides* strides = &call.weight_strides
    cdef const int64_t* steps = <const int64_t*> local
    cdef int64_t taps = problem.t * problem.r * problem.s * problem.c, k = block.k, channels
    cdef floating* gathered = local + cut.step_elements
    cdef floating* halo = gathered + cut.weight_elements
    cdef const floating* from_
    cdef bint sharing = (
        problem.stride_h == problem.stride_w == problem.dilation_h == 1
        and problem.r >= SHARED_ROWS <= block.rows
    )
    cdef bint in_place = (
        sharing and problem.k == 1 and call.x_strides.w == 1
        and is_inside(problem, block, lanes_of(x))
    )
    cdef Window window
    cdef Target target
    cdef Flat flat
    target.k, target.p, target.q = call.out_strides.k, call.out_strides.p, call.out_strides.q
    target.activation = call.activation
    flat.taps, flat.steps, flat.pitch = taps, steps, cut.pitch
    flat.rows, flat.columns = block.rows, block.columns
    window.t, window.r = problem.t, problem.r
    if in_place:
        from_ = x + (
            (block.o * problem.stride_d - problem.pad_d) * call.x_strides.d
            + (block.p - problem.pad_h) * call.x_strides.h + block.q - problem.pad_w
        )
        window.x_t = problem.dilation_d * call.x_strides.d
        window.x_r = window.x_p = call.x_strides.h
        steps += taps
    else:
        copy_input(x, halo, call, block)
        from_ = halo
        window.x_t = problem.c * cut.phases_h * cut.phases_w * cut.plane
        window.x_r = window.x_p = cut.pitch
    while k < block.k_end:
        channels = min(block.k_end - k, DIRECT_CHANNELS)
        gather_weights(
            <const floating*>call.weight + (block.g * problem.k + k) * strides.k, strides, problem,
            gathered, channels,
        )
        if channels == 1 and sharing:
            sum_shared(
                out, &target, from_, gathered, bias, &window, steps, problem.s * problem.c,
                block.rows, block.columns,
            )
        else:
            sum_flat(out, &target, from_, gathered, bias, &flat, channels)
        out += channels * target.k
        if bias:
            bias += channels
        k += channels


cdef void channel_tile(
    const floating* x, const floating* bias, floating* out, const ConvCall* call, floating* local,
    const Block* block,
) noexcept nogil:
    """A task of vectors along channels: the first group's of some vectors does all of it, the others
    do nothing, so that the tasks are the same for every layout."""
    cdef const ConvProblem* problem = &call.problem
    cdef const RowsCut* cut = <const RowsCut*>call.cut
    cdef const InputStrides* x_strides = &call.x_strides
    cdef const WeightStrides* strides = &call.weight_strides
    cdef int64_t together = CHANNEL_VECTORS * lanes_of(x)
    cdef int64_t channels = min(together, problem.g - block.g)
    cdef int64_t t, r, s, i
    cdef floating* tap = local + cut.step_elements
    cdef const floating* source
    cdef Window window
    cdef Columns along
    cdef Target target
    if block.g % together:
        return
    for t in range(problem.t):
        for r in range(problem.r):
            for s in range(problem.s):
                source = (
                    <const floating*>call.weight + block.g * strides.k + t * strides.t
                    + r * strides.r + s * strides.s
                )
                for i in range(channels):
                    tap[i] = source[i * strides.k]
                for i in range(channels, together):
                    tap[i] = 0
                tap += together
    window.t, window.r, window.stride = problem.t, problem.r, problem.stride_h
    window.at_d = block.o * problem.stride_d - problem.pad_d
    window.at_h = block.p * problem.stride_h - problem.pad_h
    window.d, window.h = problem.d, problem.h
    window.dilation_d, window.dilation_h = problem.dilation_d, problem.dilation_h
    window.x_t = problem.dilation_d * x_strides.d
    window.x_r = problem.dilation_h * x_strides.h
    window.x_p = problem.stride_h * x_strides.h
    along.taps, along.dilation, along.stride = problem.s, problem.dilation_w, problem.stride_w
    along.at, along.size, along.x_w = (
        block.q * problem.stride_w - problem.pad_w, problem.w, x_strides.w
    )
    target.p, target.q = call.out_strides.p, call.out_strides.q
    target.activation = call.activation
    sum_channels(
        out, &target,
        x + window.at_d * x_strides.d + window.at_h * x_strides.h + along.at * x_strides.w,
        local + cut.step_elements, bias, &window, &along, block.rows, block.columns, channels,
    )


cdef void run_tasks(const ConvCall* call, floating* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef const ConvProblem* problem = &call.problem
    cdef const RowsCut* cut = <const RowsCut*>call.cut
    cdef const OutputStrides* to = &call.out_strides
    cdef const floating* x
    cdef const floating* bias = NULL
    cdef floating* out
    cdef Way way = way_of(problem, &call.x_strides, to)
    cdef int64_t task, k, begin = 0, end = 0
    cdef Block block
    if way == COPYING:
        fill_steps(<int64_t*> local, problem, cut, &call.x_strides)
    elif way == IN_PLACE:
        memset(
            local + cut.step_elements + cut.weight_elements, 0,
            cut.zero_elements * sizeof(floating),
        )
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            locate(&block, problem, cut, task)
            k = block.g * problem.k + block.k
            x = (
                <const floating*>call.x + block.n * call.x_strides.n
                + block.g * problem.c * call.x_strides.c
            )
            out = (
                <floating*>call.out + block.n * to.n + k * to.k + block.o * to.o + block.p * to.p
                + block.q * to.q
            )
            if call.bias:
                bias = <const floating*>call.bias + k
            if way == ALONG_CHANNELS:
                channel_tile(x, bias, out, call, local, &block)
            elif way == IN_PLACE:
                plane_tile(x, bias, out, call, local, &block)
            else:
                tile(x, bias, out, call, local, &block)


_tasks = {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])}
fprop = drivers.fprop(rows_cut, _tasks)
# Columns in the padding add a zero times the weight.
dgrad = adjoints.dgrad(fprop, skipping=_loop.dgrad, split=adjoints.in_rows)
