"""Tiled gradient of the weights: the micro-kernel with weights for pixels and pixels for channels.

x            (N, C, D, H, W)    any strides                                         IN
grad_output  (N, K, O, P, Q)    any strides                                         IN
out          (K, C/G, T, R, S)  any strides, overwritten                            OUT
local        [panel][pixel][width]               the gradients of a unit of pixels,
             then [channel][t][halo_rows][halo_columns]  the padded input under it  SCRATCH
sums         [slice][g][panel][channel block][tile][TILE_PIXELS][width]             SCRATCH
Accumulates in its dtype, in the order n, o, p, q within a unit and from unit to unit, then slice by
slice. Task = (g, block of panels, slice of units); ``finish``: one panel. Assumes a validated
ConvGeometry; raises nothing.
Why: six weights x a panel of out-channels stay in registers while the pixels go by, read as they
lie in a copied row: each gradient is packed once, and nothing is packed per tap. Slices give a
layer of few channels tasks enough. Source: Georganas et al. 2018 (update pass); Goto and van de
Geijn 2008.
"""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._microkernel cimport (
    TILE_PIXELS, Runs, copy_transposed, micro_kernel,
)
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, Range, WeightStrides, WgradCut, inside, next_tasks,
    read_fields, read_strides,
)

from cnnfast.kernels import drivers
from cnnfast.kernels.blocking import wgrad_cut


#: A block of output pixels, and the input under it: between the pixels of a kernel axis of one tap
#: nothing is read, so there only every ``step``-th row or column is copied, ``stride`` apart then.
cdef struct Unit:
    int64_t n, o, p, q, rows, columns
    int64_t step_h, step_w, stride_h, stride_w
    int64_t halo_rows, halo_columns, channel_elements


cdef Unit unit_at(const ConvProblem* problem, const WgradCut* cut, int64_t index) noexcept nogil:
    cdef Unit unit
    unit.q = index % cut.column_blocks * cut.columns
    index //= cut.column_blocks
    unit.p = index % cut.row_blocks * cut.rows
    index //= cut.row_blocks
    unit.o = index % problem.o
    unit.n = index // problem.o
    unit.rows = min(cut.rows, problem.p - unit.p)
    unit.columns = min(cut.columns, problem.q - unit.q)
    unit.step_h = problem.stride_h if problem.r == 1 else 1
    unit.step_w = problem.stride_w if problem.s == 1 else 1
    unit.stride_h = problem.stride_h // unit.step_h
    unit.stride_w = problem.stride_w // unit.step_w
    unit.halo_rows = (unit.rows - 1) * unit.stride_h + (problem.r - 1) * problem.dilation_h + 1
    unit.halo_columns = (
        (unit.columns - 1) * unit.stride_w + (problem.s - 1) * problem.dilation_w + 1
    )
    unit.channel_elements = problem.t * unit.halo_rows * unit.halo_columns
    return unit


cdef void pack_gradients(
    const floating* grad_output, const OutputStrides* strides, const Unit* unit, int64_t channels,
    int64_t width, floating* packed,
) noexcept nogil:
    """Pack a panel of ``channels`` channels as [pixel][width], zeros beyond them."""
    cdef int64_t rows = unit.rows, columns = unit.columns, row
    if strides.p == columns * strides.q:
        rows, columns = 1, rows * columns
    if channels < width:
        memset(packed, 0, rows * columns * width * sizeof(floating))
    for row in range(rows):
        copy_transposed(
            packed + row * columns * width, width, grad_output + row * strides.p,
            strides.q, strides.k, columns, channels,
        )


