"""im2col + GEMM: vectors of pixels meet broadcast weights, and nothing is transposed.

x       (N, C, D, H, W)                      any strides                        IN
packed  [G][panel][t][r][s][c][width]        weight panels (``_packing``)       IN
bias    (K,) or (0,)                         contiguous                         IN
out     (N, K, O, P, Q)                      any strides, overwritten           OUT
local   [depth][pixels of a strip]           columns of a block of the reduction, then
        [channel][whole vectors of pixels]   sums of the task's panels, and
        [panel][pixel of the rest][width]    those of pixels that fill no vector SCRATCH
Accumulates in its dtype, in the order t, r, s, c. Task = (n, g, block of pixels of the flat
o x p x q plane, block of panels), taken in strips of three 64-byte vectors of pixels.
Assumes a validated ConvGeometry; raises nothing.
Why: a channels-first plane is a matrix of columns as it lies, and so is its output, so 1x1 kernels
need no columns at all; those of larger ones are copies of stretches of rows. 8 out-channels x 3
vectors of pixels run at the FMA peak while columns stream from L2 (117 GFLOP/s of 116).
Source: Goto and van de Geijn 2008.
"""

from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._gemm cimport (
    Stage, clear_rows, copy_rows, lanes_of, multiply_pixels, multiply_rest, prefetch_rows,
    store_rest,
)
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, GemmCut, InputStrides, OutputStrides, next_tasks, read_fields, read_strides,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking import gemm_cut
from cnnfast.kernels.cython_cpu import _loop
from cnnfast.kernels.cython_cpu._packing import pack_weight


cdef enum:
    #: Panels whose rest of pixels is computed at once: two vectors of out-channels with AVX-512.
    REST_PANELS = 2
    #: Pixels that fill no vector, at most.
    MOST_REST = 15


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


