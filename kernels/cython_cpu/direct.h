/* The loops of the direct row. Included once per dtype and instruction set (instruction_sets.h). */
#ifndef DIRECT_CHANNELS
#define DIRECT_CHANNELS 4
#define MOST_ROWS 7
#define MOST_VECTORS 4
/* Rows that are summed from left to right before the next ones. */
#define ROW_BAND 12

/* A tap column: how far it is in memory, and how many columns of the input to the right. */
typedef struct {
    int64_t x, column;
} Step;

/* How a copy lies in memory, [row][channel][phase][pitch], and what it is a copy of. */
typedef struct {
    int64_t pitch, phases, channels, rows;
    int64_t x_c, x_h, x_w;
    int64_t stride, at_h, at_w, h, w;
} Copy;

/* What lies under output rows: taps, how far apart they and the rows are in memory, and, to tell
 * what is padding, in the input, where tap 0 of the first output is at (at_d, at_h, at_w). */
typedef struct {
    int64_t t, r, steps;
    int64_t x_t, x_r, x_p;
    int64_t at_d, at_h, at_w, d, h, w;
    int64_t dilation_d, dilation_h, stride;
    void *edges; /* of every step: the lanes of the first and of the last vector */
} Window;

/* Where sums go. */
typedef struct {
    int64_t k, p, q;
    int64_t activation;
} Target;

#define sum_plane(out, target, x, w, bias, window, steps, channels, rows, columns, in_place) \
    SELECT(sum_plane, out)                                                                   \
    (out, target, x, w, bias, window, steps, channels, rows, columns, in_place)
#define copy_rows(to, x, copy) SELECT(copy_rows, to)(to, x, copy)

/* Whether loads of some lanes are as quick as loads of all. */
#define LOADS_LANES (instruction_set != BASELINE)
#endif

/* GCC loads again for every use what it sees to be in memory. */
#undef KEEP_IN_REGISTER
#if HAS_AVX2
#define KEEP_IN_REGISTER(vector) __asm__("" : "+v"(vector))
#else
#define KEEP_IN_REGISTER(vector) (void)(vector)
#endif

/* Lanes of a vector: bits, or a mask where the instruction set wants that. */
#undef EDGE
#if HAS_AVX2 && !HAS_AVX512
#define EDGE MASK
#else
#define EDGE uint32_t
#endif

/* Lanes `first` to `end - 1`, of any two numbers. */
INLINE EDGE NAME(edge)(int64_t first, int64_t end)
{
    first = first < 0 ? 0 : first > LANES ? LANES : first;
    end = end < 0 ? 0 : end > LANES ? LANES : end;
#if HAS_AVX2 && !HAS_AVX512
    MASK lane;
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    return (lane >= (LANE)first) & (lane < (LANE)end);
#else
    return ((1u << end) - 1) & ~((1u << first) - 1);
#endif
}

/* The edge's lanes, zeros in the others, which aren't read. */
INLINE VECTOR NAME(load_edge)(const REAL *from, EDGE edge)
{
#if HAS_AVX512
    return (VECTOR)INTRINSIC(maskz_loadu)(edge, from);
#elif HAS_AVX2
    return (VECTOR)INTRINSIC(maskload)(from, (__m256i)edge);
#else
    REAL element[LANES] = {0};
    for (int i = 0; i < LANES; i++)
        if (edge >> i & 1)
            element[i] = from[i];
    return NAME(load)(element);
#endif
}

#include "direct_rows.h"
#include "direct_channels.h"

