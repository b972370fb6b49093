"""Weight panels, the form in which the im2col and tiled rows read weights.

weight  (K, C/G, T, R, S)            any strides    IN
packed  [G][panel][t][r][s][c][width]               OUT
A panel is ``width`` out-channels side by side, zeros beyond the group's last channel: the
micro-kernel reads it from front to back, two vectors a step. Weights of dtypes that are stored alone
are converted on the way; c are pairs of channels then, if they are integers. Task = one panel.
Assumes a validated ConvGeometry; raises nothing.
"""

from libc.stdint cimport int8_t, int64_t, uint8_t
from libc.string cimport memset

from cnnfast.kernels.cython_cpu._call cimport ConvCall, address
from cnnfast.kernels.cython_cpu._microkernel cimport (
    copy_transposed, pack_columns, pack_rows, pack_spread, pack_taps,
)
from cnnfast.kernels.cython_cpu._problem cimport ConvProblem, WeightStrides, next_tasks
from cnnfast.kernels.cython_cpu._stored cimport (
    bfloat16, channels_each, computing_size, float16, stored,
)


cdef enum:
    #: Elements between the first and the last tap of a channel, at most, to look for taps among.
    MOST_SPAN = 512
    #: Taps that lie side by side and are converted so, at most: as in ``storage.h``.
    TAPS_LENGTH = 256


cdef int64_t find_taps(
    const WeightStrides* strides, const ConvProblem* problem, int64_t* tap_at, int64_t* first
) noexcept nogil:
    """Which tap lies where: tap_at[i] of ``first + i``, -1 for none. Returns how many elements the
    taps span; 0 if they lie too far apart or on each other."""
    cdef int64_t d = (problem.t - 1) * strides.t, h = (problem.r - 1) * strides.r
    cdef int64_t w = (problem.s - 1) * strides.s
    cdef int64_t span, tap = 0, t, r, s, at
    first[0] = min(d, 0) + min(h, 0) + min(w, 0)
    span = max(d, 0) + max(h, 0) + max(w, 0) - first[0] + 1
    if span > MOST_SPAN or span > 4 * problem.t * problem.r * problem.s:
        return 0
    for at in range(span):
        tap_at[at] = -1
    for t in range(problem.t):
        for r in range(problem.r):
            for s in range(problem.s):
                at = t * strides.t + r * strides.r + s * strides.s - first[0]
                if tap_at[at] >= 0:
                    return 0
                tap_at[at] = tap
                tap += 1
    return span


cdef void pack_panel(
    const stored* weight, const WeightStrides* strides, void* packed,
    const ConvProblem* problem, int64_t width, int64_t panel,
) noexcept nogil:
    """Pack panel ``panel`` of the ``g * panels`` to ``packed``."""
    cdef int64_t panels = (problem.k + width - 1) // width
    cdef int64_t k = panel % panels * width
    cdef int64_t channels = min(width, problem.k - k)
    cdef int64_t taps = problem.t * problem.r * problem.s
    cdef int64_t each = channels_each(weight), all_c = (problem.c + each - 1) // each
    cdef int64_t tap_bytes = all_c * width * computing_size(weight)
    cdef int64_t c, t, r, s, span, first
    cdef int64_t tap_at[MOST_SPAN]
    cdef bint floating = stored is float or stored is double
    cdef char* to = <char*>packed
    cdef const stored* tap
    weight += (panel // panels * problem.k + k) * strides.k
    if (
        (strides.s == 1 or problem.s == 1) and (strides.r == problem.s or problem.r == 1)
        and (strides.t == problem.s * problem.r or problem.t == 1)
        and strides.c == taps and (floating or taps <= TAPS_LENGTH)
    ):
        pack_taps(packed, weight, strides.k, channels, problem.c, taps, all_c)
        return
    if stored is float or stored is double:
        if strides.c != 1 and strides.k != 1:
            span = find_taps(strides, problem, tap_at, &first)
            if span:
                pack_spread(
                    packed, weight + first, strides.k, strides.c, channels, problem.c, tap_at, span
                )
                return
    if channels < width and strides.k != 1:
        memset(to, 0, taps * tap_bytes)
    for t in range(problem.t):
        for r in range(problem.r):
            for s in range(problem.s):
                tap = weight + t * strides.t + r * strides.r + s * strides.s
                if strides.k == 1:
                    pack_rows(to, tap, strides.c, channels, problem.c)
                else:
                    pack_columns(to, tap, strides.k, strides.c, channels, problem.c)
                to += tap_bytes


cdef void run_packing(
    const ConvCall* call, stored* packed, int64_t width, int64_t* queue
) noexcept nogil:
    """Write the panels of the queue; the pointer is to panels, of whatever dtype."""
    cdef const stored* weight = <const stored*>call.weight
    cdef const ConvProblem* problem = &call.problem
    cdef int64_t each = channels_each(weight), begin = 0, end = 0, panel
    cdef int64_t steps = problem.t * problem.r * problem.s * ((problem.c + each - 1) // each)
    cdef int64_t panel_bytes = steps * width * computing_size(weight)
    while next_tasks(queue, &begin, &end):
        for panel in range(begin, end):
            pack_panel(
                weight, &call.weight_strides, <char*>packed + panel * panel_bytes, problem, width,
                panel,
            )


packing = {
    "float32": address(<void*>run_packing[float]),
    "float64": address(<void*>run_packing[double]),
    "float16": address(<void*>run_packing[float16]),
    "bfloat16": address(<void*>run_packing[bfloat16]),
    "int8": address(<void*>run_packing[int8_t]),
    "uint8": address(<void*>run_packing[uint8_t]),
}
