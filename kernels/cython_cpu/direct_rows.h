/* The loops of the direct row for one out-channel of tall kernels: a block's sums, output rows x
 * vectors of columns, stay in registers over all taps, and a row of the input is loaded once for all
 * output rows of the block. Included by direct.h.
 */
#ifndef MOST_ROWS
#define MOST_ROWS 6
#define MOST_VECTORS 4
#define SHARED_ROWS 3
#define sum_shared(out, target, x, w, bias, window, steps, count, rows, columns) \
    SELECT(sum_shared, out)                                              \
    (out, target, x, w, bias, window, steps, count, rows, columns)
#endif

/* Multiply an input row into the output rows low .. high - 1, which see it with the weights at w,
 * `count` of them, the next output row's before. */
INLINE void NAME(add_row)(VECTOR sum[][MOST_VECTORS], const REAL *x, const REAL *w,
                          const int64_t *steps, int64_t count, const int low, const int high,
                          const int vectors)
{
    for (int64_t step = 0; step < count; step++, w++) {
        VECTOR value[MOST_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            value[v] = NAME(load)(x + steps[step] + v * LANES);
            KEEP_IN_REGISTER(value[v]);
        }
#pragma GCC unroll 6
        for (int p = low; p < high; p++) {
            const VECTOR factor = NAME(splat)(w[-p * count]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[p][v] = NAME(multiply_add)(factor, value[v], sum[p][v]);
        }
    }
}

/* All taps of `rows` output rows, an input row apart from each other and at most as many as the
 * kernel has; weights [t][r][step]. */
INLINE void NAME(add_shared)(VECTOR sum[][MOST_VECTORS], const REAL *x, const REAL *w,
                             const Window *window, const int64_t *steps, int64_t count,
                             const int rows, const int vectors)
{
    for (int64_t t = 0; t < window->t; t++) {
        const REAL *from = x + t * window->x_t, *factors = w + t * window->r * count;
#pragma GCC unroll 6
        for (int i = 1; i < rows; i++, from += window->x_r, factors += count)
            NAME(add_row)(sum, from, factors, steps, count, 0, i, vectors);
        for (int64_t i = rows; i <= window->r; i++, from += window->x_r, factors += count)
            NAME(add_row)(sum, from, factors, steps, count, 0, rows, vectors);
#pragma GCC unroll 6
        for (int i = 1; i < rows; i++, from += window->x_r, factors += count)
            NAME(add_row)(sum, from, factors, steps, count, i, rows, vectors);
    }
}

/* Blocks of `vectors` vectors from column `q` on, as long as there are as many (of one vector, until
 * the end); returns where they end. */
INLINE int64_t NAME(sum_bands)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                               const REAL *bias, const Window *window, const int64_t *steps,
                               int64_t count, int64_t q, int64_t columns, const int rows,
                               const int vectors)
{
    const VECTOR added = NAME(splat)(bias ? *bias : (REAL)-0.0);
    for (; vectors == 1 ? q < columns : q + vectors * LANES <= columns; q += vectors * LANES) {
        VECTOR sum[MOST_ROWS][MOST_VECTORS];
#pragma GCC unroll 6
        for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[p][v] = (VECTOR){0};
        NAME(add_shared)(sum, x + q, w, window, steps, count, rows, vectors);
        REAL sums[MOST_ROWS * MOST_VECTORS * LANES];
#pragma GCC unroll 6
        for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                NAME(store)(sums + (p * vectors + v) * LANES, sum[p][v]);
        const int64_t left = columns - q < vectors * LANES ? columns - q : vectors * LANES;
        for (int64_t p = 0; p < rows; p++)
            NAME(store_row)(out + p * target->p + q * target->q, target->q,
                            sums + p * vectors * LANES, added, left, target->activation);
    }
    return q;
}

/* Bands of `together` rows, `vectors` vectors wide, and then one. */
#undef SUM_SHARED
#define SUM_SHARED(name, together, vectors)                                                    \
    LOOP void NAME(name)(REAL *out, const Target *target, const REAL *x, const REAL *w,        \
                         const REAL *bias, const Window *window, const int64_t *steps,         \
                         int64_t count, int64_t rows, int64_t columns)                         \
    {                                                                                          \
        for (int64_t first = 0; first < rows; first += together) {                             \
            /* The last band has as many rows as all: some come out twice, the same. */        \
            const int64_t p = first + together > rows ? rows - together : first;               \
            REAL *to = out + p * target->p;                                                    \
            const REAL *from = x + p * window->x_p;                                            \
            const int64_t q = NAME(sum_bands)(to, target, from, w, bias, window, steps, count, \
                                              0, columns, together, vectors);                  \
            NAME(sum_bands)(to, target, from, w, bias, window, steps, count, q, columns,       \
                            together, 1);                                                      \
        }                                                                                      \
    }
#if HAS_AVX512
SUM_SHARED(sum_shared_3, 3, 4)
SUM_SHARED(sum_shared_5, 5, 4)
SUM_SHARED(sum_shared_6, 6, 4)
#elif HAS_AVX2
SUM_SHARED(sum_shared_3, 3, 3)
SUM_SHARED(sum_shared_5, 5, 2)
SUM_SHARED(sum_shared_6, 6, 2)
#else
SUM_SHARED(sum_shared_3, 3, 1)
#endif

/* `rows` output rows of `columns` columns; both the rows and the kernel's are SHARED_ROWS at least. */
LOOP void NAME(sum_shared)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                           const REAL *bias, const Window *window, const int64_t *steps,
                           int64_t count, int64_t rows, int64_t columns)
{
    void (*sum)(REAL *, const Target *, const REAL *, const REAL *, const REAL *, const Window *,
                const int64_t *, int64_t, int64_t, int64_t) = NAME(sum_shared_3);
#if HAS_AVX2
    if (rows > 5 && window->r > 5)
        sum = NAME(sum_shared_6);
    else if (rows > 4 && window->r > 4)
        sum = NAME(sum_shared_5);
#endif
    sum(out, target, x, w, bias, window, steps, count, rows, columns);
}
