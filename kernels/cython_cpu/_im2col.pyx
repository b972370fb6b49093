"""im2col + GEMM: columns packed a block at a time, multiplied by the micro-kernel.

x       (N, C, D, H, W)                      any strides                        IN
packed  [G][panel][t][r][s][c][width]        weight panels (``_packing``)       IN
bias    (K,) or (0,)                         contiguous                         IN
out     (N, K, O, P, Q)                      any strides, overwritten           OUT
local   [tile][depth][TILE_PIXELS]           the columns of a block of the reduction, then
        [panel][tile][TILE_PIXELS][width]    the sums of the task's panels      SCRATCH
Accumulates in its dtype, in the order t, r, s, c. Task = (n, g, block of pixels of the flat
o x p x q plane, block of panels). Assumes a validated ConvGeometry; raises nothing.
Why: whatever the strides, the micro-kernel reads one run of memory; a block of columns and a panel
stay in L1 and L2, so long reductions run at the same speed. Source: Goto and van de Geijn 2008.
"""

from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._microkernel cimport (
    TILE_PIXELS, micro_kernel_panel, pack_pixels, store_tile,
)
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, Im2colCut, InputStrides, OutputStrides, next_tasks, read_fields, read_strides,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking import im2col_cut
from cnnfast.kernels.cython_cpu import _loop
from cnnfast.kernels.cython_cpu._packing import pack_weight


cdef struct Pixel:
    int64_t o, p, q


cdef Pixel pixel_at(const ConvProblem* problem, int64_t flat) noexcept nogil:
    """The output position of a pixel of the flat o x p x q plane."""
    cdef Pixel pixel
    pixel.q = flat % problem.q
    pixel.p = flat // problem.q % problem.p
    pixel.o = flat // (problem.q * problem.p)
    return pixel


cdef Pixel pixel_after(const ConvProblem* problem, Pixel pixel) noexcept nogil:
    pixel.q += 1
    if pixel.q == problem.q:
        pixel.q = 0
        pixel.p += 1
        if pixel.p == problem.p:
            pixel.p = 0
            pixel.o += 1
    return pixel


