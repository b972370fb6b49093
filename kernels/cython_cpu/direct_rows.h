/* Write `count` rows of `vectors` vectors, the last one up to `columns`. */
INLINE void NAME(store_rows)(REAL *out, const Target *target, const REAL *bias,
                             VECTOR sum[][MOST_ROWS][MOST_VECTORS], int64_t count,
                             int64_t columns, const int channels, const int rows,
                             const int vectors)
{
#pragma GCC unroll 4
    for (int k = 0; k < channels; k++) {
        /* y + -0.0 is y, whatever y is: no bias is the bias -0.0. */
        const VECTOR added = NAME(splat)(bias ? bias[k] : (REAL)-0.0);
#pragma GCC unroll 7
        for (int p = 0; p < rows; p++) {
            REAL *to = out + k * target->k + p * target->p;
            if (p == count)
                break;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                const int64_t lanes = v < vectors - 1 ? LANES : columns - v * LANES;
                const VECTOR y = NAME(activate)(sum[k][p][v] + added, target->activation);
                if (lanes >= LANES && target->q == 1)
                    NAME(store)(to + v * LANES, y);
                else if (target->q == 1)
                    NAME(store_first)(to + v * LANES, y, lanes);
                else
                    NAME(store_strided)(to + v * LANES * target->q, target->q, y,
                                        lanes < LANES ? lanes : LANES);
            }
        }
    }
}

/* The same for 3 x 3 taps of one channel: everything unrolled, the weights in registers. */
INLINE void NAME(add_rows_3x3)(VECTOR sum[][MOST_ROWS][MOST_VECTORS], const REAL *x,
                               const REAL *w, const Window *window, const Step *steps,
                               const int rows, const int vectors, const int masked)
{
    VECTOR factor[9];
    EDGE left[3], right[3];
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; tap++)
        factor[tap] = NAME(splat)(w[tap]);
    if (masked)
#pragma GCC unroll 3
        for (int s = 0; s < 3; s++) {
            const int64_t at = window->at_w + steps[s].column, last = (vectors - 1) * LANES;
            left[s] = NAME(edge)(-at, window->w - at);
            right[s] = NAME(edge)(-at - last, window->w - at - last);
        }
#pragma GCC unroll 9
    for (int i = 0; i < rows + 2; i++, x += window->x_r) {
        const int in_h = (uint64_t)(window->at_h + i * window->dilation_h) < (uint64_t)window->h;
        const EDGE row = (EDGE){0} - in_h;
#pragma GCC unroll 3
        for (int s = 0; s < 3; s++) {
            const REAL *from = x + steps[s].x;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                VECTOR value;
                if (masked && v == 0)
                    value = NAME(load_edge)(from, left[s] & row);
                else if (masked && v == vectors - 1)
                    value = NAME(load_edge)(from + v * LANES, right[s] & row);
                else if (masked)
                    value = NAME(load_edge)(from + v * LANES, row);
                else
                    value = NAME(load)(from + v * LANES);
                KEEP_IN_REGISTER(value);
#pragma GCC unroll 3
                for (int p = i < 2 ? 0 : i - 2; p <= (i < rows ? i : rows - 1); p++)
                    sum[0][p][v] =
                        NAME(multiply_add)(factor[(i - p) * 3 + s], value, sum[0][p][v]);
            }
        }
    }
}

#ifndef BLOCK
#define BLOCK(REAL)                                                                          \
    REAL *out, const Target *target, const REAL *x, const REAL *w, const REAL *bias,         \
        const Window *window, const Step *steps, int64_t count, int64_t columns

/* The output rows low .. high-1 of at most 1, 2, 3, 4, 6 or 7 that an input row can be for. */
#define ADD(low, high)                                                                       \
    case (low) * 8 + (high):                                                                 \
        NAME(add_row)(sum, x_at, w_at, w_row, steps, window->steps, window->at_w, size,      \
                      CHANNELS, low, high, VECTORS, MASKED);                                 \
        break;
#define ADD_1 ADD(0, 1)
#define ADD_2 ADD_1 ADD(0, 2) ADD(1, 2)
#define ADD_3 ADD_2 ADD(0, 3) ADD(1, 3) ADD(2, 3)
#define ADD_4 ADD_3 ADD(0, 4) ADD(1, 4) ADD(2, 4) ADD(3, 4)
#define ADD_6                                                                                \
    ADD_4 ADD(0, 5) ADD(1, 5) ADD(2, 5) ADD(3, 5) ADD(4, 5)                                  \
    ADD(0, 6) ADD(1, 6) ADD(2, 6) ADD(3, 6) ADD(4, 6) ADD(5, 6)
#define ADD_7                                                                                \
    ADD_6 ADD(0, 7) ADD(1, 7) ADD(2, 7) ADD(3, 7) ADD(4, 7) ADD(5, 7) ADD(6, 7)
