"""The cuts of ``blocking`` and ``blocking_rows`` as C functions, with their numbers.

Why twice: calls from C have neither Python nor its cache of cuts.
"""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport ConvProblem, GemmCut, RowsCut, TiledCut

from cnnfast.kernels import blocking, blocking_rows

cdef int64_t TILE_BYTES = blocking.TILE_BYTES
cdef int64_t MOST_PIXELS = blocking.MOST_PIXELS
cdef int64_t CACHE_SETS_BYTES = blocking.CACHE_SETS_BYTES
cdef int64_t GEMM_STRIP_BYTES = blocking.GEMM_STRIP_BYTES
cdef int64_t GEMM_MOST_BYTES = blocking.GEMM_MOST_BYTES
cdef int64_t GEMM_DEPTH = blocking.GEMM_DEPTH
cdef int64_t GEMM_CHANNELS = blocking.GEMM_CHANNELS
cdef int64_t GEMM_STRIPS = blocking.GEMM_STRIPS
cdef int64_t GEMM_PANELS = blocking.GEMM_PANELS
cdef int64_t TILED_HALO_BYTES = blocking.TILED_HALO_BYTES
cdef int64_t TILED_ROWS = blocking.TILED_ROWS
cdef int64_t TILED_COLUMNS = blocking.TILED_COLUMNS
cdef int64_t TILED_PIXELS = blocking.TILED_PIXELS
cdef int64_t TILED_PRODUCTS = blocking.TILED_PRODUCTS
cdef int64_t MIN_TASKS = blocking.MIN_TASKS
cdef int64_t MIN_TASK_CHANNELS = blocking.MIN_TASK_CHANNELS
cdef int64_t DIRECT_CHANNELS = blocking.DIRECT_CHANNELS
cdef int64_t DIRECT_COLUMNS = blocking.DIRECT_COLUMNS
cdef int64_t HALO_BYTES = blocking_rows.HALO_BYTES
cdef int64_t MOST_COLUMNS = blocking_rows.MOST_COLUMNS
cdef int64_t ROWS = blocking_rows.ROWS
cdef int64_t STEP_BYTES = blocking_rows.STEP_BYTES


cdef int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef int64_t round_up(int64_t a, int64_t multiple) noexcept nogil:
    return ceil_div(a, multiple) * multiple


cdef int64_t split_evenly(int64_t total, int64_t most) noexcept nogil:
    return ceil_div(total, ceil_div(total, most))


cdef int64_t spanned(int64_t kernel, int64_t dilation) noexcept nogil:
    return dilation * (kernel - 1) + 1


cdef int64_t pad_after(
    int64_t size, int64_t kernel, int64_t outputs, int64_t stride, int64_t dilation, int64_t before
) noexcept nogil:
    """Padding behind the input that the last window of an axis reads."""
    return max((outputs - 1) * stride + spanned(kernel, dilation) - before - size, 0)


cdef int64_t reduction_length(const ConvProblem* problem) noexcept nogil:
    return problem.c * problem.t * problem.r * problem.s


