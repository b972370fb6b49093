/* The loops of the direct dgrad row of column stride 2: pairs of result columns.
 *
 * The result's columns 2u and 2u + 1, counted from the padding's begin, read the gradients u - j
 * with the taps 2j and 2j + 1: a load of gradients serves both and all in-channels, and the two
 * vectors of sums are interleaved as they are stored. Included once per dtype and instruction set
 * (instruction_sets.h).
 */
#ifndef MOST_CHANNELS
#define MOST_CHANNELS 4
#define MOST_VECTORS 4
#define MOST_TAPS 16

/* What is read: result row i sums the places i * most .. end[i] - 1, each a row of gradients and the
 * taps of a kernel row, `taps` of them, for `filters` out-channels. */
typedef struct {
    int64_t most;
    const int64_t *end, *grad, *weight;
    int64_t taps, filters, columns;
    int64_t grad_k, weight_k, weight_c, weight_s;
} Source;

/* The result: `channels` of `rows` of `width` columns, of which column 0 is `pad` behind the first
 * pair's. */
typedef struct {
    int64_t channels, rows, width, pad;
    int64_t step_c, step_h;
} Target;

#define fill_rows(out, target, grad, weight, source) \
    SELECT(fill_rows, out)(out, target, grad, weight, source)
#endif

#include "chosen.h"