#endif

/* A block's function sums all taps of `count` output rows of VECTORS vectors, the last one up to
 * `columns`. MASKED: at a border. */
#undef SUM_BLOCK
#define SUM_BLOCK(name, channels, vectors, rows, masked)                                     \
    LOOP void NAME(name)(BLOCK(REAL))                                                        \
    {                                                                                        \
        enum { CHANNELS = channels, VECTORS = vectors, MASKED = masked };                    \
        VECTOR sum[CHANNELS][MOST_ROWS][MOST_VECTORS] = {0};                                 \
        const int64_t w_line = window->steps * CHANNELS, w_row = window->stride * w_line;    \
        const int64_t last = (count - 1) * window->stride + window->r;                       \
        for (int64_t t = 0; t < window->t; t++) {                                            \
            const REAL *x_at = x + t * window->x_t, *w_at = w + t * window->r * w_line;      \
            const int64_t d = window->at_d + t * window->dilation_d;                         \
            int64_t low = 0, high = 0, h = window->at_h;                                     \
            for (int64_t i = 0; i < last; i++) {                                             \
                const int inside = (uint64_t)d < (uint64_t)window->d                         \
                                   && (uint64_t)h < (uint64_t)window->h;                     \
                const int64_t size = inside ? window->w : 0;                                 \
                high += high < count && high * window->stride <= i;                          \
                low += i - low * window->stride >= window->r;                                \
                switch (low * 8 + high) {                                                    \
                    ADD_##rows                                                               \
                }                                                                            \
                x_at += window->x_r;                                                         \
                w_at += w_line;                                                              \
                h += window->dilation_h;                                                     \
            }                                                                                \
        }                                                                                    \
        NAME(store_rows)(out, target, bias, sum, count, columns, CHANNELS, rows, VECTORS);   \
    }

/* The same for 3 x 3 taps of one channel; always all rows. */
#undef SUM_3X3
#define SUM_3X3(name, vectors, rows, masked)                                                 \
    LOOP void NAME(name)(BLOCK(REAL))                                                        \
    {                                                                                        \
        VECTOR sum[1][MOST_ROWS][MOST_VECTORS] = {0};                                        \
        NAME(add_rows_3x3)(sum, x, w, window, steps, rows, vectors, masked);                 \
        NAME(store_rows)(out, target, bias, sum, rows, columns, 1, rows, vectors);           \
    }

#if HAS_AVX512
SUM_BLOCK(sum_1_1, 1, 1, 7, 0)
SUM_BLOCK(sum_1_2, 1, 2, 7, 0)
SUM_BLOCK(sum_1_3, 1, 3, 7, 0)
SUM_BLOCK(sum_1_4, 1, 4, 6, 0)
SUM_BLOCK(sum_2_1, 2, 1, 4, 0)
SUM_BLOCK(sum_2_2, 2, 2, 4, 0)
SUM_BLOCK(sum_2_3, 2, 3, 4, 0)
SUM_BLOCK(sum_2_4, 2, 4, 3, 0)
SUM_BLOCK(sum_3_1, 3, 1, 4, 0)
SUM_BLOCK(sum_3_2, 3, 2, 4, 0)
SUM_BLOCK(sum_3_3, 3, 3, 2, 0)
SUM_BLOCK(sum_3_4, 3, 4, 2, 0)
SUM_BLOCK(sum_4_1, 4, 1, 4, 0)
SUM_BLOCK(sum_4_2, 4, 2, 3, 0)
SUM_BLOCK(sum_4_3, 4, 3, 2, 0)
SUM_BLOCK(sum_edge_1, 1, 1, 7, 1)
SUM_BLOCK(sum_edge_2, 1, 2, 7, 1)
SUM_BLOCK(sum_edge_3, 1, 3, 7, 1)
SUM_BLOCK(sum_edge_4, 1, 4, 6, 1)
SUM_3X3(sum_narrow_3x3_1, 1, 7, 0)
SUM_3X3(sum_narrow_3x3_edge_1, 1, 7, 1)
SUM_3X3(sum_narrow_3x3_2, 2, 7, 0)
SUM_3X3(sum_narrow_3x3_edge_2, 2, 7, 1)
SUM_3X3(sum_wide_3x3_1, 1, 4, 0)
SUM_3X3(sum_wide_3x3_edge_1, 1, 4, 1)
SUM_3X3(sum_wide_3x3_2, 2, 4, 0)
SUM_3X3(sum_wide_3x3_edge_2, 2, 4, 1)
SUM_3X3(sum_wide_3x3_3, 3, 4, 0)
SUM_3X3(sum_wide_3x3_edge_3, 3, 4, 1)
SUM_3X3(sum_wide_3x3_4, 4, 4, 0)
SUM_3X3(sum_wide_3x3_edge_4, 4, 4, 1)
#else
SUM_BLOCK(sum_1_1, 1, 1, 7, 0)
SUM_BLOCK(sum_1_2, 1, 2, 6, 0)
SUM_BLOCK(sum_1_3, 1, 3, 4, 0)
SUM_BLOCK(sum_1_4, 1, 4, 3, 0)
SUM_BLOCK(sum_2_1, 2, 1, 4, 0)
SUM_BLOCK(sum_2_2, 2, 2, 3, 0)
SUM_BLOCK(sum_2_3, 2, 3, 2, 0)
SUM_BLOCK(sum_2_4, 2, 4, 1, 0)
SUM_BLOCK(sum_3_1, 3, 1, 4, 0)
SUM_BLOCK(sum_3_2, 3, 2, 2, 0)
SUM_BLOCK(sum_3_3, 3, 3, 1, 0)
SUM_BLOCK(sum_3_4, 3, 4, 1, 0)
SUM_BLOCK(sum_4_1, 4, 1, 3, 0)
SUM_BLOCK(sum_4_2, 4, 2, 1, 0)
SUM_BLOCK(sum_4_3, 4, 3, 1, 0)
SUM_BLOCK(sum_edge_1, 1, 1, 7, 1)
SUM_BLOCK(sum_edge_2, 1, 2, 6, 1)
SUM_BLOCK(sum_edge_3, 1, 3, 4, 1)
SUM_BLOCK(sum_edge_4, 1, 4, 3, 1)
SUM_3X3(sum_narrow_3x3_1, 1, 6, 0)
SUM_3X3(sum_narrow_3x3_edge_1, 1, 6, 1)
SUM_3X3(sum_narrow_3x3_2, 2, 6, 0)
SUM_3X3(sum_narrow_3x3_edge_2, 2, 6, 1)
SUM_3X3(sum_wide_3x3_1, 1, 3, 0)
SUM_3X3(sum_wide_3x3_edge_1, 1, 3, 1)
SUM_3X3(sum_wide_3x3_2, 2, 3, 0)
SUM_3X3(sum_wide_3x3_edge_2, 2, 3, 1)
SUM_3X3(sum_wide_3x3_3, 3, 3, 0)
SUM_3X3(sum_wide_3x3_edge_3, 3, 3, 1)
SUM_3X3(sum_wide_3x3_4, 4, 3, 0)
SUM_3X3(sum_wide_3x3_edge_4, 4, 3, 1)
#endif