cdef void cut_gemm(GemmCut* cut, const ConvProblem* problem, int64_t itemsize) noexcept nogil:
    """``blocking.gemm_cut``."""
    cdef int64_t width = TILE_BYTES // itemsize
    cdef int64_t whole = GEMM_STRIP_BYTES // itemsize, most = GEMM_MOST_BYTES // itemsize
    cdef int64_t plane = problem.o * problem.p * problem.q, images = problem.n * problem.g
    cdef int64_t strips = max((plane - (most - whole)) // whole + 1, 1)
    cdef int64_t length = reduction_length(problem), panels = ceil_div(problem.k, width)
    cdef int64_t together, channels, wanted, share
    if plane < most - whole:
        # A quotient below zero is rounded down in Python.
        strips = 1
    together = split_evenly(strips, min(max(strips * images // MIN_TASKS, 1), GEMM_STRIPS))
    cut.pixel_blocks = ceil_div(strips, together)
    channels = (
        MIN_TASK_CHANNELS if problem.t * problem.r * problem.s == 1 else GEMM_CHANNELS
    )
    wanted = ceil_div(MIN_TASKS, max(images * cut.pixel_blocks, 1))
    share = ceil_div(panels, min(wanted, ceil_div(problem.k, channels)))
    share = split_evenly(panels, min(share, GEMM_PANELS))
    cut.width, cut.panels, cut.k_blocks = width, share, ceil_div(panels, share)
    cut.pixels = together * whole
    cut.depth, cut.strip = split_evenly(length, GEMM_DEPTH), min(round_up(plane, width), most)
    cut.tasks = images * cut.pixel_blocks * cut.k_blocks
    cut.weight_panels = problem.g * panels
    cut.shared_elements = problem.g * panels * length * width
    cut.local_elements = cut.strip * (cut.depth + share * width)


cdef void share_panels(
    TiledCut* cut, const ConvProblem* problem, int64_t places
) noexcept nogil:
    """Panels of a tiled task, an even number of them, and blocks of panels."""
    cdef int64_t panels = ceil_div(problem.k, cut.width)
    cdef int64_t channels = ceil_div(TILED_PRODUCTS, problem.t * problem.r * problem.s)
    cdef int64_t least = min(round_up(ceil_div(channels, cut.width), 2), panels)
    cdef int64_t wanted = max(MIN_TASKS // max(places, 1), 1)
    cut.panels = min(round_up(max(ceil_div(panels, wanted), least), 2), panels)
    cut.k_blocks = ceil_div(panels, cut.panels)


cdef void cut_tiled(TiledCut* cut, const ConvProblem* problem, int64_t itemsize) noexcept nogil:
    """``blocking.tiled_cut``."""
    cdef int64_t width = TILE_BYTES // itemsize
    cdef int64_t columns = split_evenly(problem.q, TILED_COLUMNS)
    cdef int64_t column_blocks = ceil_div(problem.q, columns)
    cdef int64_t span = spanned(problem.r, problem.dilation_h)
    cdef int64_t between = problem.stride_w if problem.s > 1 else 1
    cdef bint crowded = between * problem.c * itemsize % CACHE_SETS_BYTES == 0
    cdef int64_t strips = problem.n * problem.g * problem.o * column_blocks
    cdef int64_t least = TILED_ROWS if problem.r > 1 else 1
    cdef int64_t row_elements, cached, finest, panels = ceil_div(problem.k, width)
    cut.width, cut.columns, cut.column_blocks = width, columns, column_blocks
    cut.halo_columns = (columns - 1) * problem.stride_w + spanned(problem.s, problem.dilation_w)
    cut.halo_channels = problem.c + width if crowded else problem.c
    row_elements = problem.t * cut.halo_columns * cut.halo_channels
    cached = (TILED_HALO_BYTES // (row_elements * itemsize) - span) // problem.stride_h + 1
    finest = max(
        max(ceil_div(problem.p * strips, MIN_TASKS), least), ceil_div(TILED_PIXELS, columns)
    )
    cut.rows = split_evenly(problem.p, max(min(cached, finest), 1))
    cut.row_blocks = ceil_div(problem.p, cut.rows)
    cut.halo_rows = (cut.rows - 1) * problem.stride_h + span
    share_panels(cut, problem, strips * cut.row_blocks)
    cut.halo_elements = round_up(cut.halo_rows * row_elements, width)
    cut.tasks = strips * cut.row_blocks * cut.k_blocks
    cut.weight_panels = problem.g * panels
    cut.shared_elements = problem.g * panels * reduction_length(problem) * width
    cut.local_elements = (
        cut.halo_elements + MOST_PIXELS * 2 * width
        + ceil_div(2 * 8 * cut.rows * columns, itemsize)
    )


cdef void cut_tiled_own(
    TiledCut* cut, const ConvProblem* problem, int64_t itemsize
) noexcept nogil:
    """``blocking.tiled_cut_own``."""
    cut_tiled(cut, problem, itemsize)
    if cut.tasks <= cut.k_blocks:
        cut.weight_panels = cut.shared_elements = 0
        cut.local_elements = (
            round_up(cut.local_elements, cut.width) + 2 * cut.width * reduction_length(problem)
        )


cdef bint takes_3x3(const ConvProblem* problem) noexcept nogil:
    return (
        problem.c == problem.t == 1 and problem.r == problem.s == 3
        and problem.dilation_h == problem.dilation_w == 1
        and problem.stride_h == problem.stride_w <= 2
    )


cdef int64_t widest(const ConvProblem* problem, int64_t itemsize) noexcept nogil:
    """Columns of a direct task at most. In double: steps may be of any size."""
    cdef double rows, bytes
    cdef int64_t fitting = 0
    if takes_3x3(problem):
        return 2 * MOST_COLUMNS
    rows = 3.0 * ROWS * problem.stride_h + spanned(problem.r, problem.dilation_h)
    bytes = rows * problem.t * problem.c * problem.stride_w * itemsize
    if bytes <= HALO_BYTES:
        fitting = HALO_BYTES // <int64_t>bytes
    return max(min(fitting, MOST_COLUMNS), DIRECT_COLUMNS)


cdef int64_t rows_of(
    const ConvProblem* problem, int64_t lanes, int64_t column_blocks, int64_t cached
) noexcept nogil:
    """Output rows of a direct task."""
    cdef int64_t strips = problem.n * problem.g * problem.o * column_blocks, rows
    if problem.c == problem.k == 1:
        strips = ceil_div(strips, 2 * lanes)
    rows = max(ceil_div(problem.p * strips, MIN_TASKS), ROWS)
    rows = split_evenly(problem.p, max(min(cached, rows), 1))
    if ROWS <= rows < problem.p:
        rows -= rows % ROWS
    return rows


cdef void cut_rows(RowsCut* cut, const ConvProblem* problem, int64_t itemsize) noexcept nogil:
    """``blocking_rows.rows_cut``."""
    cdef int64_t lanes = TILE_BYTES // itemsize
    cdef int64_t span_h = spanned(problem.r, problem.dilation_h)
    cdef int64_t span_w = spanned(problem.s, problem.dilation_w)
    cdef int64_t common = 0, row_elements, planes, cached, strips, sets, together
    cdef int64_t length = reduction_length(problem)
    cut.columns = min(
        round_up(split_evenly(problem.q, widest(problem, itemsize)), lanes), problem.q
    )
    cut.column_blocks = ceil_div(problem.q, cut.columns)
    cut.phases_h, cut.phases_w = min(problem.stride_h, span_h), min(problem.stride_w, span_w)
    if cut.column_blocks == problem.stride_w == 1:
        common = min(
            min(problem.pad_w, span_w - 1),
            pad_after(problem.w, problem.s, problem.q, 1, problem.dilation_w, problem.pad_w),
        )
    cut.pitch = cut.columns + (span_w - 1) // problem.stride_w - common
    cut.rest = common + lanes
    planes = problem.t * problem.c * cut.phases_h * cut.phases_w
    row_elements = planes * cut.pitch
    cached = HALO_BYTES // (row_elements * itemsize) - (span_h - 1) // problem.stride_h
    if takes_3x3(problem):
        cached = max(cached, ROWS)
    cut.rows = rows_of(problem, lanes, cut.column_blocks, cached)
    cut.row_blocks = ceil_div(problem.p, cut.rows)
    strips = problem.n * problem.g * problem.o * cut.column_blocks
    sets = ceil_div(problem.k, DIRECT_CHANNELS)
    together = min(ceil_div(MIN_TASKS, max(strips * cut.row_blocks, 1)), sets)
    cut.channels = ceil_div(sets, together) * DIRECT_CHANNELS
    cut.k_blocks = ceil_div(problem.k, cut.channels)
    cut.plane = round_up(
        (cut.rows + (span_h - 1) // problem.stride_h) * cut.pitch + cut.rest, lanes
    )
    cut.step_elements = round_up((length + problem.s * problem.c) * STEP_BYTES // itemsize, lanes)
    together = 2 * lanes if problem.c == problem.k == 1 else min(problem.k, DIRECT_CHANNELS)
    cut.weight_elements = round_up(length * together, lanes)
    cut.zero_elements = problem.stride_w * round_up(cut.columns, lanes) + 2 * lanes
    cut.tasks, cut.shared_elements = strips * cut.row_blocks * cut.k_blocks, 0
    cut.local_elements = (
        cut.step_elements + cut.weight_elements + max(planes * cut.plane, cut.zero_elements)
    )


cdef void cut_for(
    Blocks* blocks, Algorithm algorithm, const ConvProblem* problem, int64_t itemsize
) noexcept nogil:
    """The cut of a row; the plain loops' (``blocking.plain_cut``) is nothing but tasks."""
    blocks.width = TILE_BYTES // itemsize
    blocks.weight_panels = blocks.shared_elements = blocks.local_elements = 0
    if algorithm == TILED:
        cut_tiled_own(&blocks.cut.tiled, problem, itemsize)
        blocks.tasks, blocks.weight_panels = blocks.cut.tiled.tasks, blocks.cut.tiled.weight_panels
        blocks.shared_elements = blocks.cut.tiled.shared_elements
        blocks.local_elements = blocks.cut.tiled.local_elements
    elif algorithm == IM2COL:
        cut_gemm(&blocks.cut.gemm, problem, itemsize)
        blocks.tasks, blocks.weight_panels = blocks.cut.gemm.tasks, blocks.cut.gemm.weight_panels
        blocks.shared_elements = blocks.cut.gemm.shared_elements
        blocks.local_elements = blocks.cut.gemm.local_elements
    elif algorithm == DIRECT:
        cut_rows(&blocks.cut.rows, problem, itemsize)
        blocks.tasks, blocks.local_elements = blocks.cut.rows.tasks, blocks.cut.rows.local_elements
    else:
        blocks.tasks = problem.n * problem.g * problem.k
