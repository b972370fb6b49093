"""The cost models of the Cython rows as C functions, with the numbers of ``costs``."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._cuts cimport (
    DIRECT, IM2COL, LOOP, TILED, cut_gemm, cut_rows, cut_tiled, pad_after,
)
from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, GemmCut, InputStrides, RowsCut, TiledCut,
)

from cnnfast.kernels import blocking, blocking_rows, costs

cdef double PIXEL_STEP = costs.PIXEL_STEP
cdef double PIXEL_STORE = costs.PIXEL_STORE
cdef double PIXEL_TRANSPOSED = costs.PIXEL_TRANSPOSED
cdef int64_t TILED_LEAST = costs.TILED_LEAST
cdef double PACK_WEIGHT = costs.PACK_WEIGHT
cdef double PACK_OWN = costs.PACK_OWN
cdef double PACK_HALO = costs.PACK_HALO
cdef int64_t GEMM_ROWS = costs.GEMM_ROWS
cdef double GEMM_STEP = costs.GEMM_STEP
cdef double GEMM_BLOCK = costs.GEMM_BLOCK
cdef double GEMM_HALF = costs.GEMM_HALF
cdef double COLUMN_VECTOR = costs.COLUMN_VECTOR
cdef double COLUMN_RUN = costs.COLUMN_RUN
cdef double COLUMN_TRANSPOSED = costs.COLUMN_TRANSPOSED
cdef double OUTPUT_TRANSPOSED = costs.OUTPUT_TRANSPOSED
cdef double GEMM_REST = costs.GEMM_REST
cdef int64_t GEMM_TAPS = costs.GEMM_TAPS
cdef double GATHER = costs.GATHER
cdef double ROWS_TASK = costs.ROWS_TASK
cdef double ROWS_GATHER = costs.ROWS_GATHER
cdef double ROWS_COPY = costs.ROWS_COPY
cdef double ROWS_SHARED = costs.ROWS_SHARED
cdef double ROWS_STORE = costs.ROWS_STORE
cdef double CHANNELS_STEP = costs.CHANNELS_STEP
cdef double LOOP_STEP = costs.LOOP_STEP
cdef int64_t SHARED_ROWS = blocking_rows.SHARED_ROWS
cdef int64_t DIRECT_CHANNELS = blocking.DIRECT_CHANNELS
cdef int64_t TILE_BYTES = blocking.TILE_BYTES
cdef double[3] ROWS_3X3
ROWS_3X3[1], ROWS_3X3[2] = costs.ROWS_3X3[1], costs.ROWS_3X3[2]
cdef double[5] ROWS_STEP
for _count, _step in costs.ROWS_STEP.items():
    ROWS_STEP[_count] = _step


cdef int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef bint reads_padding(const ConvProblem* problem) noexcept nogil:
    return (
        problem.pad_d + problem.pad_h + problem.pad_w > 0
        or pad_after(
            problem.d, problem.t, problem.o, problem.stride_d, problem.dilation_d, problem.pad_d
        ) > 0
        or pad_after(
            problem.h, problem.r, problem.p, problem.stride_h, problem.dilation_h, problem.pad_h
        ) > 0
        or pad_after(
            problem.w, problem.s, problem.q, problem.stride_w, problem.dilation_w, problem.pad_w
        ) > 0
    )


cdef double packing(const ConvProblem* problem, int64_t width) noexcept nogil:
    return (
        PACK_WEIGHT * problem.g * ceil_div(problem.k, width) * width
        * problem.c * problem.t * problem.r * problem.s
    )


cdef double tiled_cost(
    const ConvProblem* problem, const InputStrides* strides, int64_t itemsize
) noexcept nogil:
    """``costs.tiled``."""
    cdef TiledCut cut
    cdef int64_t length = problem.c * problem.t * problem.r * problem.s
    cdef int64_t places, pixels
    cdef bint transposed = strides.c != 1
    cdef double cost
    cut_tiled(&cut, problem, itemsize)
    places = cut.tasks // cut.k_blocks
    pixels = problem.n * problem.g * problem.o * problem.p * problem.q
    pixels = max(pixels, places * TILED_LEAST)
    cost = <double>pixels * ceil_div(problem.k, cut.width) * (
        length * PIXEL_STEP + (PIXEL_TRANSPOSED if transposed else PIXEL_STORE)
    )
    if transposed or reads_padding(problem):
        cost += places * PACK_HALO * cut.halo_elements
    return cost + (PACK_OWN if places == 1 else PACK_WEIGHT) * (
        <double>cut.weight_panels * cut.width * length
    )


cdef double in_place_cost(
    const ConvProblem* problem, const GemmCut* cut, int64_t length
) noexcept nogil:
    """``costs.im2col_in_place`` where loads leave the padding out."""
    cdef int64_t plane = problem.o * problem.p * problem.q
    cdef int64_t vectors = plane // cut.width, rest = plane % cut.width
    cdef int64_t halves = ceil_div(problem.k, GEMM_ROWS // 2)
    cdef double image = vectors * (halves // 2 + halves % 2 * GEMM_HALF)
    image *= GEMM_ROWS * length * GEMM_STEP + GEMM_BLOCK
    if rest:
        image += ceil_div(problem.k, 2 * cut.width) * (
            2 * max(rest, TILED_LEAST) * length * GEMM_STEP + GEMM_REST
        )
    return image


cdef double im2col_cost(
    const ConvProblem* problem, const InputStrides* strides, int64_t itemsize
) noexcept nogil:
    """``costs.im2col_in_place``."""
    cdef GemmCut cut
    cdef int64_t length = problem.c * problem.t * problem.r * problem.s
    cdef int64_t plane = problem.o * problem.p * problem.q
    cdef int64_t taps = problem.t * problem.r * problem.s, vectors, rest, stretches, blocks
    cdef double image, begun
    cut_gemm(&cut, problem, itemsize)
    if (
        problem.o == problem.d and problem.p == problem.h and problem.q == problem.w
        and problem.stride_d == problem.stride_h == problem.stride_w == 1
        and taps <= GEMM_TAPS and strides.w == 1
    ):
        image = in_place_cost(problem, &cut, length)
        return problem.n * problem.g * image + packing(problem, cut.width)
    vectors, rest = plane // cut.width, plane % cut.width
    blocks = vectors * ceil_div(problem.k, GEMM_ROWS)
    image = GEMM_STEP * length * (
        <double>blocks * GEMM_ROWS + rest * ceil_div(problem.k, cut.width)
    ) + blocks * GEMM_BLOCK
    if rest:
        image += ceil_div(problem.k, 2 * cut.width) * GEMM_REST
    stretches = ceil_div(plane, cut.strip) + problem.o * problem.p
    begun = COLUMN_RUN * cut.k_blocks * taps * stretches
    if strides.w != 1 or problem.stride_w > 2:
        image += COLUMN_TRANSPOSED * cut.k_blocks * length * plane + begun
        image += OUTPUT_TRANSPOSED * problem.k * plane
    elif taps > 1 or plane < problem.d * problem.h * problem.w:
        image += COLUMN_VECTOR * cut.k_blocks * length * (vectors + stretches) + begun
    return problem.n * problem.g * image + packing(problem, cut.width)


cdef double rows_cost(
    const ConvProblem* problem, const InputStrides* strides, int64_t itemsize
) noexcept nogil:
    """``costs.rows``."""
    cdef RowsCut cut
    cdef int64_t lanes, length = problem.c * problem.t * problem.r * problem.s
    cdef int64_t lines = problem.n * problem.g * problem.o * problem.p, rest
    cdef double step, places, cost, copied
    cut_rows(&cut, problem, itemsize)
    lanes = TILE_BYTES // itemsize
    if problem.c == problem.k == 1 < problem.g and strides.c == 1:
        return CHANNELS_STEP * length * problem.q * ceil_div(problem.g, lanes) * (
            lines // problem.g
        )
    if (
        strides.w == 1 and problem.c == problem.t == 1 and problem.r == problem.s == 3
        and problem.dilation_h == problem.dilation_w == 1
        and problem.stride_h == problem.stride_w <= 2
    ):
        return cut.tasks * ROWS_TASK + ROWS_3X3[problem.stride_w] * (
            <double>lines * problem.k * ceil_div(problem.q, lanes)
        )
    copied = <double>cut.tasks * (cut.local_elements - cut.step_elements - cut.weight_elements)
    places = <double>lines * ceil_div((cut.rows - 1) * cut.pitch + cut.columns, lanes) / cut.rows
    places *= cut.column_blocks
    rest = problem.k % DIRECT_CHANNELS
    step = (problem.k - rest) * ROWS_STEP[4] + rest * ROWS_STEP[rest]
    if (
        rest == 1 and problem.stride_h == problem.stride_w == problem.dilation_h == 1
        and min(problem.r, problem.p) >= SHARED_ROWS
    ):
        step += ROWS_SHARED - ROWS_STEP[1]
    cost = places * (length * step + problem.k * ROWS_STORE) + cut.tasks * ROWS_TASK
    cost += ROWS_GATHER * cut.tasks * min(cut.channels, problem.k) * length
    return cost + copied * (ROWS_COPY / lanes if strides.w == 1 else GATHER)


cdef Algorithm choose(
    const ConvProblem* problem, const InputStrides* strides, int64_t itemsize,
    bint with_loop, double* cost,
) noexcept nogil:
    """The cheapest row and its estimated nanoseconds on one core; of several the table's first."""
    cdef Algorithm best = TILED
    cdef double least = tiled_cost(problem, strides, itemsize), other
    other = im2col_cost(problem, strides, itemsize)
    if other < least:
        best, least = IM2COL, other
    other = rows_cost(problem, strides, itemsize)
    if other < least:
        best, least = DIRECT, other
    other = LOOP_STEP * problem.n * problem.g * problem.k * (
        <double>problem.c * problem.t * problem.r * problem.s
    ) * (problem.o * problem.p * problem.q)
    if with_loop and other < least:
        best, least = LOOP, other
    cost[0] = least
    return best
