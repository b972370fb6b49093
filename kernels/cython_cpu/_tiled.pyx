"""Tiled convolution: a halo copy in cache, multiplied in place by the micro-kernel.

x       (N, C, D, H, W)                    any strides                          IN
packed  [G][panel][t][r][s][c][width]      weight panels (``_packing``)         IN
bias    (K,) or (0,)                       contiguous                           IN
out     (N, K, O, P, Q)                    any strides, overwritten             OUT
local   [t][halo_rows][halo_columns][halo_channels]  the padded input under the task's outputs,
        then [MOST_PIXELS][2][width]       one register tile,
        then int64 [2][rows * columns]     where each pixel lies in the input and the output,
        then [2][t][r][s][c][width]        two panels where a task packs its own (``tiled_cut_own``),
                                           from the weight in place of ``packed``
                                                                                SCRATCH
Arrays of dtypes that are stored alone are converted as they are copied and packed, and sums rounded
as they are written (``storage.h``): scratch is in the dtype that is computed in, as are bias and
packed weights, and where that takes pairs of integer channels, c counts the pairs.
Accumulates in its dtype, in the order t, r, s, c. Task = (n, g, o, block of rows, block of columns,
block of panels). Assumes a validated ConvGeometry; raises nothing.
Why: each input element is copied once, not once per tap as in im2col, and channels last makes the
taps of a kernel row one run of memory; pixels are gathered across row ends, so that rows of 14 or 7
fill their tiles. An input that is channels last already and needs no padding isn't copied at all,
and where few pixels (a fully connected layer's rows) meet weights that nothing else reads, those
aren't packed either: at batch 1 they come from memory at its speed.
Source: Georganas et al. 2020 (batch-reduce GEMM); Dukhan 2019 (indirection).
"""

from libc.stdint cimport int8_t, int64_t, uint8_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._microkernel cimport (
    MOST_PIXELS, Runs, copy_transposed, fetch, most_unpacked, multiply_pixels, multiply_unpacked,
)
from cnnfast.kernels.cython_cpu._packing cimport pack_panel
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, Range, TiledCut, WeightStrides, inside, next_tasks,
)
from cnnfast.kernels.cython_cpu._stored cimport (
    bfloat16, channels_each, computing_size, float16, result_size, stored,
)

from cnnfast.kernels import adjoints, drivers
from cnnfast.kernels.blocking import tiled_cut_own
from cnnfast.kernels.cython_cpu import _loop
from cnnfast.kernels.cython_cpu._packing import packing


cdef enum:
    #: As in ``blocking``.
    CACHE_SETS_BYTES = 4096


#: The outputs of a task but for its panels, and the input under them: between the pixels of a
#: kernel axis of one tap nothing is read, so there only every ``step``-th row or column is copied,
#: ``stride`` apart then.
cdef struct Place:
    int64_t n, g, o, p, q, rows, columns
    int64_t d, h, w
    int64_t step_h, step_w, stride_h, stride_w
    int64_t halo_rows, halo_columns


cdef Place place_at(const ConvProblem* problem, const TiledCut* cut, int64_t index) noexcept nogil:
    cdef Place place
    place.q = index % cut.column_blocks * cut.columns
    index //= cut.column_blocks
    place.p = index % cut.row_blocks * cut.rows
    index //= cut.row_blocks
    place.o = index % problem.o
    index //= problem.o
    place.g = index % problem.g
    place.n = index // problem.g
    place.rows = min(cut.rows, problem.p - place.p)
    place.columns = min(cut.columns, problem.q - place.q)
    place.d = place.o * problem.stride_d - problem.pad_d
    place.h = place.p * problem.stride_h - problem.pad_h
    place.w = place.q * problem.stride_w - problem.pad_w
    place.step_h = problem.stride_h if problem.r == 1 else 1
    place.step_w = problem.stride_w if problem.s == 1 else 1
    place.stride_h = problem.stride_h // place.step_h
    place.stride_w = problem.stride_w // place.step_w
    place.halo_rows = (place.rows - 1) * place.stride_h + (problem.r - 1) * problem.dilation_h + 1
    place.halo_columns = (
        (place.columns - 1) * place.stride_w + (problem.s - 1) * problem.dilation_w + 1
    )
    return place


