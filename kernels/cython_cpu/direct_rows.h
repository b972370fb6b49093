/* The blocks of the direct row: output rows x vectors of columns x out-channels whose sums stay in
 * registers over all taps. Included by direct.h.
 *
 * Loads at any column but every 16th cross a cache line and take 1.5 cycles each of a processor
 * that multiplies one vector per cycle: they are shared by out-channels, or, where there is one,
 * by the output rows that see an input row. Every loop over rows then has constant ends.
 */

/* Write `columns` finished sums, `stride` apart. */
LOOP void NAME(store_columns)(REAL *out, int64_t stride, const REAL *sums, int64_t columns)
{
    for (int64_t q = 0; q < columns; q++)
        out[q * stride] = sums[q];
}

/* Write rows of `vectors` vectors, the last one up to `columns`. */
INLINE void NAME(store_rows)(REAL *out, const Target *target, const REAL *bias,
                             VECTOR sum[][MOST_ROWS][MOST_VECTORS], int64_t columns,
                             const int channels, const int rows, const int vectors)
{
    const int64_t last = columns - (vectors - 1) * LANES;
#pragma GCC unroll 4
    for (int k = 0; k < channels; k++) {
        /* y + -0.0 is y, whatever y is: no bias is the bias -0.0. */
        const VECTOR added = NAME(splat)(bias ? bias[k] : (REAL)-0.0);
#pragma GCC unroll 7
        for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[k][p][v] = NAME(activate)(sum[k][p][v] + added, target->activation);
    }
    if (target->q != 1) {
        REAL sums[MOST_VECTORS * LANES];
#pragma GCC unroll 4
        for (int k = 0; k < channels; k++)
#pragma GCC unroll 7
            for (int p = 0; p < rows; p++) {
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    NAME(store)(sums + v * LANES, sum[k][p][v]);
                NAME(store_columns)(out + k * target->k + p * target->p, target->q, sums,
                                    columns < vectors * LANES ? columns : vectors * LANES);
            }
        return;
    }
#pragma GCC unroll 4
    for (int k = 0; k < channels; k++)
#pragma GCC unroll 7
        for (int p = 0; p < rows; p++) {
            REAL *to = out + k * target->k + p * target->p;
#pragma GCC unroll 4
            for (int v = 0; v < vectors - 1; v++)
                NAME(store)(to + v * LANES, sum[k][p][v]);
            if (last >= LANES)
                NAME(store)(to + (vectors - 1) * LANES, sum[k][p][vectors - 1]);
            else
                NAME(store_first)(to + (vectors - 1) * LANES, sum[k][p][vectors - 1], last);
        }
}

/* The columns that the first and the last vector of a block have at each tap column: what lies
 * between is inside the input. Made once for blocks below each other, for making takes as long as
 * using. */
INLINE void NAME(fill_edges)(EDGE *edges, const Window *window, const Step *steps,
                             int64_t vectors)
{
    const int64_t last = (vectors - 1) * LANES;
    for (int64_t step = 0; step < window->steps; step++) {
        const int64_t at = window->at_w + steps[step].column;
        edges[2 * step] = NAME(edge)(-at, window->w - at);
        edges[2 * step + 1] = NAME(edge)(-at - last, window->w - at - last);
    }
}

/* Vector v of `vectors`. */
INLINE VECTOR NAME(load_columns)(const REAL *from, const EDGE *edges, int v, int vectors,
                                 int masked)
{
    VECTOR value;
    if (masked && (v == 0 || v == vectors - 1))
        value = NAME(load_edge)(from + v * LANES, edges[v > 0]);
    else
        value = NAME(load)(from + v * LANES);
    KEEP_IN_REGISTER(value);
    return value;
}

/* Whether a row of the input is inside of it. */
INLINE int NAME(has_row)(const Window *window, int64_t d, int64_t h)
{
    return (uint64_t)d < (uint64_t)window->d && (uint64_t)h < (uint64_t)window->h;
}

/* Multiply an input row into the output rows low .. high-1 of one channel, which see it with the
 * weights [s][c] at w, the next output row's `steps` before. */
