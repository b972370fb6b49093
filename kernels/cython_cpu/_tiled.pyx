"""Tiled convolution: a halo copy in cache, multiplied in place by the micro-kernel.

x       (N, C, D, H, W)                    any strides                          IN
packed  [G][panel][t][r][s][c][width]      weight panels (``_packing``)         IN
bias    (K,) or (0,)                       contiguous                           IN
out     (N, K, O, P, Q)                    any strides, overwritten             OUT
local   [t][halo_rows][halo_columns][c]    the padded input under the task's outputs,
        then [TILE_PIXELS][width]          one register tile                    SCRATCH
Accumulates in its dtype, in the order t, r, s, c. Task = (n, g, o, block of rows, block of columns,
block of panels). Assumes a validated ConvGeometry; raises nothing.
Why: each input element is copied once, not once per tap as in im2col, and channels last makes the
taps of a kernel row one run of memory; six pixels are gathered across row ends too, so that rows of
14 or 7 pixels fill their tiles. Source: Georganas et al. 2020 (batch-reduce GEMM); Dukhan 2019
(indirection).
"""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._microkernel cimport (
    TILE_PIXELS, Runs, copy_transposed, micro_kernel, store_tile,
)
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, Range, TiledCut, inside, next_tasks, read_fields,
    read_strides,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking import tiled_cut
from cnnfast.kernels.cython_cpu import _loop
from cnnfast.kernels.cython_cpu._packing import pack_weight


cdef void copy_row(
    const floating* x, int64_t stride_c, int64_t stride_w, int64_t first, int64_t step,
    int64_t size, floating* halo, int64_t columns, int64_t channels,
) noexcept nogil:
    """Copy the positions ``first, first + step, ...`` of an input row of ``size``, channels last;
    those outside of it are zeros."""
    cdef Range copied = inside(first, step, size, columns)
    memset(halo, 0, copied.begin * channels * sizeof(floating))
    copy_transposed(
        halo + copied.begin * channels, channels, x + (first + copied.begin * step) * stride_w,
        stride_w * step, stride_c, copied.end - copied.begin, channels,
    )
    memset(halo + copied.end * channels, 0, (columns - copied.end) * channels * sizeof(floating))


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* packed, const floating* bias,
    floating* out, const OutputStrides* out_strides, const ConvProblem* problem,
    const TiledCut* cut, floating* local, int activation, int64_t task,
) noexcept nogil:
    """One task; ``bias`` may be NULL."""
    cdef int64_t place = task // cut.k_blocks, k_block = task % cut.k_blocks
    cdef int64_t strip = place // cut.column_blocks, column_block = place % cut.column_blocks
    cdef int64_t plane = strip // cut.row_blocks, row_block = strip % cut.row_blocks
    cdef int64_t group = plane // problem.o, o = plane % problem.o
    cdef int64_t n = group // problem.g, g = group % problem.g
    cdef int64_t p = row_block * cut.rows, rows = min(cut.rows, problem.p - p)
    cdef int64_t q = column_block * cut.columns, columns = min(cut.columns, problem.q - q)
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width

    # Between the pixels of a kernel axis of one tap nothing is read, so nothing is copied there.
    cdef int64_t step_h = problem.stride_h if problem.r == 1 else 1
    cdef int64_t step_w = problem.stride_w if problem.s == 1 else 1
    cdef int64_t stride_h = problem.stride_h // step_h, stride_w = problem.stride_w // step_w
    cdef int64_t halo_rows = (rows - 1) * stride_h + (problem.r - 1) * problem.dilation_h + 1
    cdef int64_t halo_columns = (columns - 1) * stride_w + (problem.s - 1) * problem.dilation_w + 1
    cdef int64_t row_elements = halo_columns * problem.c
    cdef int64_t t, row, d, h
    cdef floating* halo = local
    x += n * x_strides.n + g * problem.c * x_strides.c
    for t in range(problem.t):
        d = o * problem.stride_d - problem.pad_d + t * problem.dilation_d
        for row in range(halo_rows):
            h = p * problem.stride_h - problem.pad_h + row * step_h
            if 0 <= d < problem.d and 0 <= h < problem.h:
                copy_row(
                    x + d * x_strides.d + h * x_strides.h, x_strides.c, x_strides.w,
                    q * problem.stride_w - problem.pad_w, step_w, problem.w,
                    halo, halo_columns, problem.c,
                )
            else:
                memset(halo, 0, row_elements * sizeof(floating))
            halo += row_elements

    cdef Runs runs
    runs.t, runs.r, runs.s, runs.length = problem.t, problem.r, problem.s, problem.c
    runs.step_t = halo_rows * row_elements
    runs.step_r = problem.dilation_h * row_elements
    runs.step_s = problem.dilation_w * problem.c
    runs.step = 1
    if problem.dilation_w == 1:
        # The taps of a kernel row are one run.
        runs.s, runs.length = 1, problem.s * problem.c

    cdef floating* sums = local + cut.halo_elements
    cdef int64_t panel_elements = problem.t * problem.r * problem.s * problem.c * cut.width
    cdef int64_t tiles_per_panel = (rows * columns + TILE_PIXELS - 1) // TILE_PIXELS
    cdef int64_t from_pixel[TILE_PIXELS]
    cdef int64_t to_pixel[TILE_PIXELS]
    cdef int64_t panel, i, k, m, column
    out += n * out_strides.n + o * out_strides.o + p * out_strides.p + q * out_strides.q
    for panel in range(k_block * cut.panels, min((k_block + 1) * cut.panels, panels)):
        k = g * problem.k + panel * cut.width
        row = column = 0
        for i in range(tiles_per_panel):
            for m in range(TILE_PIXELS):
                from_pixel[m] = row * stride_h * row_elements + column * stride_w * problem.c
                to_pixel[m] = row * out_strides.p + column * out_strides.q
                column += 1
                if column == columns:
                    # Surplus pixels of the last tile read its last row again.
                    column = 0
                    row = min(row + 1, rows - 1)
            micro_kernel(
                sums, local, from_pixel, &runs,
                packed + (g * panels + panel) * panel_elements, False,
            )
            store_tile(
                sums, min(TILE_PIXELS, rows * columns - i * TILE_PIXELS),
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
    cdef TiledCut cut_fields
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


fprop = drivers.fprop(tiled_cut, tiles, pack_weight)
dgrad = adjoints.dgrad(fprop, skipping=_loop.dgrad, split=adjoints.in_tiles)