/* The elements 0, 2, 4 ... of two vectors, and the others. */
INLINE VECTOR NAME(evens)(VECTOR low, VECTOR high)
{
#if LANES == 16
    return SHUFFLE(MASK, low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif LANES == 8
    return SHUFFLE(MASK, low, high, 0, 2, 4, 6, 8, 10, 12, 14);
#else
    return SHUFFLE(MASK, low, high, 0, 2, 4, 6);
#endif
}

INLINE VECTOR NAME(odds)(VECTOR low, VECTOR high)
{
#if LANES == 16
    return SHUFFLE(MASK, low, high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif LANES == 8
    return SHUFFLE(MASK, low, high, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return SHUFFLE(MASK, low, high, 1, 3, 5, 7);
#endif
}

/* The same as a block does, a vector and a row at a time. */
INLINE void NAME(sum_vectors)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                              const REAL *bias, const Window *window, const Step *steps,
                              int64_t columns, int64_t channels, int64_t rows)
{
    const struct NAME(blocks) *blocks = NAME(blocks_for)(window, channels, 1, 1);
    Window part = *window;
    for (int64_t p = 0; p < rows; p++, part.at_h += window->stride) {
        part.at_w = window->at_w;
        for (int64_t q = 0; q < columns; q += LANES, part.at_w += LANES) {
            NAME(fill_edges)(part.edges, &part, steps, 1);
            blocks->sum[1][0](out + p * target->p + q * target->q, target,
                              x + p * window->x_p + q, w, bias, &part, steps, columns - q);
        }
    }
}

/* `rows` output rows of `columns` columns of 1 to DIRECT_CHANNELS channels. The input lies
 * `in_place`, where it may end at any border of the window, or in a copy with its padding. */
LOOP void NAME(sum_plane)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                          const REAL *bias, const Window *window, const Step *steps,
                          int64_t channels, int64_t rows, int64_t columns, int in_place)
{
    const int64_t total = (columns + LANES - 1) / LANES;
    const int64_t most = channels == 4 ? 3 : MOST_VECTORS;
    const int64_t share = (total + most - 1) / most;
    const int64_t vectors = (total + share - 1) / share, block = vectors * LANES;
    const int64_t right = steps[window->steps - 1].column;
    const int64_t last_d = (window->t - 1) * window->dilation_d;
    const int64_t last_h = (window->r - 1) * window->dilation_h;
    const int in_d = window->at_d >= 0 && window->at_d + last_d < window->d;
    const int64_t band = share > 1 ? ROW_BAND : rows;
    for (int64_t first = 0; first < rows; first += band) {
        const int64_t end = rows - first < band ? rows : first + band;
        for (int64_t q = 0; q < columns; q += block) {
            const int64_t left = columns - q < block ? columns - q : block;
            const int64_t needed = (left + LANES - 1) / LANES;
            const struct NAME(blocks) *blocks =
                NAME(blocks_for)(window, channels, rows, needed);
            const int64_t together = blocks->rows[needed - 1];
            Window part = *window;
            part.at_w += q;
            const int64_t reach = part.at_w + right + (needed - 1) * LANES;
            const int in_w = part.at_w >= 0 && reach + LANES <= window->w;
            /* Vectors between the first and the last one are inside, or all go one by one. */
            const int alone = in_place && needed > 1
                              && (part.at_w + LANES < 0 || reach > window->w);
            if (in_place && !alone)
                NAME(fill_edges)(part.edges, &part, steps, needed);
            for (int64_t p = first; p < end; p += together) {
                /* The last block has as many rows as all: some come out twice, the same. */
                const int64_t at = p + together > rows ? rows - together : p;
                const REAL *x_p = x + at * window->x_p + q;
                REAL *out_p = out + at * target->p + q * target->q;
                part.at_h = window->at_h + at * window->stride;
                const int64_t under = (together - 1) * window->stride + last_h;
                const int masked = in_place && !(in_d && in_w && part.at_h >= 0
                                                 && part.at_h + under < window->h);
                if (!(masked && alone)) {
                    blocks->sum[masked][needed - 1](out_p, target, x_p, w, bias, &part, steps,
                                                    left);
                    continue;
                }
                NAME(sum_vectors)(out_p, target, x_p, w, bias, &part, steps, left, channels,
                                  together);
            }
        }
    }
}

/* Copy a row of the input, columns `at` and after, of which it has `size`, into `phases` rows of
 * `pitch` columns: column j of phase f is column at + j * stride + f, or 0 outside. */
INLINE void NAME(copy_row)(REAL *to, int64_t pitch, int64_t phases, const REAL *x, int64_t x_w,
                         int64_t stride, int64_t at, int64_t size)
{
    if (x_w == 1 && stride == 2) {
        for (int64_t j = 0; j < pitch; j += LANES) {
            const int64_t w = at + 2 * j;
            const int inside = w >= 0 && w + 2 * LANES <= size;
            const REAL *from = x + w;
            const VECTOR low = inside ? NAME(load)(from)
                                      : NAME(load_edge)(from, NAME(edge)(-w, size - w));
            const VECTOR high =
                inside ? NAME(load)(from + LANES)
                       : NAME(load_edge)(from + LANES, NAME(edge)(-w - LANES, size - w - LANES));
            NAME(store)(to + j, NAME(evens)(low, high));
            if (phases == 2)
                NAME(store)(to + pitch + j, NAME(odds)(low, high));
        }
        return;
    }
    for (int64_t f = 0; f < phases; f++, to += pitch, at++) {
        int64_t first = at < 0 ? (-at + stride - 1) / stride : 0;
        int64_t end = at < size ? (size - at + stride - 1) / stride : 0;
        first = first < pitch ? first : pitch;
        end = end < pitch ? end : pitch;
        end = end < first ? first : end;
        for (int64_t j = 0; j < first; j++)
            to[j] = 0;
        if (x_w == 1 && stride == 1)
            memcpy(to + first, x + at + first, (end - first) * sizeof(REAL));
        else
            for (int64_t j = first; j < end; j++)
                to[j] = x[(at + j * stride) * x_w];
        for (int64_t j = end; j < pitch; j++)
            to[j] = 0;
    }
}

/* Copy rows of all channels; `x` is NULL for a plane of padding. */
LOOP void NAME(copy_rows)(REAL *to, const REAL *x, const Copy *copy)
{
    const int64_t step = copy->phases * copy->pitch;
    for (int64_t i = 0; i < copy->rows; i++) {
        const int64_t h = copy->at_h + i;
        if (!x || h < 0 || h >= copy->h) {
            memset(to, 0, copy->channels * step * sizeof(REAL));
            to += copy->channels * step;
            continue;
        }
        for (int64_t c = 0; c < copy->channels; c++, to += step)
            NAME(copy_row)(to, copy->pitch, copy->phases, x + c * copy->x_c + h * copy->x_h,
                           copy->x_w, copy->stride, copy->at_w, copy->w);
    }
}