cdef void pack_tap(
    const floating* x, const InputStrides* x_strides, const ConvProblem* problem,
    const int64_t* taps, int64_t tap, int64_t first, int64_t pixels, int64_t channels,
    floating* columns, int64_t step,
) noexcept nogil:
    """Columns of one tap and ``channels`` channels for a strip of pixels that begins at ``first``:
    the stretch of each output row that reads inside the input is copied, the others are zeros."""
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
    cdef int64_t at = 0, length, begin, end
    cdef const floating* row
    while at < pixels:
        length = min(problem.q - q, pixels - at)
        begin, end = 0, 0
        if tap_d[0] <= o < tap_d[1] and tap_h[0] <= p < tap_h[1]:
            begin = min(max(tap_w[0] - q, 0), length)
            end = max(min(tap_w[1] - q, length), begin)
        if begin > 0:
            clear_rows(columns + at, step, channels, begin)
        if end < length:
            clear_rows(columns + at + end, step, channels, length - end)
        if begin < end:
            row = (
                x + (o * problem.stride_d + d) * x_strides.d
                + (p * problem.stride_h + h) * x_strides.h
                + ((q + begin) * problem.stride_w + w) * x_strides.w
            )
            copy_rows(
                columns + at + begin, step, 1, row, x_strides.c,
                problem.stride_w * x_strides.w, channels, end - begin,
            )
        at += length
        q = 0
        p += 1
        if p == problem.p:
            p = 0
            o += 1


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
    while at < pixels:
        length = min(problem.q - q, pixels - at)
        copy_rows(
            out + o * out_strides.o + p * out_strides.p + q * out_strides.q, out_strides.k,
            out_strides.q, sums + at, sums_stride, 1, channels, length,
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
    #: The input is its own columns, and pixels lie side by side in the output.
    bint columns_in_place, flat_out


cdef void multiply_strip(
    const floating* x, const InputStrides* x_strides, const floating* packed, const floating* bias,
    floating* out, const OutputStrides* out_strides, const ConvProblem* problem,
    const int64_t* taps, const GemmCut* cut, floating* local, int activation,
    const Strip* strip, int64_t first_panel, int64_t end_panel, int64_t next_pixels,
) noexcept nogil:
    """The outputs of a strip's pixels and the panels' channels; ``next_pixels`` follow."""
    cdef int64_t length = problem.t * problem.r * problem.s * problem.c
    cdef int64_t main = strip.pixels - strip.rest, width = cut.width
    cdef int64_t panels = end_panel - first_panel
    cdef floating* sums = local + cut.depth * cut.strip
    cdef floating* rest_sums = sums + panels * width * main
    cdef int64_t begin = 0, depth, panel, pair, step, channels, m, i, ahead = 0, share
    cdef int64_t pixel[MOST_REST]
    cdef Stage stage
    cdef const floating* columns
    cdef const floating* weights
    cdef floating* at
    cdef const floating* panel_bias
    stage.activation = activation
    for m in range(strip.rest):
        i = strip.first + main + m
        pixel[m] = (
            i // (problem.q * problem.p) * out_strides.o
            + i // problem.q % problem.p * out_strides.p + i % problem.q * out_strides.q
        )
    while begin < length:
        depth = min(cut.depth, length - begin)
        stage.resume, stage.finish = begin > 0, begin + depth == length
        if strip.columns_in_place:
            columns, step = x + strip.first + begin * x_strides.c, x_strides.c
        else:
            columns, step = local, strip.pixels
            pack_columns(
                x, x_strides, problem, taps, strip.first, strip.pixels, begin, begin + depth,
                local, step,
            )
        share = (depth + panels - 1) // panels
        ahead = 0
        for panel in range(first_panel, end_panel):
            weights = packed + (panel * length + begin) * width
            channels = min(width, problem.k - panel * width)
            panel_bias = bias + panel * width if bias else NULL
            at = sums + (panel - first_panel) * width * main
            if main:
                if stage.finish and strip.flat_out:
                    multiply_pixels(
                        out + panel * width * out_strides.k + strip.first, out_strides.k, at, main,
                        columns, step, depth, weights, panel_bias, stage, channels,
                        main // lanes_of(x),
                    )
                else:
                    multiply_pixels(
                        at, main, at, main, columns, step, depth, weights, panel_bias, stage,
                        channels, main // lanes_of(x),
                    )
                    if stage.finish:
                        unpack_sums(
                            at, main, channels, problem, strip.first, main,
                            out + panel * width * out_strides.k, out_strides,
                        )
            if strip.columns_in_place and next_pixels and ahead < depth:
                # The next strip comes from memory meanwhile, a part of it per panel.
                prefetch_rows(
                    columns + strip.pixels + ahead * step, step, min(share, depth - ahead),
                    next_pixels,
                )
                ahead += share
            pair = (panel - first_panel) % REST_PANELS + 1
            if strip.rest and (pair == REST_PANELS or panel + 1 == end_panel):
                at = rest_sums + (panel + 1 - pair - first_panel) * width * strip.rest
                multiply_rest(
                    at, columns + main, step, depth, weights - (pair - 1) * length * width,
                    length * width, pair, strip.rest, stage.resume,
                )
                if stage.finish:
                    for i in range(panel + 1 - pair, panel + 1):
                        store_rest(
                            at, strip.rest, min(width, problem.k - i * width),
                            bias + i * width if bias else NULL, activation,
                            out + i * width * out_strides.k, pixel, out_strides.k,
                        )
                        at += width * strip.rest
        begin += depth


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* packed, const floating* bias,
    floating* out, const OutputStrides* out_strides, const ConvProblem* problem,
    const int64_t* taps, const GemmCut* cut, floating* local, int activation, int64_t task,
) noexcept nogil:
    """One task; ``bias`` may be NULL."""
    cdef int64_t place = task // cut.k_blocks, k_block = task % cut.k_blocks
    cdef int64_t group = place // cut.pixel_blocks, pixel_block = place % cut.pixel_blocks
    cdef int64_t n = group // problem.g, g = group % problem.g
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width
    cdef int64_t first_panel = k_block * cut.panels
    cdef int64_t end_panel = min(first_panel + cut.panels, panels)
    cdef int64_t length = problem.t * problem.r * problem.s * problem.c
    cdef int64_t end = (pixel_block + 1) * cut.pixels
    cdef Strip strip
    if pixel_block + 1 == cut.pixel_blocks:
        end = problem.o * problem.p * problem.q
    x += n * x_strides.n + g * problem.c * x_strides.c
    packed += g * panels * length * cut.width
    out += n * out_strides.n + g * problem.k * out_strides.k
    if bias:
        bias += g * problem.k
    strip.columns_in_place = is_columns(problem, x_strides)
    strip.flat_out = is_flat(
        problem.o, problem.p, problem.q, out_strides.o, out_strides.p, out_strides.q
    )
    strip.first = pixel_block * cut.pixels
    while strip.first < end:
        strip.pixels = end - strip.first
        if strip.pixels >= 4 * cut.width:
            strip.pixels = 3 * cut.width
        strip.rest = strip.pixels % lanes_of(x)
        multiply_strip(
            x, x_strides, packed, bias, out, out_strides, problem, taps, cut, local, activation,
            &strip, first_panel, end_panel, min(end - strip.first - strip.pixels, 3 * cut.width),
        )
        strip.first += strip.pixels


def tiles(
    const floating[:, :, :, :, :] x, const floating[::1] packed, const floating[::1] bias,
    floating[:, :, :, :, :] out, problem, const int64_t[:, ::1] taps, cut,
    floating[::1] local, int activation, int64_t[::1] queue,
):
    """Run the tasks of the queue."""
    cdef ConvProblem problem_fields
    cdef GemmCut cut_fields
    cdef InputStrides x_strides
    cdef OutputStrides out_strides
    cdef int64_t task, begin = 0, end = 0
    cdef const floating* bias_or_null = &bias[0] if bias.shape[0] else NULL
    read_fields(problem, &problem_fields)
    read_fields(cut, &cut_fields)
    read_strides(x.strides, sizeof(floating), &x_strides)
    read_strides(out.strides, sizeof(floating), &out_strides)
    with nogil:
        while next_tasks(&queue[0], &begin, &end):
            for task in range(begin, end):
                tile(
                    &x[0, 0, 0, 0, 0], &x_strides, &packed[0], bias_or_null, &out[0, 0, 0, 0, 0],
                    &out_strides, &problem_fields, &taps[0, 0], &cut_fields, &local[0],
                    activation, task,
                )


fprop = drivers.fprop(gemm_cut, tiles, pack_weight)
dgrad = adjoints.dgrad(fprop, skipping=_loop.dgrad, split=adjoints.in_tiles)
wgrad = adjoints.wgrad(fprop)
