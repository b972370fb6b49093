"""im2col + GEMM: vectors of pixels meet broadcast weights, and nothing is transposed.

x       (N, C, D, H, W)                      any strides                        IN
packed  [G][panel][t][r][s][c][width]        weight panels (``_packing``)       IN
bias    (K,) or (0,)                         contiguous                         IN
out     (N, K, O, P, Q)                      any strides, overwritten           OUT
local   [depth][pixels of a strip]           columns of a block of the reduction, then
        [channel][whole vectors of pixels]   sums that wait for the next block, and
        [panels][pixel][channel]             those of pixels that fill no vector    SCRATCH
Accumulates in its dtype, in the order t, r, s, c. Task = (block of pixels of the flat o x p x q
plane, n, g, block of panels), taken in strips of three 64-byte vectors of pixels.
Assumes a validated ConvGeometry; raises nothing.
Why: a channels-first plane is a matrix of columns as it lies, and so is its output, so 1x1 kernels
need no columns at all. Those of larger ones are copies of stretches of rows; or, where output rows
are as long as input rows, runs of the input with holes, which masked loads leave out at no cost
(16 channels a group of 3 x 3 at 28 x 28: 80 % of the FMA peak with copies, 93 % without). 8
out-channels x 3 vectors of pixels run at the FMA peak while columns stream from L2.
Source: Goto and van de Geijn 2008.
"""

from cython cimport floating
from libc.stdint cimport int64_t, uint64_t

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._gemm cimport (
    Runs, Stage, clear_rows, copy_inside, copy_rows, copy_transposed, find_inside, has_masks,
    lanes_of, multiply_rest, multiply_strip, prefetch_rows, spread_rows,
)
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, GemmCut, InputStrides, OutputStrides, next_tasks,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking import gemm_cut
from cnnfast.kernels.cython_cpu import _loop
from cnnfast.kernels.cython_cpu._packing import packing


cdef enum:
    #: Panels whose rest of pixels is computed at once: two vectors of out-channels with AVX-512.
    REST_PANELS = 2
    #: Pixels that fill no vector, at most.
    MOST_REST = 15
    #: As in ``gemm.h``, ``costs`` and ``blocking``.
    GEMM_TAPS = 128
    GEMM_STRIPS = 8


cdef int64_t round_up(int64_t count, int64_t multiple) noexcept nogil:
    return (count + multiple - 1) // multiple * multiple


cdef bint is_flat(
    int64_t o, int64_t p, int64_t q, int64_t stride_o, int64_t stride_p, int64_t stride_q
) noexcept nogil:
    """Whether the positions of a volume lie side by side in memory."""
    return (
        (q == 1 or stride_q == 1) and (p == 1 or stride_p == q) and (o == 1 or stride_o == p * q)
    )


cdef bint is_columns(const ConvProblem* problem, const InputStrides* x_strides) noexcept nogil:
    """Whether the input is its own columns: a 1x1x1 kernel that reads every position in order."""
    return (
        problem.t * problem.r * problem.s == 1
        and problem.o == problem.d and problem.p == problem.h and problem.q == problem.w
        and problem.pad_d == 0 and problem.pad_h == 0 and problem.pad_w == 0
        and is_flat(
            problem.d, problem.h, problem.w, x_strides.d, x_strides.h, x_strides.w
        )
    )


cdef bint is_run(const ConvProblem* problem, const InputStrides* x_strides) noexcept nogil:
    """Whether what a tap reads for all outputs is one run of memory with holes: output rows are as
    long as input rows, and planes as planes."""
    return is_flat(
        problem.o, problem.p, problem.q, problem.stride_d * x_strides.d,
        problem.stride_h * x_strides.h, problem.stride_w * x_strides.w,
    )


