"""Tiled gradient of the weights: register tiles of weights over packed gradients and inputs.

x            (N, C, D, H, W)    any strides                                         IN
grad_output  (N, K, O, P, Q)    any strides                                         IN
out          (K, C/G, T, R, S)  any strides, overwritten                            OUT
local        [panel][pixel][width]                  the gradients of a unit,
             [t][halo_rows][halo_columns][channel]  the padded input under it, of a tile's channels,
             [panel][c][t][r][s][width]             and the sums of the task if it is one slice
                                                                                    SCRATCH
sums         [slice][g][panel][c][t][r][s][width]   the sums of several slices; where few channels
             lie together with the taps of a row, [t][r][s][c]                      SCRATCH
Accumulates in its dtype, in the order n, o, p, q within a unit and from unit to unit, then slice by
slice. Task = (g, block of panels, block of channels, slice of units); ``finish``: one panel. Assumes
a validated ConvGeometry; raises nothing.
Why: up to twelve weights x two panels of out-channels stay in registers while the pixels go by, and
the weights of a tile lie side by side, so that one pointer reaches them all. Each copy is read by all
taps of its channels, and from L1. Slices give a layer of few channels tasks enough. Weights of one tap
whose out-channels lie side by side are summed in ``out`` itself; ``drivers.wgrad_of_products`` sees to
it that they do. Source: Georganas et al. 2018 (update pass); Goto and van de Geijn 2008.
"""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, Range, WeightStrides, WgradCut, inside, next_tasks,
)

from cnnfast.kernels import drivers
from cnnfast.kernels.blocking_gradients import wgrad_cut


cdef extern from *:
    """
    #define LOOPS "wgrad.h"
    #define WITH_AVX512
    #include "instruction_sets.h"
    """
    ctypedef struct Pixels:
        int64_t rows, columns
        int64_t x_row, x_column
        int64_t grad_panel, sum_panel

    void sum_tile(
        void* sums, int64_t pitch, const void* x, const void* grad, const Pixels* pixels,
        int64_t weights, int64_t panels, bint resume
    ) noexcept nogil
    void copy_transposed(
        void* to, int64_t to_stride, const void* source, int64_t stride_i, int64_t stride_j,
        int64_t rows, int64_t columns
    ) noexcept nogil
    void add_to(void* to, const void* source, int64_t count) noexcept nogil


#: A block of output pixels, and the input under it: between the pixels of a kernel axis of one tap
#: nothing is read, so there only every ``step``-th row or column is copied, ``stride`` apart then.
cdef struct Unit:
    int64_t n, o, p, q, rows, columns
    int64_t step_h, step_w, stride_h, stride_w
    int64_t halo_rows, halo_columns


#: What a task works on: its group, panels, channels and units, and where its sums are, a panel
#: ``sum_panel`` apart, a weight of a tile ``pitch`` from the next.
cdef struct Part:
    int64_t g, first_panel, end_panel, first_channel, end_channel, first_unit, end_unit
    int64_t sums, sum_panel, pitch


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
    return unit


cdef Part part_at(const ConvProblem* problem, const WgradCut* cut, int64_t task) noexcept nogil:
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width
    cdef int64_t taps = problem.t * problem.r * problem.s
    cdef int64_t index = task % cut.slices
    cdef Part part
    task //= cut.slices
    part.first_unit = index * cut.slice_units
    part.end_unit = min(part.first_unit + cut.slice_units, cut.units)
    part.first_channel = task % cut.channel_blocks * cut.channels
    part.end_channel = min(part.first_channel + cut.channels, problem.c)
    task //= cut.channel_blocks
    part.first_panel = task % cut.k_blocks * cut.panels
    part.end_panel = min(part.first_panel + cut.panels, panels)
    part.g = task // cut.k_blocks
    part.pitch = cut.width if cut.together else taps * cut.width
    if cut.slices == 1:
        part.sums = 0
        part.sum_panel = cut.channels * taps * cut.width
    else:
        part.sum_panel = problem.c * taps * cut.width
        part.sums = (
            ((index * problem.g + part.g) * panels + part.first_panel) * part.sum_panel
            + part.first_channel * taps * cut.width
        )
    return part


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
    int64_t channels, int64_t width, floating* halo,
) noexcept nogil:
    """Copy the padded input under a unit as [t][halo_rows][halo_columns][width]."""
    cdef int64_t first_d = unit.o * problem.stride_d - problem.pad_d
    cdef int64_t first_h = unit.p * problem.stride_h - problem.pad_h
    cdef int64_t first_w = unit.q * problem.stride_w - problem.pad_w
    cdef Range in_d = inside(first_d, problem.dilation_d, problem.d, problem.t)
    cdef Range in_h = inside(first_h, unit.step_h, problem.h, unit.halo_rows)
    cdef Range in_w = inside(first_w, unit.step_w, problem.w, unit.halo_columns)
    cdef int64_t rows = in_h.end - in_h.begin, columns = in_w.end - in_w.begin
    cdef int64_t step_d = problem.dilation_d * strides.d
    cdef int64_t step_h = unit.step_h * strides.h, step_w = unit.step_w * strides.w
    cdef int64_t elements = problem.t * unit.halo_rows * unit.halo_columns * width
    cdef int64_t t, row
    if (
        in_d.end - in_d.begin < problem.t or rows < unit.halo_rows or columns < unit.halo_columns
    ):
        # All of it: what the copies overwrite is far less than what the tiles read.
        memset(halo, 0, elements * sizeof(floating))
    elif step_h == columns * step_w:
        rows, columns = 1, rows * columns
    x += first_d * strides.d + first_h * strides.h + first_w * strides.w + in_w.begin * step_w
    for t in range(in_d.begin, in_d.end):
        for row in range(in_h.begin, in_h.begin + rows):
            copy_transposed(
                halo + ((t * unit.halo_rows + row) * unit.halo_columns + in_w.begin) * width,
                width, x + t * step_d + row * step_h, step_w, strides.c, columns, channels,
            )


