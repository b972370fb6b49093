/* The loops of the direct row: sums of a few rows of vectors of columns of a few out-channels,
 * in registers over the whole reduction.
 *
 * An input row is loaded once per tap column (s, c) and multiplied into all output rows that see
 * it, with all out-channels side by side: unaligned loads, most of which cross a cache line, are
 * what the multiply-adds wait for otherwise. Which output rows see an input row, ``low`` to
 * ``high``, is a constant in each copy of the innermost loop, so that sums stay in registers.
 * Included once per dtype and instruction set (instruction_sets.h).
 */
#ifndef DIRECT_CHANNELS
#define DIRECT_CHANNELS 4
#define MOST_ROWS 7
#define MOST_VECTORS 4

/* A tap column: how far it is in memory, and how many columns of the input to the right. */
typedef struct {
    int64_t x, column;
} Step;

/* Output rows, `between` apart from each other in the plane, and what lies under them. Input rows
 * are counted from the one that the first output row sees first; `stride` of them are between two
 * output rows. Positions of tap 0, sizes and dilations tell what is padding. */
typedef struct {
    int64_t t, r, steps, stride;
    int64_t x_t, x_r;
    int64_t at_d, at_h, at_w, d, h, w, dilation_d, dilation_h;
} Window;

/* Where sums go. */
typedef struct {
    int64_t k, p, q;
    int64_t activation;
} Target;

#define sum_plane(out, target, x, w, bias, window, steps, channels, rows, columns, in_place) \
    SELECT(sum_plane, out)                                                                   \
    (out, target, x, w, bias, window, steps, channels, rows, columns, in_place)
#define copy_row(to, pitch, phases, x, x_w, stride, at, size) \
    SELECT(copy_row, to)(to, pitch, phases, x, x_w, stride, at, size)

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

/* Vector v of `vectors` from column `at` of an input row of `size` columns: only the first and the
 * last one can reach beyond it (see sum_plane). */
INLINE VECTOR NAME(load_columns)(const REAL *from, int64_t at, int64_t size, int v, int vectors,
                                 int masked)
{
    if (masked && (v == 0 || v == vectors - 1))
        return NAME(load_edge)(from + v * LANES,
                               NAME(edge)(-at - v * LANES, size - at - v * LANES));
    if (masked)
        return NAME(load_edge)(from + v * LANES, NAME(edge)(0, size));
    return NAME(load)(from + v * LANES);
}

/* Multiply an input row into output rows low .. high-1. `w` is at the weights [s][c][k] of the row
 * for output row 0, whether there are such or not; the next output row's are `w_row` before. */
INLINE void NAME(add_row)(VECTOR sum[][MOST_ROWS][MOST_VECTORS], const REAL *x, const REAL *w,
                          int64_t w_row, const Step *steps, int64_t count, int64_t at,
                          int64_t size, const int channels, const int low, const int high,
                          const int vectors, const int masked)
{
    for (int64_t step = 0; step < count; step++, w += channels) {
        VECTOR value[MOST_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            value[v] = NAME(load_columns)(x + steps[step].x, at + steps[step].column, size, v,
                                          vectors, masked);
            KEEP_IN_REGISTER(value[v]);
        }
#pragma GCC unroll 7
        for (int p = low; p < high; p++)
#pragma GCC unroll 4
            for (int k = 0; k < channels; k++) {
                const VECTOR factor = NAME(splat)(w[k - p * w_row]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    sum[k][p][v] = NAME(multiply_add)(factor, value[v], sum[k][p][v]);
            }
    }
}

#include "direct_rows.h"

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

/* `rows` output rows of `columns` columns of 1 to DIRECT_CHANNELS channels. The input lies
 * `in_place`, where it may end at any border of the window, or in a copy with its padding. */
LOOP void NAME(sum_plane)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                          const REAL *bias, const Window *window, const Step *steps,
                          int64_t channels, int64_t rows, int64_t columns, int in_place)
{
    const int64_t total = (columns + LANES - 1) / LANES;
    const int64_t most = channels == 4 ? 3 : MOST_VECTORS, blocks = (total + most - 1) / most;
    const int64_t vectors = (total + blocks - 1) / blocks, block = vectors * LANES;
    const int64_t right = steps[window->steps - 1].column;
    const int is_3x3 = channels == 1 && window->t == 1 && window->r == 3
                       && window->steps == 3 && window->stride == 1
                       && rows >= NAME(rows_of_3x3)[vectors - 1];
    const int64_t together = is_3x3 ? NAME(rows_of_3x3)[vectors - 1]
                                    : NAME(rows_of)[channels - 1][vectors - 1];
    const int64_t last_d = (window->t - 1) * window->dilation_d;
    const int in_d = window->at_d >= 0 && window->at_d + last_d < window->d;
    for (int64_t done = 0; done < rows; done += together) {
        /* The last rows of 3 x 3 taps are as many as the others: some come out twice, the same. */
        const int64_t p = is_3x3 && done + together > rows ? rows - together : done;
        const int64_t count = rows - p < together ? rows - p : together;
        const int64_t under = (count - 1) * window->stride + window->r - 1;
        Window part = *window;
        part.at_h += p * window->stride * window->dilation_h;
        const int in_h = part.at_h >= 0 && part.at_h + under * window->dilation_h < window->h;
        const REAL *x_p = x + p * window->stride * window->x_r;
        for (int64_t q = 0; q < columns; q += block) {
            const int64_t left = columns - q < block ? columns - q : block;
            const int64_t needed = (left + LANES - 1) / LANES;
            part.at_w = window->at_w + q;
            const int64_t end = part.at_w + right + (needed - 1) * LANES;
            const int masked = in_place && !(in_d && in_h && part.at_w >= 0
                                             && end + LANES <= window->w);
            /* Vectors between the first and the last one are inside, or go one by one. */
            const int alone = masked && needed > 1
                              && (part.at_w + LANES < 0 || end > window->w);
            const int64_t step = alone ? 1 : needed;
            void (*const sum)(BLOCK(REAL)) =
                is_3x3   ? NAME(blocks_3x3)[vectors > 2][masked][step - 1]
                : masked ? NAME(blocks_at_edge)[step - 1]
                         : NAME(blocks)[channels - 1][step - 1];
            for (int64_t v = 0; v < needed; v += step, part.at_w += LANES)
                sum(out + p * target->p + (q + v * LANES) * target->q, target,
                    x_p + q + v * LANES, w, bias, &part, steps, count, left - v * LANES);
        }
    }
}

/* Copy a row of the input, columns `at` and after, of which it has `size`, into `phases` rows of
 * `pitch` columns: column j of phase f is column at + j * stride + f, or 0 outside. */
LOOP void NAME(copy_row)(REAL *to, int64_t pitch, int64_t phases, const REAL *x, int64_t x_w,
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