cdef void pack_tap(
    const floating* x, const InputStrides* x_strides, const ConvProblem* problem,
    const int64_t* taps, int64_t tap, int64_t first, int64_t pixels, int64_t channels,
    floating* columns, int64_t step,
) noexcept nogil:
    """Columns of one tap and ``channels`` channels for a strip of pixels that begins at ``first``:
    stretches of output rows that read inside the input, zeros between them. Where output rows are
    as long as input rows, all stretches are one run of memory with holes."""
    cdef int64_t s = tap % problem.s
    cdef int64_t r = tap // problem.s % problem.r
    cdef int64_t t = tap // (problem.s * problem.r)
    cdef const int64_t* tap_d = taps + 2 * t
    cdef const int64_t* tap_h = taps + 2 * (problem.t + r)
    cdef const int64_t* tap_w = taps + 2 * (problem.t + problem.r + s)
    cdef int64_t d = t * problem.dilation_d - problem.pad_d
    cdef int64_t h = r * problem.dilation_h - problem.pad_h
    cdef int64_t w = s * problem.dilation_w - problem.pad_w
    cdef int64_t q = first % problem.q, p = first // problem.q % problem.p
    cdef int64_t o = first // (problem.q * problem.p)
    cdef int64_t stride_q = problem.stride_w * x_strides.w
    cdef bint run = is_run(problem, x_strides)
    cdef int64_t at = 0, length, begin, end
    cdef uint64_t inside = 0, ones = ~(<uint64_t> 0)
    x += d * x_strides.d + h * x_strides.h + w * x_strides.w
    while at < pixels:
        length = min(problem.q - q, pixels - at)
        begin, end = 0, 0
        if tap_d[0] <= o < tap_d[1] and tap_h[0] <= p < tap_h[1]:
            begin = min(max(tap_w[0] - q, 0), length)
            end = max(min(tap_w[1] - q, length), begin)
        if run:
            if begin < end:
                inside |= ones >> (64 - (end - begin)) << (at + begin)
        else:
            if begin > 0:
                clear_rows(columns + at, step, channels, begin)
            if end < length:
                clear_rows(columns + at + end, step, channels, length - end)
            if begin < end:
                copy_rows(
                    columns + at + begin, step,
                    x + o * problem.stride_d * x_strides.d + p * problem.stride_h * x_strides.h
                    + (q + begin) * stride_q, x_strides.c, stride_q, channels, end - begin,
                )
        at += length
        q = 0
        p += 1
        if p == problem.p:
            p = 0
            o += 1
    if run:
        copy_inside(columns, step, x + first, x_strides.c, inside, channels, pixels)


cdef void pack_columns(
    const floating* x, const InputStrides* x_strides, const ConvProblem* problem,
    const int64_t* taps, int64_t first, int64_t pixels, int64_t begin, int64_t end,
    floating* columns, int64_t step,
) noexcept nogil:
    """Columns of the steps begin .. end-1 of the reduction."""
    cdef int64_t channel, channels
    while begin < end:
        channel = begin % problem.c
        channels = min(problem.c - channel, end - begin)
        pack_tap(
            x + channel * x_strides.c, x_strides, problem, taps, begin // problem.c, first, pixels,
            channels, columns, step,
        )
        columns += channels * step
        begin += channels


cdef void unpack_sums(
    const floating* sums, int64_t sums_stride, int64_t channels, const ConvProblem* problem,
    int64_t first, int64_t pixels, floating* out, const OutputStrides* out_strides,
) noexcept nogil:
    """Copy sums[channel][pixel] to pixels that aren't side by side in ``out``."""
    cdef int64_t q = first % problem.q, p = first // problem.q % problem.p
    cdef int64_t o = first // (problem.q * problem.p)
    cdef int64_t at = 0, length
    cdef floating* to
    while at < pixels:
        length = min(problem.q - q, pixels - at)
        to = out + o * out_strides.o + p * out_strides.p + q * out_strides.q
        if out_strides.q == 1:
            copy_rows(to, out_strides.k, sums + at, sums_stride, 1, channels, length)
        elif out_strides.k == 1:
            copy_transposed(to, out_strides.q, sums + at, 1, sums_stride, length, channels)
        else:
            spread_rows(
                to, out_strides.k, out_strides.q, sums + at, sums_stride, channels, length
            )
        at += length
        q = 0
        p += 1
        if p == problem.p:
            p = 0
            o += 1


cdef struct Strip:
    #: Pixels of the flat plane; the last ones, fewer than a vector, are the rest.
    int64_t first, pixels, rest
    #: Pixels that follow in the plane, and where the rest goes.
    int64_t next_pixels
    int64_t to_pixel[MOST_REST]
    #: The input is its own columns, and pixels lie side by side in the output.
    bint columns_in_place, flat_out
    #: Where a tap's columns are a run of the input: which of them are, by tap; else NULL.
    const uint64_t* inside


