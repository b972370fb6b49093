/* The GEMM of the im2col row: vectors run over pixels, weights are broadcast.
 *
 * Columns hold the pixels of a strip side by side, a row of them per step of the reduction. A block
 * of ROWS out-channels x 3 vectors of pixels stays in registers over all steps, and each step costs
 * 3 loads, ROWS broadcasts and 3 * ROWS multiply-adds. Channels-first planes are such columns as
 * they lie, and so are their outputs: nothing is transposed. Pixels that don't fill a vector are
 * broadcast instead, to vectors of out-channels: no lane computes nothing.
 * Both read the weight panels [step][WIDTH] and add in the order of the steps. Included once per
 * dtype and instruction set (instruction_sets.h).
 */
#ifndef MOST_VECTORS
#define MOST_VECTORS 3

/* What happens to sums before and after the steps of a block: they begin at 0 or go on from memory,
 * and are left there or finished, with bias and activation. */
typedef struct {
    int resume, finish;
    int activation;
} Stage;

#define lanes_of(pointer) SELECT(lanes_of, pointer)()
#define multiply_pixels(to, to_stride, sums, sums_stride, columns, step, depth, w, bias, stage, \
                        channels, vectors)                                                      \
    SELECT(multiply_pixels, to)(to, to_stride, sums, sums_stride, columns, step, depth, w,      \
                                bias, stage, channels, vectors)
#define multiply_rest(sums, columns, step, depth, w, apart, panels, pixels, resume) \
    SELECT(multiply_rest, sums)(sums, columns, step, depth, w, apart, panels, pixels, resume)
#define store_rest(sums, pixels, channels, bias, activation, out, pixel, stride_k) \
    SELECT(store_rest, sums)(sums, pixels, channels, bias, activation, out, pixel, stride_k)
#define copy_rows(to, to_stride, to_step, from, stride, step, rows, count) \
    SELECT(copy_rows, to)(to, to_stride, to_step, from, stride, step, rows, count)
#define clear_rows(to, to_stride, rows, count) \
    SELECT(clear_rows, to)(to, to_stride, rows, count)
#define prefetch_rows(from, stride, rows, count) \
    SELECT(prefetch_rows, from)(from, stride, rows, count)
#endif

#undef WIDTH
#undef ROWS
#undef REST
#define WIDTH (64 / (int)sizeof(REAL))
/* 24 of 32 registers hold sums, or 12 of 16. */
#define ROWS (HAS_AVX512 ? 8 : 4)
/* Pixels that are broadcast side by side: at most half a vector, so that 2 vectors of out-channels
 * beside them need no more registers than that. */
#define REST (LANES / 2)

LOOP int64_t NAME(lanes_of)(void)
{
    return LANES;
}

/* ROWS out-channels x `vectors` vectors of pixels: to[j][m] = sum of columns[i][m] * w[i][j] over
 * the steps i. Only the first `channels` of them are stored. */
INLINE void NAME(multiply_block)(REAL *to, int64_t to_stride, const REAL *sums,
                                 int64_t sums_stride, const REAL *columns, int64_t step,
                                 int64_t depth, const REAL *w, const REAL *bias, Stage stage,
                                 int64_t channels, const int vectors)
{
    VECTOR sum[ROWS][MOST_VECTORS];
    /* GCC keeps the sums in registers only if every loop over them is unrolled. */
#pragma GCC unroll 8
    for (int j = 0; j < ROWS; j++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            sum[j][v] = stage.resume ? NAME(load)(sums + j * sums_stride + v * LANES)
                                     : (VECTOR){0};
    /* The lines of the result come from memory meanwhile: 1.3 times as fast where it leaves the
     * caches (64 -> 256 channels, 1x1, 56 x 56, float64). */
    for (int j = 0; j < ROWS; j++)
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(to + j * to_stride + v * LANES, 1);

#pragma GCC unroll 1
    for (int64_t i = 0; i < depth; i++, columns += step, w += WIDTH) {
        VECTOR x[MOST_VECTORS];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            x[v] = NAME(load)(columns + v * LANES);
#pragma GCC unroll 8
        for (int j = 0; j < ROWS; j++) {
            const VECTOR weight = NAME(splat)(w[j]);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++)
                sum[j][v] = NAME(multiply_add)(x[v], weight, sum[j][v]);
        }
    }

#pragma GCC unroll 8
    for (int j = 0; j < ROWS; j++) {
        if (j >= channels)
            break;
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            VECTOR y = sum[j][v];
            if (stage.finish)
                y = NAME(activate)(bias ? y + NAME(splat)(bias[j]) : y, stage.activation);
            NAME(store)(to + j * to_stride + v * LANES, y);
        }
    }
}