/* Rows that are summed together, by channels and vectors: 24 sums of 32 registers, 12 of 16; and
 * of 3 x 3 taps, by the vectors of a block. */
#undef ROWS
#undef ROWS_3X3
#if HAS_AVX512
#define ROWS {{7, 7, 7, 6}, {4, 4, 4, 3}, {4, 4, 2, 2}, {4, 3, 2}}
#define ROWS_3X3 {7, 7, 4, 4}
#else
#define ROWS {{7, 6, 4, 3}, {4, 3, 2, 1}, {4, 2, 1, 1}, {3, 1, 1}}
#define ROWS_3X3 {6, 6, 3, 3}
#endif

static void (*const NAME(blocks)[DIRECT_CHANNELS][MOST_VECTORS])(BLOCK(REAL)) = {
    {NAME(sum_1_1), NAME(sum_1_2), NAME(sum_1_3), NAME(sum_1_4)},
    {NAME(sum_2_1), NAME(sum_2_2), NAME(sum_2_3), NAME(sum_2_4)},
    {NAME(sum_3_1), NAME(sum_3_2), NAME(sum_3_3), NAME(sum_3_4)},
    {NAME(sum_4_1), NAME(sum_4_2), NAME(sum_4_3)},
};
static void (*const NAME(blocks_at_edge)[MOST_VECTORS])(BLOCK(REAL)) = {
    NAME(sum_edge_1), NAME(sum_edge_2), NAME(sum_edge_3), NAME(sum_edge_4),
};
static void (*const NAME(blocks_3x3)[2][2][MOST_VECTORS])(BLOCK(REAL)) = {
    {{NAME(sum_narrow_3x3_1), NAME(sum_narrow_3x3_2)},
     {NAME(sum_narrow_3x3_edge_1), NAME(sum_narrow_3x3_edge_2)}},
    {{NAME(sum_wide_3x3_1), NAME(sum_wide_3x3_2), NAME(sum_wide_3x3_3), NAME(sum_wide_3x3_4)},
     {NAME(sum_wide_3x3_edge_1), NAME(sum_wide_3x3_edge_2), NAME(sum_wide_3x3_edge_3),
      NAME(sum_wide_3x3_edge_4)}},
};
static const int NAME(rows_of)[DIRECT_CHANNELS][MOST_VECTORS] = ROWS;
static const int NAME(rows_of_3x3)[MOST_VECTORS] = ROWS_3X3;