/* The lanes of even and odd in turn: the first half of them, or the second. */
INLINE VECTOR NAME(in_turn)(VECTOR even, VECTOR odd, const int second)
{
#if LANES == 16
    if (second)
        return SHUFFLE(MASK, even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                       31);
    return SHUFFLE(MASK, even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif LANES == 8
    if (second)
        return SHUFFLE(MASK, even, odd, 4, 12, 5, 13, 6, 14, 7, 15);
    return SHUFFLE(MASK, even, odd, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    if (second)
        return SHUFFLE(MASK, even, odd, 2, 6, 3, 7);
    return SHUFFLE(MASK, even, odd, 0, 4, 1, 5);
#endif
}

/* sum[c][odd][v] += gradients x the taps s and s + 1 of channel c (the first alone if they are not
 * `both`), of all out-channels; the vectors' `chosen` gradients, or all (NULL). */
INLINE void NAME(sum_taps)(VECTOR sum[MOST_CHANNELS][2][MOST_VECTORS], const REAL *from,
                           const REAL *w, const Source *source, const CHOICE *chosen,
                           const int channels, const int vectors, const int both)
{
    for (int64_t k = source->filters; k; k--) {
        VECTOR value[MOST_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            value[v] = chosen ? NAME(load_chosen)(from + v * LANES, 1, chosen[v])
                              : NAME(load)(from + v * LANES);
#pragma GCC unroll 4
        for (int c = 0; c < channels; c++)
#pragma GCC unroll 2
            for (int odd = 0; odd <= both; odd++) {
                const VECTOR factor = NAME(splat)(w[c * source->weight_c + odd * source->weight_s]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    sum[c][odd][v] = NAME(multiply_add)(factor, value[v], sum[c][odd][v]);
            }
        from += source->grad_k;
        w += source->weight_k;
    }
}

/* `vectors` vectors of column pairs, from u on, of all rows; all gradients that they read and all
 * columns are `inside`, or gradients that aren't count as zero. */
INLINE void NAME(fill_pairs)(REAL *out, const Target *target, const REAL *grad, const REAL *weight,
                             const Source *source, int64_t u, const int inside, const int channels,
                             const int vectors)
{
    CHOICE read[MOST_TAPS / 2][MOST_VECTORS], written[MOST_VECTORS][2];
    const int64_t column = 2 * u - target->pad, last = (source->taps - 1) / 2;
    if (!inside) {
        for (int64_t j = 0; j <= last; j++)
            for (int v = 0; v < vectors; v++)
                read[j][v] = NAME(choose_between)(0, source->columns, u - j + v * LANES);
        for (int v = 0; v < vectors; v++)
            for (int half = 0; half < 2; half++)
                written[v][half] =
                    NAME(choose_between)(0, target->width, column + (2 * v + half) * LANES);
    }
    for (int64_t h = 0; h < target->rows; h++, out += target->step_h) {
        VECTOR sum[MOST_CHANNELS][2][MOST_VECTORS];
#pragma GCC unroll 4
        for (int c = 0; c < channels; c++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[c][0][v] = sum[c][1][v] = (VECTOR){0};
        for (int64_t place = h * source->most; place < source->end[h]; place++) {
            const REAL *from = grad + source->grad[place] + u - last;
            const REAL *w = weight + source->weight[place] + 2 * last * source->weight_s;
            int64_t j = last;
            if (source->taps % 2) {
                NAME(sum_taps)(sum, from, w, source, inside ? NULL : read[j], channels, vectors, 0);
                from++;
                w -= 2 * source->weight_s;
                j--;
            }
            for (; j >= 0; j--, from++, w -= 2 * source->weight_s)
                NAME(sum_taps)(sum, from, w, source, inside ? NULL : read[j], channels, vectors, 1);
        }
#pragma GCC unroll 4
        for (int c = 0; c < channels; c++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
#pragma GCC unroll 2
                for (int half = 0; half < 2; half++) {
                    REAL *to = out + c * target->step_c + column + (2 * v + half) * LANES;
                    const VECTOR pairs = NAME(in_turn)(sum[c][0][v], sum[c][1][v], half);
                    if (inside)
                        NAME(store)(to, pairs);
                    else
                        NAME(store_chosen)(to, pairs, written[v][half]);
                }
    }
}

#define FILL(channels, vectors)                                                                 \
    LOOP void NAME(fill_##channels##_##vectors)(REAL *out, const Target *target,                \
                                                const REAL *grad, const REAL *weight,           \
                                                const Source *source, int64_t u, int inside)    \
    {                                                                                           \
        if (inside)                                                                             \
            NAME(fill_pairs)(out, target, grad, weight, source, u, 1, channels, vectors);       \
        else                                                                                    \
            NAME(fill_pairs)(out, target, grad, weight, source, u, 0, channels, vectors);       \
    }
FILL(1, 1)
FILL(1, 2)
FILL(2, 1)
FILL(3, 1)
FILL(4, 1)
#if HAS_AVX512
FILL(1, 3)
FILL(1, 4)
FILL(2, 2)
FILL(3, 2)
FILL(4, 2)
#endif

/* Fill all rows of up to MOST_CHANNELS channels. */
LOOP void NAME(fill_rows)(REAL *out, const Target *target, const REAL *grad, const REAL *weight,
                          const Source *source)
{
    typedef void Fill(REAL *, const Target *, const REAL *, const REAL *, const Source *, int64_t,
                      int);
#if HAS_AVX512
    static Fill *const fills[MOST_CHANNELS][MOST_VECTORS] = {
        {NAME(fill_1_1), NAME(fill_1_2), NAME(fill_1_3), NAME(fill_1_4)},
        {NAME(fill_2_1), NAME(fill_2_2)},
        {NAME(fill_3_1), NAME(fill_3_2)},
        {NAME(fill_4_1), NAME(fill_4_2)}};
    const int64_t most = target->channels == 1 ? 4 : 2;
#else
    static Fill *const fills[MOST_CHANNELS][2] = {
        {NAME(fill_1_1), NAME(fill_1_2)}, {NAME(fill_2_1)}, {NAME(fill_3_1)}, {NAME(fill_4_1)}};
    const int64_t most = target->channels == 1 ? 2 : 1;
#endif
    const int64_t before = (source->taps - 1) / 2, end = (target->width + target->pad + 1) / 2;
    int64_t u = target->pad / 2;
    while (u < end) {
        const int64_t left = (end - u + LANES - 1) / LANES, vectors = left < most ? left : most;
        const int64_t next = u + vectors * LANES, column = 2 * u - target->pad;
        const int inside = u >= before && next <= source->columns && column >= 0
                           && column + 2 * vectors * LANES <= target->width;
        fills[target->channels - 1][vectors - 1](out, target, grad, weight, source, u, inside);
        u = next;
    }
}