cdef bint needs_no_copy(
    const ConvProblem* problem, const Place* place, const InputStrides* strides, int64_t itemsize
) noexcept nogil:
    """Whether the micro-kernel can read the input as it is: channels last, nothing padded, and
    pixels that don't share a few sets of the cache."""
    return (
        strides.c == 1
        and strides.w * place.step_w * place.stride_w * itemsize % CACHE_SETS_BYTES != 0
        and place.d >= 0 and place.d + (problem.t - 1) * problem.dilation_d < problem.d
        and place.h >= 0 and place.h + (place.halo_rows - 1) * place.step_h < problem.h
        and place.w >= 0 and place.w + (place.halo_columns - 1) * place.step_w < problem.w
    )


cdef void copy_row(
    const stored* x, int64_t stride_c, int64_t stride_w, int64_t first, int64_t step,
    int64_t size, char* halo, int64_t columns, int64_t channels, int64_t pixel,
) noexcept nogil:
    """Copy ``channels`` of the positions ``first, first + step, ...`` of an input row of ``size``
    to pixels ``pixel`` elements apart; those outside of it are zeros."""
    cdef Range copied = inside(first, step, size, columns)
    cdef int64_t element = computing_size(x), each = channels_each(x), column
    cdef int64_t pixel_bytes = pixel * element
    cdef int64_t used = (channels + each - 1) // each * element
    for column in range(copied.begin):
        memset(halo + column * pixel_bytes, 0, used)
    copy_transposed(
        halo + copied.begin * pixel_bytes, pixel, x + (first + copied.begin * step) * stride_w,
        stride_w * step, stride_c, copied.end - copied.begin, channels,
    )
    for column in range(copied.end, columns):
        memset(halo + column * pixel_bytes, 0, used)


cdef void copy_halo(
    const stored* x, const InputStrides* strides, const ConvProblem* problem,
    const Place* place, int64_t block, int64_t pixel, char* halo,
) noexcept nogil:
    """Copy the padded input under a place, an image and group in ``x``, ``block`` channels at a
    time, whose rows lie side by side in NCHW, and have the next channels fetched meanwhile."""
    cdef int64_t element = computing_size(x), each = channels_each(x)
    cdef int64_t row_bytes = place.halo_columns * pixel * element
    cdef Range in_h = inside(place.h, place.step_h, problem.h, place.halo_rows)
    cdef int64_t first_h = place.h + in_h.begin * place.step_h
    cdef int64_t span = (in_h.end - in_h.begin) * place.step_h * strides.h
    cdef int64_t first = 0, channels, c, t, row, d, h
    cdef const stored* under
    cdef char* to
    if strides.c == 1:
        block = problem.c
    while first < problem.c:
        channels = min(block, problem.c - first)
        to = halo + first // each * element
        for t in range(problem.t):
            d = place.d + t * problem.dilation_d
            under = x + d * strides.d + first * strides.c
            if strides.w == 1 and 0 < strides.h <= 2 * problem.w and 0 <= d < problem.d:
                for c in range(channels, min(channels + block, problem.c - first)):
                    fetch(under + c * strides.c + first_h * strides.h, span * sizeof(stored))
            for row in range(place.halo_rows):
                h = place.h + row * place.step_h
                copy_row(
                    under + h * strides.h, strides.c, strides.w, place.w, place.step_w,
                    problem.w if 0 <= d < problem.d and 0 <= h < problem.h else 0,
                    to, place.halo_columns, channels, pixel,
                )
                to += row_bytes
        first += channels