cdef void copy_halo(
    const floating* x, const InputStrides* strides, const ConvProblem* problem, const Unit* unit,
    int64_t channels, floating* halo,
) noexcept nogil:
    """Copy the padded input under a unit as [channel][t][halo_rows][halo_columns]."""
    cdef int64_t first_d = unit.o * problem.stride_d - problem.pad_d
    cdef int64_t first_h = unit.p * problem.stride_h - problem.pad_h
    cdef int64_t first_w = unit.q * problem.stride_w - problem.pad_w
    cdef Range in_d = inside(first_d, problem.dilation_d, problem.d, problem.t)
    cdef Range in_h = inside(first_h, unit.step_h, problem.h, unit.halo_rows)
    cdef Range in_w = inside(first_w, unit.step_w, problem.w, unit.halo_columns)
    cdef int64_t rows = in_h.end - in_h.begin, columns = in_w.end - in_w.begin
    cdef int64_t step_d = problem.dilation_d * strides.d
    cdef int64_t step_h = unit.step_h * strides.h, step_w = unit.step_w * strides.w
    cdef int64_t t, row
    if (
        in_d.end - in_d.begin < problem.t or rows < unit.halo_rows or columns < unit.halo_columns
    ):
        # All of it: what the copies overwrite is far less than what the micro-kernel reads.
        memset(halo, 0, channels * unit.channel_elements * sizeof(floating))
    elif step_h == columns * step_w:
        rows, columns = 1, rows * columns
    x += first_d * strides.d + first_h * strides.h + first_w * strides.w + in_w.begin * step_w
    for t in range(in_d.begin, in_d.end):
        for row in range(in_h.begin, in_h.begin + rows):
            copy_transposed(
                halo + (t * unit.halo_rows + row) * unit.halo_columns + in_w.begin,
                unit.channel_elements, x + t * step_d + row * step_h,
                strides.c, step_w, channels, columns,
            )


cdef void sum_weights(
    floating* sums, const floating* halo, const floating* packed, const ConvProblem* problem,
    const Unit* unit, int64_t channels, int64_t width, bint resume,
) noexcept nogil:
    """Add a unit's products to the sums of a channel block's weights, TILE_PIXELS at a time."""
    cdef int64_t weights = channels * problem.t * problem.r * problem.s
    cdef int64_t step_r = problem.dilation_h * unit.halo_columns
    cdef int64_t weight[TILE_PIXELS]
    cdef int64_t c = 0, t = 0, r = 0, s = 0, i, m
    cdef Runs runs
    runs.t, runs.r, runs.s, runs.length = 1, 1, unit.rows, unit.columns
    runs.step_t, runs.step_r, runs.step_s = 0, 0, unit.stride_h * unit.halo_columns
    runs.step = unit.stride_w
    if runs.step_s == runs.length * runs.step:
        runs.s, runs.length = 1, unit.rows * unit.columns
    for i in range((weights + TILE_PIXELS - 1) // TILE_PIXELS):
        for m in range(TILE_PIXELS):
            weight[m] = (
                c * unit.channel_elements + t * unit.halo_rows * unit.halo_columns + r * step_r
                + s * problem.dilation_w
            )
            if i * TILE_PIXELS + m + 1 >= weights:
                # What is left of the last tile sums the last weight again.
                continue
            s += 1
            if s == problem.s:
                s = 0
                r += 1
                if r == problem.r:
                    r = 0
                    t += 1
                    if t == problem.t:
                        t = 0
                        c += 1
        micro_kernel(
            sums + i * TILE_PIXELS * width, TILE_PIXELS, halo, weight, &runs, packed, resume
        )


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* grad_output,
    const OutputStrides* grad_strides, floating* sums, const ConvProblem* problem,
    const WgradCut* cut, floating* local, int64_t task,
) noexcept nogil:
    """One task."""
    cdef int64_t place = task // cut.slices, part = task % cut.slices
    cdef int64_t g = place // cut.k_blocks, k_block = place % cut.k_blocks
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width
    cdef int64_t first_panel = k_block * cut.panels
    cdef int64_t end_panel = min(first_panel + cut.panels, panels)
    cdef int64_t first_unit = part * cut.slice_units
    cdef int64_t block_elements = cut.tiles * TILE_PIXELS * cut.width
    cdef floating* packed
    cdef floating* halo = local + cut.panels * cut.pixels * cut.width
    cdef const floating* under_n
    cdef const floating* under_unit
    cdef int64_t index, panel, k, block, c, channels
    cdef Unit unit
    sums += (part * problem.g + g) * panels * cut.channel_blocks * block_elements
    for index in range(first_unit, min(first_unit + cut.slice_units, cut.units)):
        unit = unit_at(problem, cut, index)
        under_n = x + unit.n * x_strides.n + g * problem.c * x_strides.c
        under_unit = (
            grad_output + unit.n * grad_strides.n + g * problem.k * grad_strides.k
            + unit.o * grad_strides.o + unit.p * grad_strides.p + unit.q * grad_strides.q
        )
        for panel in range(first_panel, end_panel):
            k = panel * cut.width
            pack_gradients(
                under_unit + k * grad_strides.k, grad_strides, &unit,
                min(cut.width, problem.k - k), cut.width,
                local + (panel - first_panel) * cut.pixels * cut.width,
            )
        for block in range(cut.channel_blocks):
            c = block * cut.channels
            channels = min(cut.channels, problem.c - c)
            copy_halo(under_n + c * x_strides.c, x_strides, problem, &unit, channels, halo)
            for panel in range(first_panel, end_panel):
                packed = local + (panel - first_panel) * cut.pixels * cut.width
                sum_weights(
                    sums + (panel * cut.channel_blocks + block) * block_elements, halo, packed,
                    problem, &unit, channels, cut.width, index > first_unit,
                )