INLINE void NAME(add_row)(VECTOR sum[][MOST_ROWS][MOST_VECTORS], const REAL *x, const REAL *w,
                          const Window *window, const Step *steps, const int low,
                          const int high, const int vectors, const int masked)
{
    const EDGE *edges = window->edges;
    for (int64_t step = 0; step < window->steps; step++, w++) {
        VECTOR value[MOST_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            value[v] = NAME(load_columns)(x + steps[step].x, edges + 2 * step, v, vectors, masked);
#pragma GCC unroll 7
        for (int p = low; p < high; p++) {
            const VECTOR factor = NAME(splat)(w[-p * window->steps]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[0][p][v] = NAME(multiply_add)(factor, value[v], sum[0][p][v]);
        }
    }
}

/* All taps of `rows` output rows of one channel, an input row apart from each other and at most as
 * many as the kernel has: each input row is loaded once for all of them. */
INLINE void NAME(add_shared)(VECTOR sum[][MOST_ROWS][MOST_VECTORS], const REAL *x,
                             const REAL *w, const Window *window, const Step *steps,
                             const int channels, const int rows, const int vectors,
                             const int masked)
{
    for (int64_t t = 0; t < window->t; t++) {
        const REAL *x_at = x + t * window->x_t, *w_at = w + t * window->r * window->steps;
        const int64_t d = window->at_d + t * window->dilation_d;
        int64_t h = window->at_h;
#define ADD_ROW(low, high)                                                                   \
    if (!masked || NAME(has_row)(window, d, h))                                              \
        NAME(add_row)(sum, x_at, w_at, window, steps, low, high, vectors, masked);           \
    x_at += window->x_r, w_at += window->steps, h += window->dilation_h
#pragma GCC unroll 6
        for (int i = 1; i < rows; i++) {
            ADD_ROW(0, i);
        }
        for (int64_t i = rows; i <= window->r; i++) {
            ADD_ROW(0, rows);
        }
#pragma GCC unroll 6
        for (int i = 1; i < rows; i++) {
            ADD_ROW(i, rows);
        }
#undef ADD_ROW
    }
}

/* All taps of `rows` output rows of some channels, weights [t][r][s][c][k]. */
INLINE void NAME(add_apart)(VECTOR sum[][MOST_ROWS][MOST_VECTORS], const REAL *x,
                            const REAL *w, const Window *window, const Step *steps,
                            const int channels, const int rows, const int vectors,
                            const int masked)
{
    const int64_t x_p = window->x_p;
    const EDGE *edges = window->edges;
    for (int64_t t = 0; t < window->t; t++)
        for (int64_t r = 0; r < window->r; r++) {
            const REAL *x_at = x + t * window->x_t + r * window->x_r;
            const int64_t d = window->at_d + t * window->dilation_d;
            const int64_t h = window->at_h + r * window->dilation_h;
            int inside[MOST_ROWS];
#pragma GCC unroll 7
            for (int p = 0; p < rows; p++)
                inside[p] = NAME(has_row)(window, d, h + p * window->stride);
            for (int64_t step = 0; step < window->steps; step++, w += channels) {
                VECTOR factor[DIRECT_CHANNELS];
#pragma GCC unroll 4
                for (int k = 0; k < channels; k++)
                    factor[k] = NAME(splat)(w[k]);
#pragma GCC unroll 7
                for (int p = 0; p < rows; p++) {
                    if (masked && !inside[p])
                        continue;
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++) {
                        const VECTOR value =
                            NAME(load_columns)(x_at + p * x_p + steps[step].x,
                                               edges + 2 * step, v, vectors, masked);
#pragma GCC unroll 4
                        for (int k = 0; k < channels; k++)
                            sum[k][p][v] = NAME(multiply_add)(factor[k], value, sum[k][p][v]);
                    }
                }
            }
        }
}

/* 3 x 3 taps of one channel: everything unrolled, the weights in registers. */
INLINE void NAME(add_3x3)(VECTOR sum[][MOST_ROWS][MOST_VECTORS], const REAL *x,
                          const REAL *w, const Window *window, const Step *steps,
                          const int channels, const int rows, const int vectors,
                          const int masked)
{
    VECTOR factor[9];
    const EDGE *edges = window->edges;
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; tap++)
        factor[tap] = NAME(splat)(w[tap]);
#pragma GCC unroll 9
    for (int i = 0; i < rows + 2; i++, x += window->x_r) {
        if (masked
            && !NAME(has_row)(window, window->at_d, window->at_h + i * window->dilation_h))
            continue;
#pragma GCC unroll 3
        for (int s = 0; s < 3; s++) {
            const REAL *from = x + steps[s].x;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                const VECTOR value = NAME(load_columns)(from, edges + 2 * s, v, vectors, masked);
#pragma GCC unroll 3
                for (int p = i < 2 ? 0 : i - 2; p <= (i < rows ? i : rows - 1); p++)
                    sum[0][p][v] =
                        NAME(multiply_add)(factor[(i - p) * 3 + s], value, sum[0][p][v]);
            }
        }
    }
}

#ifndef BLOCK
/* `rows` output rows of `vectors` vectors, the last one up to `columns`. */
#define BLOCK(REAL)                                                                          \
    REAL *out, const Target *target, const REAL *x, const REAL *w, const REAL *bias,         \
        const Window *window, const Step *steps, int64_t columns
#endif