/* The same for `channels` of a panel and any number of vectors; `bias` may be NULL. */
LOOP void NAME(multiply_pixels)(REAL *to, int64_t to_stride, const REAL *sums,
                                int64_t sums_stride, const REAL *columns, int64_t step,
                                int64_t depth, const REAL *w, const REAL *bias, Stage stage,
                                int64_t channels, int64_t vectors)
{
    for (int64_t v = 0; v < vectors; v += MOST_VECTORS)
        for (int64_t k = 0; k < channels; k += ROWS) {
#define BLOCK_OF(count)                                                                        \
    NAME(multiply_block)(to + k * to_stride + v * LANES, to_stride,                            \
                         sums + k * sums_stride + v * LANES, sums_stride, columns + v * LANES, \
                         step, depth, w + k, bias ? bias + k : bias, stage, channels - k, count)
            if (vectors - v >= 3)
                BLOCK_OF(3);
            else if (vectors - v == 2)
                BLOCK_OF(2);
            else
                BLOCK_OF(1);
#undef BLOCK_OF
        }
}

/* `pixels` broadcast pixels x `vectors` vectors of out-channels, which are `apart` in the weights
 * and `sums_apart` in sums[m][:]. */
INLINE void NAME(multiply_few)(REAL *sums, int64_t sums_apart, const REAL *columns, int64_t step,
                               int64_t depth, const REAL *w, int64_t apart, int resume,
                               const int pixels, const int vectors)
{
    VECTOR sum[REST][2];
#pragma GCC unroll 8
    for (int m = 0; m < pixels; m++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[m][v] = resume ? NAME(load)(sums + m * WIDTH + v * sums_apart) : (VECTOR){0};
#pragma GCC unroll 1
    for (int64_t i = 0; i < depth; i++, columns += step, w += WIDTH) {
        VECTOR weight[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            weight[v] = NAME(load)(w + v * apart);
#pragma GCC unroll 8
        for (int m = 0; m < pixels; m++) {
            const VECTOR x = NAME(splat)(columns[m]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[m][v] = NAME(multiply_add)(x, weight[v], sum[m][v]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < pixels; m++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            NAME(store)(sums + m * WIDTH + v * sums_apart, sum[m][v]);
}

/* The same for one or two panels, `apart` in memory, and fewer pixels than lanes:
 * sums[panel][m][:] (+)= sum of columns[i][m] * w[panel][i][:]. */
LOOP void NAME(multiply_rest)(REAL *sums, const REAL *columns, int64_t step, int64_t depth,
                              const REAL *w, int64_t apart, int64_t panels, int64_t pixels,
                              int resume)
{
    /* Two vectors beside each other: of one panel, or of two. */
    const int64_t together = LANES == WIDTH ? panels : 1;
    const int64_t next = LANES == WIDTH ? apart : LANES;
    const int64_t sums_next = LANES == WIDTH ? pixels * WIDTH : LANES;
    const int pair = LANES != WIDTH || panels == 2;
    for (int64_t panel = 0; panel < panels; panel += together)
        for (int64_t m = 0; m < pixels; m += REST) {
            REAL *to = sums + (panel * pixels + m) * WIDTH;
            const REAL *from = columns + m, *weights = w + panel * apart;
#define FEW(count)                                                                              \
    case count:                                                                                 \
        if (count <= REST && pair)                                                              \
            NAME(multiply_few)(to, sums_next, from, step, depth, weights, next, resume,         \
                               count <= REST ? count : 1, 2);                                   \
        else if (count <= REST && LANES == WIDTH)                                               \
            NAME(multiply_few)(to, sums_next, from, step, depth, weights, next, resume,         \
                               count <= REST ? count : 1, 1);                                   \
        break
            switch (pixels - m < REST ? pixels - m : REST) {
                FEW(1);
                FEW(2);
                FEW(3);
                FEW(4);
                FEW(5);
                FEW(6);
                FEW(7);
                FEW(8);
            }
#undef FEW
        }
}

/* Finish sums[m][:] of a panel and write its first `channels` to out[pixel[m] + k * stride_k];
 * `bias` may be NULL. Overwrites the sums. */
LOOP void NAME(store_rest)(REAL *sums, int64_t pixels, int64_t channels, const REAL *bias,
                           int activation, REAL *out, const int64_t *pixel, int64_t stride_k)
{
    for (int64_t m = 0; m < pixels; m++) {
        REAL *at = sums + m * WIDTH, *to = out + pixel[m];
        for (int64_t k = 0; k < WIDTH; k += LANES) {
            VECTOR y = NAME(load)(at + k);
            if (bias)
                y += NAME(load_first)(bias + k, channels - k < 0       ? 0
                                                : channels - k < LANES ? channels - k
                                                                       : LANES);
            NAME(store)(at + k, NAME(activate)(y, activation));
        }
        if (stride_k == 1 && channels == WIDTH)
            memcpy(to, at, WIDTH * sizeof(REAL));
        else
            for (int64_t k = 0; k < channels; k++)
                to[k * stride_k] = at[k];
    }
}

/* to[m] = from[m * step] for m < count; the step is the constant 1 or 2. The last whole vector
 * overlaps the one before: masked stores are slow on some AVX2 processors. */
INLINE void NAME(copy_row)(REAL *restrict to, const REAL *restrict from, int64_t count,
                           const int step)
{
    if (count >= LANES) {
        for (int64_t m = 0; m + LANES <= count; m += LANES)
            NAME(store)(to + m, NAME(load_strided)(from + m * step, step));
        const int64_t last = count - LANES;
        NAME(store)(to + last, NAME(load_strided)(from + last * step, step));
    } else if (HAS_AVX512 && step == 1)
        NAME(store_first)(to, NAME(load_first)(from, count), count);
    else
        for (int64_t m = 0; m < count; m++)
            to[m] = from[m * step];
}

/* to[i * to_stride + m] = 0 for i < rows, m < count. */
LOOP void NAME(clear_rows)(REAL *to, int64_t to_stride, int64_t rows, int64_t count)
{
    for (int64_t i = 0; i < rows; i++, to += to_stride)
        if (count >= LANES) {
            for (int64_t m = 0; m + LANES <= count; m += LANES)
                NAME(store)(to + m, (VECTOR){0});
            NAME(store)(to + count - LANES, (VECTOR){0});
        } else
            NAME(store_first)(to, (VECTOR){0}, count);
}

/* to[i * to_stride + m * to_step] = from[i * stride + m * step] for i < rows, m < count. */
LOOP void NAME(copy_rows)(REAL *restrict to, int64_t to_stride, int64_t to_step,
                          const REAL *restrict from, int64_t stride, int64_t step, int64_t rows,
                          int64_t count)
{
    if (to_step == 1 && step == 1)
        for (int64_t i = 0; i < rows; i++)
            NAME(copy_row)(to + i * to_stride, from + i * stride, count, 1);
    else if (to_step == 1 && step == 2)
        for (int64_t i = 0; i < rows; i++)
            NAME(copy_row)(to + i * to_stride, from + i * stride, count, 2);
    else
        for (int64_t m = 0; m < count; m++)
            for (int64_t i = 0; i < rows; i++)
                to[i * to_stride + m * to_step] = from[i * stride + m * step];
}

/* Bring from[i * stride + m] for i < rows, m < count into the caches. */
LOOP void NAME(prefetch_rows)(const REAL *from, int64_t stride, int64_t rows, int64_t count)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t m = 0; m < count; m += WIDTH)
            __builtin_prefetch(from + i * stride + m);
        __builtin_prefetch(from + i * stride + count - 1);
    }
}