cdef void finish_panel(
    floating* sums, floating* out, const WeightStrides* strides, const ConvProblem* problem,
    const WgradCut* cut, int64_t panel,
) noexcept nogil:
    """Add the later slices of panel ``panel`` of the ``g * panels`` to the first, and write it."""
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width
    cdef int64_t first = panel % panels * cut.width
    cdef int64_t filters = min(cut.width, problem.k - first)
    cdef int64_t taps = problem.t * problem.r * problem.s
    cdef int64_t block_elements = cut.tiles * TILE_PIXELS * cut.width
    cdef int64_t slice_elements = problem.g * panels * cut.channel_blocks * block_elements
    cdef bint neighbours = (
        strides.s == 1 and strides.r == problem.s and strides.t == problem.s * problem.r
        and strides.c == taps
    )
    cdef int64_t block, channels, part, i, k, c, t, r, s
    cdef const floating* later
    cdef const floating* at
    sums += panel * cut.channel_blocks * block_elements
    out += (panel // panels * problem.k + first) * strides.k
    for block in range(cut.channel_blocks):
        channels = min(cut.channels, problem.c - block * cut.channels)
        for part in range(1, cut.slices):
            later = sums + part * slice_elements
            for i in range(channels * taps * cut.width):
                sums[i] += later[i]
        if neighbours:
            copy_transposed(out, strides.k, sums, 1, cut.width, filters, channels * taps)
        else:
            at = sums
            for c in range(channels):
                for t in range(problem.t):
                    for r in range(problem.r):
                        for s in range(problem.s):
                            for k in range(filters):
                                out[
                                    k * strides.k + c * strides.c + t * strides.t + r * strides.r
                                    + s * strides.s
                                ] = at[k]
                            at += cut.width
        sums += block_elements
        out += cut.channels * strides.c


def tiles(
    const floating[:, :, :, :, :] x, const floating[:, :, :, :, :] grad_output,
    floating[::1] sums, problem, cut, floating[::1] local, int64_t[::1] queue,
):
    """Run the tasks of the queue."""
    cdef ConvProblem problem_fields
    cdef WgradCut cut_fields
    cdef InputStrides x_strides
    cdef OutputStrides grad_strides
    cdef int64_t task, begin = 0, end = 0
    read_fields(problem, &problem_fields)
    read_fields(cut, &cut_fields)
    read_strides(x.strides, sizeof(floating), &x_strides)
    read_strides(grad_output.strides, sizeof(floating), &grad_strides)
    with nogil:
        while next_tasks(&queue[0], &begin, &end):
            for task in range(begin, end):
                tile(
                    &x[0, 0, 0, 0, 0], &x_strides, &grad_output[0, 0, 0, 0, 0], &grad_strides,
                    &sums[0], &problem_fields, &cut_fields, &local[0], task,
                )


def finish(
    floating[::1] sums, floating[:, :, :, :, :] out, problem, cut, int64_t[::1] queue,
):
    """Write the panels of the queue."""
    cdef ConvProblem problem_fields
    cdef WgradCut cut_fields
    cdef WeightStrides strides
    cdef int64_t panel, begin = 0, end = 0
    read_fields(problem, &problem_fields)
    read_fields(cut, &cut_fields)
    read_strides(out.strides, sizeof(floating), &strides)
    with nogil:
        while next_tasks(&queue[0], &begin, &end):
            for panel in range(begin, end):
                finish_panel(
                    &sums[0], &out[0, 0, 0, 0, 0], &strides, &problem_fields, &cut_fields, panel
                )


wgrad = drivers.wgrad(wgrad_cut, tiles, finish)