cdef void multiply_panels(
    const floating* columns, const Runs* runs, const floating* weights, int64_t apart,
    const floating* bias, floating* out, const OutputStrides* out_strides,
    const ConvProblem* problem, const GemmCut* cut, floating* sums, const Strip* strip,
    Stage stage, int64_t channels,
) noexcept nogil:
    """Some steps of a strip for ``channels``, whose panels are ``apart``."""
    cdef int64_t main = strip.pixels - strip.rest, vectors = main // lanes_of(out)
    cdef int64_t depth = runs.length, step = runs.step
    cdef floating* rest_sums = sums + round_up(channels, cut.width) * main
    cdef int64_t share = depth * cut.width // channels + 1, ahead = 0, k = 0, some, pair
    while k < channels:
        some = min(cut.width, channels - k)
        if main and stage.finish and strip.flat_out:
            multiply_strip(
                out + k * out_strides.k + strip.first, out_strides.k, sums + k * main, main,
                columns, runs, strip.inside, weights, bias + k if bias else NULL, stage, some,
                vectors,
            )
        elif main:
            multiply_strip(
                sums + k * main, main, sums + k * main, main, columns, runs, strip.inside, weights,
                bias + k if bias else NULL, stage, some, vectors,
            )
            if stage.finish:
                unpack_sums(
                    sums + k * main, main, some, problem, strip.first, main,
                    out + k * out_strides.k, out_strides,
                )
        if strip.columns_in_place and strip.next_pixels and ahead < depth:
            # The next strip comes from memory meanwhile, a part of it with every panel.
            prefetch_rows(
                columns + strip.pixels + ahead * step, step, min(share, depth - ahead),
                strip.next_pixels,
            )
            ahead += share
        k += cut.width
        weights += apart
        pair = (k - 1) // cut.width % REST_PANELS
        if strip.rest and (pair == REST_PANELS - 1 or k >= channels):
            pair = k - (pair + 1) * cut.width
            multiply_rest(
                rest_sums + pair * strip.rest, columns + main, step, depth,
                weights - (k - pair) // cut.width * apart, apart, bias + pair if bias else NULL,
                stage, min(channels, k) - pair, strip.rest, out + pair * out_strides.k,
                strip.to_pixel, out_strides.k,
            )