cdef void sum_weights(
    floating* sums, int64_t sum_panel, int64_t pitch, const floating* halo,
    const floating* packed, const ConvProblem* problem, const WgradCut* cut, const Unit* unit,
    int64_t channels, int64_t panels, bint resume,
) noexcept nogil:
    """Add a unit's products to the sums of all weights of a tile's channels."""
    cdef int64_t positions = problem.s, run = channels
    cdef int64_t t, r, s, index, first, row, panel, offset, tiles
    cdef Pixels pixels
    pixels.rows, pixels.columns = unit.rows, unit.columns
    pixels.x_column = unit.stride_w * cut.tile_channels
    pixels.x_row = unit.stride_h * unit.halo_columns * cut.tile_channels
    pixels.grad_panel, pixels.sum_panel = cut.pixels * cut.width, sum_panel
    if pixels.x_row == pixels.columns * pixels.x_column:
        pixels.rows, pixels.columns = 1, unit.rows * unit.columns
    if cut.together:
        positions, run = 1, problem.s * channels
    tiles = (run + cut.tile_weights - 1) // cut.tile_weights
    for panel in range(0, panels, 2):
        for t in range(problem.t):
            for r in range(problem.r):
                for s in range(positions):
                    offset = (
                        (t * unit.halo_rows + r * problem.dilation_h) * unit.halo_columns
                        + s * problem.dilation_w
                    ) * cut.tile_channels
                    row = (t * problem.r + r) * (run if cut.together else problem.s) + s
                    for index in range(tiles):
                        first = index * cut.tile_weights
                        sum_tile(
                            sums + panel * sum_panel + row * cut.width + first * pitch, pitch,
                            halo + offset + first, packed + panel * pixels.grad_panel, &pixels,
                            min(cut.tile_weights, run - first), min(panels - panel, 2), resume,
                        )


cdef void write_panel(
    const floating* sums, floating* out, const WeightStrides* strides, const ConvProblem* problem,
    const WgradCut* cut, int64_t filters, int64_t channels,
) noexcept nogil:
    """Write a panel's sums of ``filters`` out-channels and ``channels`` channels."""
    cdef int64_t taps = problem.t * problem.r * problem.s, width = cut.width
    cdef int64_t tap_step = width, channel_step = taps * width, k, c, t, r, s
    cdef const floating* row
    if cut.together and channels > 1:
        tap_step, channel_step = problem.c * width, width
    elif (
        # An axis of one tap has any stride.
        (problem.s == 1 or strides.s == 1) and (problem.r == 1 or strides.r == problem.s)
        and (problem.t == 1 or strides.t == problem.s * problem.r) and strides.c == taps
    ):
        copy_transposed(out, strides.k, sums, 1, width, filters, channels * taps)
        return
    elif taps == 1 and strides.k == 1:
        copy_transposed(out, strides.c, sums, width, 1, channels, filters)
        return
    for t in range(problem.t):
        for r in range(problem.r):
            for s in range(problem.s):
                row = sums
                for c in range(channels):
                    for k in range(filters):
                        out[
                            k * strides.k + c * strides.c + t * strides.t + r * strides.r
                            + s * strides.s
                        ] = row[k]
                    row += channel_step
                sums += tap_step