cdef void tile(
    const stored* x, const InputStrides* x_strides, const void* weight,
    const WeightStrides* weight_strides, const char* bias, char* out,
    const OutputStrides* out_strides, const ConvProblem* problem, const TiledCut* cut,
    char* local, int64_t activation, int64_t task, int64_t* copied,
) noexcept nogil:
    """One task; ``weight`` is panels unless the task packs its own, ``bias`` may be NULL.
    ``copied``: the place whose halo is in ``local``."""
    cdef int64_t element = computing_size(x), each = channels_each(x)
    cdef int64_t all_c = (problem.c + each - 1) // each
    cdef int64_t k_block = task % cut.k_blocks
    cdef Place place = place_at(problem, cut, task // cut.k_blocks)
    cdef int64_t panels = (problem.k + cut.width - 1) // cut.width
    cdef int64_t panel = k_block * cut.panels
    cdef int64_t first = panel * cut.width, k = place.g * problem.k + first
    cdef int64_t panel_elements = problem.t * problem.r * problem.s * all_c * cut.width
    cdef int64_t channels = min(cut.panels * cut.width, problem.k - first)
    cdef int64_t together = cut.panels, done = 0, i
    cdef char* own = local + (cut.local_elements - 2 * panel_elements) * element
    cdef bint packs = cut.weight_panels == 0
    cdef const char* packed = (
        <const char*>weight + (place.g * panels + panel) * panel_elements * element
    )
    cdef char* sums = local + cut.halo_elements * element
    cdef int64_t* from_pixel = <int64_t*> (sums + 2 * MOST_PIXELS * cut.width * element)
    cdef int64_t* to_pixel = from_pixel + place.rows * place.columns
    cdef int64_t row, column, m = 0, stride_row, stride_column
    cdef const void* a = local
    cdef Runs runs
    x += place.n * x_strides.n + place.g * problem.c * x_strides.c

    if sizeof(stored) == element and needs_no_copy(problem, &place, x_strides, element):
        a = x + place.d * x_strides.d + place.h * x_strides.h + place.w * x_strides.w
        runs.step_t = problem.dilation_d * x_strides.d
        stride_row, stride_column = place.step_h * x_strides.h, place.step_w * x_strides.w
    else:
        if copied[0] != task // cut.k_blocks:
            copy_halo(x, x_strides, problem, &place, each * cut.width, cut.halo_channels, local)
            copied[0] = task // cut.k_blocks
        stride_column = cut.halo_channels
        stride_row = place.halo_columns * stride_column
        runs.step_t = place.halo_rows * stride_row
    runs.step_r, runs.step_s = problem.dilation_h * stride_row, problem.dilation_w * stride_column
    runs.t, runs.r, runs.s, runs.length, runs.step = problem.t, problem.r, problem.s, all_c, 1
    if runs.step_s == all_c:
        # The taps of a kernel row are one run.
        runs.s, runs.length = 1, problem.s * all_c

    for row in range(place.rows):
        for column in range(place.columns):
            from_pixel[m] = (
                row * place.stride_h * stride_row + column * place.stride_w * stride_column
            )
            to_pixel[m] = row * out_strides.p + column * out_strides.q
            m += 1
    out += result_size(x) * (
        place.n * out_strides.n + k * out_strides.k + place.o * out_strides.o
        + place.p * out_strides.p + place.q * out_strides.q
    )
    if stored is float or stored is double:
        if (
            packs and m <= most_unpacked(x) and problem.t * problem.r * problem.s == 1
            and weight_strides.c == 1
        ):
            multiply_unpacked(
                <stored*>sums, a, from_pixel, to_pixel, m, problem.c,
                <const stored*>weight + k * weight_strides.k, weight_strides.k, channels,
                <const stored*>bias + k if bias else NULL, activation, out, out_strides.k,
            )
            return
    if packs:
        packed, together = own, 2
    while done < channels:
        if packs:
            for i in range(min(2, panels - panel)):
                pack_panel(
                    <const stored*>weight, weight_strides, own + i * panel_elements * element,
                    problem, cut.width, panel + i,
                )
            panel += 2
        multiply_pixels(
            x, sums, a, from_pixel, to_pixel, m, &runs, packed, panel_elements,
            min(together * cut.width, channels - done),
            bias + (k + done) * element if bias else NULL, activation,
            out + done * out_strides.k * result_size(x), out_strides.k,
        )
        done += together * cut.width


cdef void run_tasks(const ConvCall* call, stored* local, int64_t* queue) noexcept nogil:
    """Run the tasks of the queue; ``local`` is scratch, of whatever dtype."""
    cdef int64_t task, begin = 0, end = 0, copied = -1
    while next_tasks(queue, &begin, &end):
        for task in range(begin, end):
            tile(
                <const stored*>call.x, &call.x_strides, call.weight, &call.weight_strides,
                <const char*>call.bias, <char*>call.out, &call.out_strides, &call.problem,
                <const TiledCut*>call.cut, <char*>local, call.activation, task, &copied,
            )


_tasks = {
    "float32": address(<void*>run_tasks[float]),
    "float64": address(<void*>run_tasks[double]),
    "float16": address(<void*>run_tasks[float16]),
    "bfloat16": address(<void*>run_tasks[bfloat16]),
    "int8": address(<void*>run_tasks[int8_t]),
    "uint8": address(<void*>run_tasks[uint8_t]),
}
fprop = drivers.fprop(tiled_cut_own, _tasks, packing)
dgrad = adjoints.dgrad(fprop, skipping=_loop.dgrad, split=adjoints.in_tiles)