cdef void multiply_depths(
    const floating* x, const InputStrides* x_strides, const floating* packed, const floating* bias,
    floating* out, const OutputStrides* out_strides, const ConvProblem* problem,
    const int64_t* taps, const GemmCut* cut, floating* local, int64_t activation,
    const Strip* strip, int64_t channels,
) noexcept nogil:
    """The whole reduction of a strip for ``channels``, a block of steps at a time."""
    cdef int64_t length = problem.t * problem.r * problem.s * problem.c, begin = 0, depth
    cdef int64_t step = round_up(strip.pixels, lanes_of(x))
    cdef const floating* columns = local
    cdef Stage stage
    cdef Runs runs
    stage.activation = activation
    runs.t, runs.r, runs.s = 1, 1, 1
    runs.step_t, runs.step_r, runs.step_s = 0, 0, 0
    if strip.inside:
        runs.t, runs.r, runs.s, runs.length = problem.t, problem.r, problem.s, problem.c
        runs.step_t = problem.dilation_d * x_strides.d
        runs.step_r = problem.dilation_h * x_strides.h
        runs.step_s, runs.step = problem.dilation_w * x_strides.w, x_strides.c
        stage.resume, stage.finish = False, True
        multiply_panels(
            x - problem.pad_d * x_strides.d - problem.pad_h * x_strides.h
            - problem.pad_w * x_strides.w + strip.first, &runs, packed, length * cut.width, bias,
            out, out_strides, problem, cut, local + cut.depth * cut.strip, strip, stage, channels,
        )
        return
    while begin < length:
        depth = min(cut.depth, length - begin)
        stage.resume, stage.finish = begin > 0, begin + depth == length
        if strip.columns_in_place:
            columns, step = x + strip.first + begin * x_strides.c, x_strides.c
        else:
            pack_columns(
                x, x_strides, problem, taps, strip.first, strip.pixels, begin, begin + depth,
                local, step,
            )
        runs.length, runs.step = depth, step
        multiply_panels(
            columns, &runs, packed + begin * cut.width, length * cut.width, bias, out,
            out_strides, problem, cut, local + cut.depth * cut.strip, strip, stage, channels,
        )
        begin += depth


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* packed, const floating* bias,
    floating* out, const OutputStrides* out_strides, const ConvProblem* problem,
    const int64_t* taps, const GemmCut* cut, floating* local, int64_t activation, int64_t task,
    uint64_t* inside, int64_t* masked,
) noexcept nogil:
    """One task; ``bias`` may be NULL. ``inside``: of each strip of the block ``masked``, which is the
    same for all images and groups."""
    cdef int64_t place = task // cut.k_blocks, k_block = task % cut.k_blocks
    cdef int64_t groups = problem.n * problem.g
    cdef int64_t pixel_block = place // groups, group = place % groups
    cdef int64_t n = group // problem.g, g = group % problem.g
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width
    cdef int64_t k = k_block * cut.panels * cut.width
    cdef int64_t channels = min(cut.panels * cut.width, problem.k - k)
    cdef int64_t length = problem.t * problem.r * problem.s * problem.c
    cdef int64_t plane = problem.o * problem.p * problem.q, m, at
    cdef int64_t end = (pixel_block + 1) * cut.pixels
    cdef Strip strip
    if pixel_block + 1 == cut.pixel_blocks:
        end = plane
    x += n * x_strides.n + g * problem.c * x_strides.c
    packed += (g * panels + k_block * cut.panels) * length * cut.width
    out += n * out_strides.n + (g * problem.k + k) * out_strides.k
    if bias:
        bias += g * problem.k + k
    strip.columns_in_place = is_columns(problem, x_strides)
    strip.flat_out = is_flat(
        problem.o, problem.p, problem.q, out_strides.o, out_strides.p, out_strides.q
    )
    cdef bint in_place = (
        not strip.columns_in_place and is_run(problem, x_strides) and has_masks(x)
        and problem.t * problem.r * problem.s <= GEMM_TAPS
    )
    strip.first = pixel_block * cut.pixels
    while strip.first < end:
        strip.pixels = end - strip.first
        if strip.pixels >= 4 * cut.width:
            strip.pixels = 3 * cut.width
        strip.rest = strip.pixels % lanes_of(out)
        strip.inside = NULL
        if in_place and strip.rest < strip.pixels:
            # The rest has columns of its own.
            strip.pixels -= strip.rest
            strip.rest = 0
            strip.inside = inside
            if masked[0] != pixel_block:
                find_inside(
                    inside, taps, problem.t, problem.r, problem.s, problem.p, problem.q,
                    strip.first, strip.pixels,
                )
            inside += GEMM_TAPS
        strip.next_pixels = min(plane - strip.first - strip.pixels, 3 * cut.width)
        for m in range(strip.rest):
            at = strip.first + strip.pixels - strip.rest + m
            strip.to_pixel[m] = (
                at // (problem.q * problem.p) * out_strides.o
                + at // problem.q % problem.p * out_strides.p + at % problem.q * out_strides.q
            )
        multiply_depths(
            x, x_strides, packed, bias, out, out_strides, problem, taps, cut, local, activation,
            &strip, channels,
        )
        strip.first += strip.pixels
    masked[0] = pixel_block


cdef void run_tasks(const ConvCall* call, floating* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef int64_t task, begin = 0, end = 0, masked = -1
    cdef uint64_t inside[GEMM_STRIPS * GEMM_TAPS]
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <const floating*>call.x, &call.x_strides, <const floating*>call.weight,
                <const floating*>call.bias, <floating*>call.out, &call.out_strides, &call.problem,
                call.taps, <const GemmCut*>call.cut, local, call.activation, task, inside, &masked,
            )


_tasks = {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])}
fprop = drivers.fprop(gemm_cut, _tasks, packing)
dgrad = adjoints.dgrad(fprop, skipping=_loop.dgrad, split=adjoints.in_panels)
wgrad = adjoints.wgrad(fprop)