#undef BLOCK_OF
#define BLOCK_OF(name, add, channels, rows, vectors, masked)                                 \
    LOOP void NAME(name##_##vectors##_##masked)(BLOCK(REAL))                                 \
    {                                                                                        \
        VECTOR sum[channels][MOST_ROWS][MOST_VECTORS] = {0};                                 \
        NAME(add)(sum, x, w, window, steps, channels, rows, vectors, masked);                \
        NAME(store_rows)(out, target, bias, sum, columns, channels, rows, vectors);          \
    }

struct NAME(blocks) {
    int rows[MOST_VECTORS];
    void (*sum[2][MOST_VECTORS])(BLOCK(REAL));
};

/* Blocks of 1 to 4 vectors, with their rows, inside and at a border; then the table of them. */
#undef BLOCKS
#undef BLOCKS_WITHIN
#define BLOCKS_WITHIN(name, add, channels, rows_1, rows_2, rows_3, rows_4)                   \
    BLOCK_OF(name, add, channels, rows_1, 1, 0)                                              \
    BLOCK_OF(name, add, channels, rows_2, 2, 0)                                              \
    BLOCK_OF(name, add, channels, rows_3, 3, 0)                                              \
    BLOCK_OF(name, add, channels, rows_4, 4, 0)
#if HAS_AVX2
#define BLOCKS(name, add, channels, rows_1, rows_2, rows_3, rows_4)                          \
    BLOCKS_WITHIN(name, add, channels, rows_1, rows_2, rows_3, rows_4)                       \
    BLOCK_OF(name, add, channels, rows_1, 1, 1)                                              \
    BLOCK_OF(name, add, channels, rows_2, 2, 1)                                              \
    BLOCK_OF(name, add, channels, rows_3, 3, 1)                                              \
    BLOCK_OF(name, add, channels, rows_4, 4, 1)                                              \
    static const struct NAME(blocks) NAME(name) = {                                                 \
        {rows_1, rows_2, rows_3, rows_4},                                                    \
        {{NAME(name##_1_0), NAME(name##_2_0), NAME(name##_3_0), NAME(name##_4_0)},           \
         {NAME(name##_1_1), NAME(name##_2_1), NAME(name##_3_1), NAME(name##_4_1)}},          \
    };
#else
#define BLOCKS(name, add, channels, rows_1, rows_2, rows_3, rows_4)                          \
    BLOCKS_WITHIN(name, add, channels, rows_1, rows_2, rows_3, rows_4)                       \
    static const struct NAME(blocks) NAME(name) = {                                                 \
        {rows_1, rows_2, rows_3, rows_4},                                                    \
        {{NAME(name##_1_0), NAME(name##_2_0), NAME(name##_3_0), NAME(name##_4_0)}},          \
    };
#endif

/* 24 sums of 32 registers, or 12 of 16. */
#if HAS_AVX512
BLOCKS(apart_1, add_apart, 1, 7, 7, 6, 4)
BLOCKS(apart_2, add_apart, 2, 6, 6, 4, 3)
BLOCKS(apart_3, add_apart, 3, 4, 4, 2, 2)
BLOCKS(apart_4, add_apart, 4, 4, 3, 2, 1)
BLOCKS(shared_3, add_shared, 1, 3, 3, 3, 3)
BLOCKS(shared_5, add_shared, 1, 5, 5, 4, 4)
BLOCKS(shared_7, add_shared, 1, 7, 7, 6, 6)
BLOCKS(shared_3x3, add_3x3, 1, 7, 7, 4, 4)
#elif HAS_AVX2
BLOCKS(apart_1, add_apart, 1, 7, 6, 4, 3)
BLOCKS(apart_2, add_apart, 2, 6, 3, 2, 1)
BLOCKS(apart_3, add_apart, 3, 4, 2, 1, 1)
BLOCKS(apart_4, add_apart, 4, 3, 1, 1, 1)
BLOCKS(shared_3, add_shared, 1, 3, 3, 3, 3)
BLOCKS(shared_5, add_shared, 1, 5, 5, 4, 3)
BLOCKS(shared_7, add_shared, 1, 7, 6, 4, 3)
BLOCKS(shared_3x3, add_3x3, 1, 6, 6, 3, 3)
#else
BLOCKS(apart_1, add_apart, 1, 6, 3, 2, 1)
BLOCKS(apart_2, add_apart, 2, 3, 1, 1, 1)
BLOCKS(apart_3, add_apart, 3, 2, 1, 1, 1)
BLOCKS(apart_4, add_apart, 4, 1, 1, 1, 1)
#endif
BLOCKS(single_1, add_apart, 1, 1, 1, 1, 1)
BLOCKS(single_2, add_apart, 2, 1, 1, 1, 1)
BLOCKS(single_3, add_apart, 3, 1, 1, 1, 1)
BLOCKS(single_4, add_apart, 4, 1, 1, 1, 1)

/* The blocks for `channels` channels of `rows` output rows. */
INLINE const struct NAME(blocks) *NAME(blocks_for)(const Window *window, int64_t channels,
                                                   int64_t rows, int64_t vectors)
{
#define FIT(name)                                  \
    if (rows >= NAME(name).rows[vectors - 1])      \
    return &NAME(name)
#if HAS_AVX2
    if (channels == 1 && window->stride == window->dilation_h) {
        if (window->t == 1 && window->r == 3 && window->steps == 3)
            FIT(shared_3x3);
        if (window->r >= 7)
            FIT(shared_7);
        if (window->r >= 5)
            FIT(shared_5);
        if (window->r >= 3)
            FIT(shared_3);
    }
#endif
    switch (channels) {
    case 1:
        FIT(apart_1);
        return &NAME(single_1);
    case 2:
        FIT(apart_2);
        return &NAME(single_2);
    case 3:
        FIT(apart_3);
        return &NAME(single_3);
    default:
        FIT(apart_4);
        return &NAME(single_4);
    }
#undef FIT
}