cdef void pack_columns(
    const floating* x, const InputStrides* x_strides, const ConvProblem* problem, Pixel pixel,
    int64_t pixels, int64_t begin, int64_t end, floating* columns,
) noexcept nogil:
    """Pack the steps begin .. end-1 of the reduction for a tile that begins at ``pixel``; zeros
    where a tap lies in the padding, and in surplus pixels."""
    cdef int64_t d[TILE_PIXELS]
    cdef int64_t h[TILE_PIXELS]
    cdef int64_t w[TILE_PIXELS]
    cdef int64_t offset[TILE_PIXELS]
    cdef bint inside[TILE_PIXELS]
    cdef int64_t m, t, r, s, channel, channels, tap, step_d, step_h, step_w
    for m in range(TILE_PIXELS):
        d[m] = pixel.o * problem.stride_d - problem.pad_d
        h[m] = pixel.p * problem.stride_h - problem.pad_h
        w[m] = pixel.q * problem.stride_w - problem.pad_w
        pixel = pixel_after(problem, pixel)
    while begin < end:
        tap = begin // problem.c
        channel = begin % problem.c
        channels = min(problem.c - channel, end - begin)
        s = tap % problem.s
        r = tap // problem.s % problem.r
        t = tap // (problem.s * problem.r)
        step_d, step_h = t * problem.dilation_d, r * problem.dilation_h
        step_w = s * problem.dilation_w
        for m in range(TILE_PIXELS):
            inside[m] = (
                m < pixels and 0 <= d[m] + step_d < problem.d
                and 0 <= h[m] + step_h < problem.h and 0 <= w[m] + step_w < problem.w
            )
            offset[m] = (
                (d[m] + step_d) * x_strides.d + (h[m] + step_h) * x_strides.h
                + (w[m] + step_w) * x_strides.w
            )
        pack_pixels(
            columns, x + channel * x_strides.c, offset, inside, TILE_PIXELS, x_strides.c, channels
        )
        columns += channels * TILE_PIXELS
        begin += channels


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* packed, const floating* bias,
    floating* out, const OutputStrides* out_strides, const ConvProblem* problem,
    const Im2colCut* cut, floating* local, int activation, int64_t task,
) noexcept nogil:
    """One task; ``bias`` may be NULL."""
    cdef int64_t place = task // cut.k_blocks, k_block = task % cut.k_blocks
    cdef int64_t group = place // cut.pixel_blocks, pixel_block = place % cut.pixel_blocks
    cdef int64_t n = group // problem.g, g = group % problem.g
    cdef int64_t first = pixel_block * cut.pixels
    cdef int64_t pixels = min(cut.pixels, problem.o * problem.p * problem.q - first)
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width
    cdef int64_t first_panel = k_block * cut.panels
    cdef int64_t end_panel = min(first_panel + cut.panels, panels)
    cdef int64_t length = problem.t * problem.r * problem.s * problem.c
    cdef int64_t tile_elements = TILE_PIXELS * cut.width
    cdef int64_t tiles_per_panel = (pixels + TILE_PIXELS - 1) // TILE_PIXELS
    cdef floating* all_sums = local + cut.pixels * cut.depth
    cdef floating* sums
    cdef const floating* weights
    cdef int64_t begin, depth, panel, i, k, m
    cdef int64_t to_pixel[TILE_PIXELS]
    cdef Pixel pixel
    x += n * x_strides.n + g * problem.c * x_strides.c
    packed += g * panels * length * cut.width
    out += n * out_strides.n

    begin = 0
    while begin < length:
        depth = min(cut.depth, length - begin)
        for i in range(tiles_per_panel):
            pack_columns(
                x, x_strides, problem, pixel_at(problem, first + i * TILE_PIXELS),
                pixels - i * TILE_PIXELS, begin, begin + depth, local + i * TILE_PIXELS * depth,
            )
        for panel in range(first_panel, end_panel):
            weights = packed + (panel * length + begin) * cut.width
            sums = all_sums + (panel - first_panel) * tiles_per_panel * tile_elements
            for i in range(tiles_per_panel):
                micro_kernel_panel(
                    sums + i * tile_elements, TILE_PIXELS, local + i * TILE_PIXELS * depth, depth,
                    weights, begin > 0,
                )
        begin += depth

    for i in range(tiles_per_panel):
        pixel = pixel_at(problem, first + i * TILE_PIXELS)
        for m in range(TILE_PIXELS):
            to_pixel[m] = (
                pixel.o * out_strides.o + pixel.p * out_strides.p + pixel.q * out_strides.q
            )
            pixel = pixel_after(problem, pixel)
        for panel in range(first_panel, end_panel):
            k = g * problem.k + panel * cut.width
            store_tile(
                all_sums + ((panel - first_panel) * tiles_per_panel + i) * tile_elements,
                cut.width, min(TILE_PIXELS, pixels - i * TILE_PIXELS),
                min(cut.width, problem.k - panel * cut.width), bias + k if bias else NULL,
                activation, out + k * out_strides.k, to_pixel, out_strides.k,
            )


def tiles(
    const floating[:, :, :, :, :] x, const floating[::1] packed, const floating[::1] bias,
    floating[:, :, :, :, :] out, problem, taps, cut, floating[::1] local,
    int activation, int64_t[::1] queue,
):
    """Run the tasks of the queue."""
    cdef ConvProblem problem_fields
    cdef Im2colCut cut_fields
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
                    &out_strides, &problem_fields, &cut_fields, &local[0], activation, task,
                )


fprop = drivers.fprop(im2col_cut, tiles, pack_weight)
dgrad = adjoints.dgrad(fprop, skipping=_loop.dgrad, split=adjoints.in_tiles)
wgrad = adjoints.wgrad(fprop)
