/* The loops of the direct row: sums of a stretch of an output row, read from the input in place.
 *
 * Up to 12 vectors of sums stay in registers over the whole reduction, 3 each for 4 out-channels,
 * so that each load of x serves all channels and each weight all vectors. Included once per dtype
 * and instruction set (instruction_sets.h).
 */
#ifndef DIRECT_CHANNELS
#define DIRECT_CHANNELS 4
#define MOST_VECTORS 8

/* The taps of a reduction, t x r x s x c of them, and what a step along each moves in x and w. */
typedef struct {
    int64_t t, r, s, c;
    int64_t x_t, x_r, x_s, x_c;
    int64_t w_t, w_r, w_s, w_c;
} Taps;

/* Runs what follows for every tap, with its place in x and w as x_at and w_at. */
#define FOR_EACH_TAP(taps)                                                                   \
    for (int64_t t = 0; t < (taps)->t; t++)                                                  \
        for (int64_t r = 0; r < (taps)->r; r++)                                              \
            for (int64_t s = 0; s < (taps)->s; s++)                                          \
                for (int64_t c = 0,                                                          \
                             x_at = t * (taps)->x_t + r * (taps)->x_r + s * (taps)->x_s,     \
                             w_at = t * (taps)->w_t + r * (taps)->w_r + s * (taps)->w_s;     \
                     c < (taps)->c; c++, x_at += (taps)->x_c, w_at += (taps)->w_c)

#define sum_row(sums, pitch, columns, x, stride, w, stride_k, channels, taps) \
    SELECT(sum_row, sums)(sums, pitch, columns, x, stride, w, stride_k, channels, taps)
#define store_row(out, stride, sums, columns, bias, activation) \
    SELECT(store_row, sums)(out, stride, sums, columns, bias, activation)
#endif

/* sums[k * pitch + q] for `channels` channels k and `vectors` vectors of columns q, or, with
 * stride 0 and lanes 1, for one column alone. */
INLINE void NAME(sum_vectors)(REAL *sums, int64_t pitch, const REAL *x, int64_t stride,
                              const REAL *w, int64_t stride_k, const Taps *taps,
                              const int channels, const int vectors, const int lanes)
{
    VECTOR sum[DIRECT_CHANNELS][MOST_VECTORS] = {0};
    FOR_EACH_TAP(taps) {
        VECTOR value[MOST_VECTORS];
        for (int v = 0; v < vectors; v++)
            value[v] = NAME(load_strided)(x + x_at + v * LANES * stride, stride);
        for (int k = 0; k < channels; k++) {
            const VECTOR factor = NAME(splat)(w[w_at + k * stride_k]);
            for (int v = 0; v < vectors; v++)
                sum[k][v] = NAME(multiply_add)(factor, value[v], sum[k][v]);
        }
    }
    for (int k = 0; k < channels; k++)
        for (int v = 0; v < vectors; v++)
            NAME(store_strided)(sums + k * pitch + v * LANES, 1, sum[k][v], lanes);
}

/* The same for any number of columns. What is left at the end of the row is summed by vectors that
 * begin early enough to end with it: the columns summed twice come out the same. */
INLINE void NAME(sum_columns)(REAL *sums, int64_t pitch, int64_t columns, const REAL *x,
                              int64_t stride, const REAL *w, int64_t stride_k, const Taps *taps,
                              const int channels, const int vectors)
{
    const int64_t block = vectors * LANES;
    int64_t q = 0;
    for (; columns >= block && columns - q > LANES; q += block) {
        q = q + block <= columns ? q : columns - block;
        NAME(sum_vectors)(sums + q, pitch, x + q * stride, stride, w, stride_k, taps, channels,
                          vectors, LANES);
    }
    for (; columns >= LANES && q < columns; q += LANES) {
        q = q + LANES <= columns ? q : columns - LANES;
        NAME(sum_vectors)(sums + q, pitch, x + q * stride, stride, w, stride_k, taps, channels, 1,
                          LANES);
    }
    for (; q < columns; q++)
        NAME(sum_vectors)(sums + q, pitch, x + q * stride, 0, w, stride_k, taps, channels, 1, 1);
}

/* The same for stride 1, 2, or any, each a constant to the loops. */
INLINE void NAME(sum_channels)(REAL *sums, int64_t pitch, int64_t columns, const REAL *x,
                               int64_t stride, const REAL *w, int64_t stride_k, const Taps *taps,
                               const int channels, const int vectors, const int vectors_apart)
{
    if (stride == 1)
        NAME(sum_columns)(sums, pitch, columns, x, 1, w, stride_k, taps, channels, vectors);
    else if (stride == 2)
        NAME(sum_columns)(sums, pitch, columns, x, 2, w, stride_k, taps, channels, vectors_apart);
    else
        NAME(sum_columns)(sums, pitch, columns, x, stride, w, stride_k, taps, channels, 2);
}

/* The same for 1 to DIRECT_CHANNELS channels side by side. */
LOOP void NAME(sum_row)(REAL *sums, int64_t pitch, int64_t columns, const REAL *x, int64_t stride,
                        const REAL *w, int64_t stride_k, int64_t channels, Taps taps)
{
    /* With one channel the innermost loop would run once: loops of one step go outside. */
    for (int i = 0; i < 3 && taps.c == 1; i++)
        taps = (Taps){1, taps.t, taps.r, taps.s, 0, taps.x_t, taps.x_r, taps.x_s,
                      0, taps.w_t, taps.w_r, taps.w_s};
#define CHANNELS(count, vectors, vectors_apart)                                              \
    case count:                                                                              \
        NAME(sum_channels)(sums, pitch, columns, x, stride, w, stride_k, &taps, count,       \
                           vectors, vectors_apart);                                          \
        break
    switch (channels) {
        CHANNELS(1, MOST_VECTORS, MOST_VECTORS);
        CHANNELS(2, 4, 4);
        CHANNELS(3, 3, 2);
        CHANNELS(4, 3, 2);
    }
#undef CHANNELS
}

/* Write a row of sums with bias (NULL: none) and activation, `stride` apart. */
LOOP void NAME(store_row)(REAL *out, int64_t stride, const REAL *sums, int64_t columns,
                          const REAL *bias, int64_t activation)
{
    /* y + -0.0 is y, whatever y is: no bias is the bias -0.0. */
    const VECTOR added = NAME(splat)(bias ? *bias : (REAL)-0.0);
    for (int64_t q = 0; q < columns; q += LANES) {
        const int64_t lanes = columns - q < LANES ? columns - q : LANES;
        VECTOR y = {0};
        if (lanes == LANES)
            y = NAME(load)(sums + q);
        else
            for (int64_t lane = 0; lane < lanes; lane++)
                y[lane] = sums[q + lane];
        y = NAME(activate)(y + added, activation);
        NAME(store_strided)(out + q * stride, stride, y, lanes);
    }
}