cdef void tile(
    const floating* x, const InputStrides* x_strides, const floating* grad_output,
    const OutputStrides* grad_strides, floating* sums, floating* out,
    const WeightStrides* out_strides, const ConvProblem* problem, const WgradCut* cut,
    floating* local, int64_t task,
) noexcept nogil:
    """One task."""
    cdef Part part = part_at(problem, cut, task)
    cdef int64_t panel_elements = cut.pixels * cut.width
    cdef int64_t taps = problem.t * problem.r * problem.s
    cdef int64_t panels = part.end_panel - part.first_panel
    # Panels whose sums are the result as it lies: they need no copy of it.
    cdef int64_t in_place = 0
    cdef floating* halo = local + cut.panels * panel_elements
    cdef const floating* under_n
    cdef const floating* under_unit
    cdef int64_t index, panel, k, c, channels
    cdef Unit unit
    if cut.slices == 1:
        sums = halo + cut.halo_elements
        if taps == 1 and out_strides.k == 1:
            in_place = min(panels, problem.k // cut.width - part.first_panel)
    sums += part.sums
    out += (
        (part.g * problem.k + part.first_panel * cut.width) * out_strides.k
        + part.first_channel * out_strides.c
    )
    for index in range(part.first_unit, part.end_unit):
        unit = unit_at(problem, cut, index)
        under_n = x + unit.n * x_strides.n + part.g * problem.c * x_strides.c
        under_unit = (
            grad_output + unit.n * grad_strides.n + part.g * problem.k * grad_strides.k
            + unit.o * grad_strides.o + unit.p * grad_strides.p + unit.q * grad_strides.q
        )
        for panel in range(panels):
            k = (part.first_panel + panel) * cut.width
            pack_gradients(
                under_unit + k * grad_strides.k, grad_strides, &unit,
                min(cut.width, problem.k - k), cut.width, local + panel * panel_elements,
            )
        c = part.first_channel
        while c < part.end_channel:
            channels = min(cut.tile_channels, part.end_channel - c)
            copy_halo(
                under_n + c * x_strides.c, x_strides, problem, &unit, channels, cut.tile_channels,
                halo,
            )
            if in_place > 0:
                sum_weights(
                    out + (c - part.first_channel) * out_strides.c, cut.width, out_strides.c, halo,
                    local, problem, cut, &unit, channels, in_place, index > part.first_unit,
                )
            if in_place < panels:
                sum_weights(
                    sums + in_place * part.sum_panel + (c - part.first_channel) * taps * cut.width,
                    part.sum_panel, part.pitch, halo, local + in_place * panel_elements, problem,
                    cut, &unit, channels, panels - in_place, index > part.first_unit,
                )
            c += channels
    if cut.slices > 1:
        return
    for panel in range(in_place, panels):
        k = (part.first_panel + panel) * cut.width
        write_panel(
            sums + panel * part.sum_panel, out + panel * cut.width * out_strides.k, out_strides,
            problem, cut, min(cut.width, problem.k - k), part.end_channel - part.first_channel,
        )


cdef void finish_panel(
    floating* sums, floating* out, const WeightStrides* strides, const ConvProblem* problem,
    const WgradCut* cut, int64_t panel,
) noexcept nogil:
    """Add the later slices of panel ``panel`` of the ``g * panels`` to the first, and write it."""
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width
    cdef int64_t first = panel % panels * cut.width
    cdef int64_t elements = problem.c * problem.t * problem.r * problem.s * cut.width
    cdef int64_t part
    sums += panel * elements
    for part in range(1, cut.slices):
        add_to(sums, sums + part * problem.g * panels * elements, elements)
    write_panel(
        sums, out + (panel // panels * problem.k + first) * strides.k, strides, problem, cut,
        min(cut.width, problem.k - first), problem.c,
    )


cdef void run_tasks(const ConvCall* call, floating* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue."""
    cdef int64_t task, begin = 0, end = 0
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <const floating*>call.x, &call.x_strides, <const floating*>call.weight,
                <const OutputStrides*>&call.weight_strides, <floating*>call.shared,
                <floating*>call.out, <const WeightStrides*>&call.out_strides, &call.problem,
                <const WgradCut*>call.cut, local, task,
            )


cdef void run_finish(
    const ConvCall* call, floating* sums, int64_t width, int64_t* queue
) noexcept nogil:
    """Write the panels of the queue."""
    cdef int64_t panel, begin = 0, end = 0
    while next_tasks(queue, &begin, &end):
        for panel in range(begin, end):
            finish_panel(
                sums, <floating*>call.out, <const WeightStrides*>&call.out_strides, &call.problem,
                <const WgradCut*>call.cut, panel,
            )


wgrad = drivers.wgrad_of_products(drivers.wgrad(
    wgrad_cut,
    {"float32": address(<void*>run_tasks[float]), "float64": address(<void*>run_tasks[double])},
    {"float32": address(<void*>run_finish[float]), "float64": address(<void*>run_finish[double])},
))
