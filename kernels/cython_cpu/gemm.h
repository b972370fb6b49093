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
/* Vectors of 32 bytes of a strip, at most: less than 256 bytes of pixels. */
#define STRIP_VECTORS 8

/* What happens to sums before and after the steps of a block: they begin at 0 or go on from memory,
 * and are left there or finished, with bias and activation. */
typedef struct {
    int resume, finish;
    int64_t activation;
} Stage;

/* Taps, at most, whose columns are read in place. */
#define GEMM_TAPS 128

/* By tap, which pixels of a strip of an o x p x q plane read inside the input: a bit each. `taps`:
 * the outputs first .. end - 1 of an axis that do, for t, then r, then s. */
static inline void find_inside(uint64_t *inside, const int64_t *taps, int64_t t, int64_t r,
                               int64_t s, int64_t p, int64_t q, int64_t first, int64_t pixels)
{
    uint64_t axis[GEMM_TAPS + 2] = {0};
    int64_t column = first % q, row = first / q % p, plane = first / q / p;
    for (int64_t at = 0, length; at < pixels; at += length, column = 0) {
        length = q - column < pixels - at ? q - column : pixels - at;
        for (int64_t i = 0; i < t + r + s; i++) {
            int64_t begin = taps[2 * i], end = taps[2 * i + 1];
            if (i < t + r) {
                const int64_t line = i < t ? plane : row, all = begin <= line && line < end;
                begin = 0;
                end = all ? length : 0;
            } else {
                begin = begin - column > 0 ? begin - column : 0;
                end = end - column < length ? end - column : length;
            }
            if (begin < end)
                axis[i] |= ~(uint64_t)0 >> (64 - (end - begin)) << (at + begin);
        }
        if (column + length == q && ++row == p) {
            row = 0;
            plane++;
        }
    }
    for (int64_t i = 0; i < t * r * s; i++)
        inside[i] = axis[i / (r * s)] & axis[t + i / s % r] & axis[t + r + i % s];
}

#define lanes_of(pointer) SELECT(lanes_of, pointer)()
#define has_masks(pointer) SELECT(has_masks, pointer)()
#define multiply_strip(to, to_stride, sums, sums_stride, columns, runs, inside, w, bias, stage,  \
                       channels, vectors)                                                       \
    SELECT(multiply_strip, to)(to, to_stride, sums, sums_stride, columns, runs, inside, w, bias, \
                               stage, channels, vectors)
#define multiply_rest(sums, columns, step, depth, w, apart, bias, stage, channels, pixels, out, \
                      pixel, stride_k)                                                         \
    SELECT(multiply_rest, sums)(sums, columns, step, depth, w, apart, bias, stage, channels,    \
                                pixels, out, pixel, stride_k)
#define copy_rows(to, to_stride, from, stride, step, rows, count) \
    SELECT(copy_rows, to)(to, to_stride, from, stride, step, rows, count)
#define spread_rows(to, to_stride, step, from, stride, rows, count) \
    SELECT(spread_rows, to)(to, to_stride, step, from, stride, rows, count)
#define copy_inside(to, to_stride, from, stride, inside, rows, count) \
    SELECT(copy_inside, to)(to, to_stride, from, stride, inside, rows, count)
#define clear_rows(to, to_stride, rows, count) \
    SELECT(clear_rows, to)(to, to_stride, rows, count)
#define prefetch_rows(from, stride, rows, count) \
    SELECT(prefetch_rows, from)(from, stride, rows, count)
#endif

#include "chosen.h"
#include "microkernel.h"

#undef ROWS
/* 24 of 32 registers hold sums, or 12 of 16. Four rows of AVX-512 run at nine tenths of its peak. */
#define ROWS (HAS_AVX512 ? 8 : 4)

LOOP int64_t NAME(lanes_of)(void)
{
    return LANES;
}

/* Whether lanes can be left unread at the cost of a load. */
LOOP int NAME(has_masks)(void)
{
    return HAS_AVX2;
}

/* `rows` out-channels x `vectors` vectors of pixels: to[j][m] = sum of columns[i][m] * w[i][j] over
 * the steps i of the runs. Only the first `channels` of them are stored. If `masked`, pixel m reads
 * a tap's columns only where bit `first` + m of its `inside` is set, else zeros. */
INLINE void NAME(multiply_block)(REAL *to, int64_t to_stride, const REAL *sums,
                                 int64_t sums_stride, const REAL *columns, const Runs *runs,
                                 const uint64_t *inside, int64_t first, const REAL *w,
                                 const REAL *bias, Stage stage, int64_t channels,
                                 const int rows, const int vectors, const int masked)
{
    VECTOR sum[ROWS][MOST_VECTORS];
    /* A function is called once for a row and not for every vector. */
    void (*const apply)(REAL *, int64_t) = stage.activation > 2 ? (void *)stage.activation : NULL;
    const int64_t code = apply ? 0 : stage.activation;
    /* GCC keeps the sums in registers only if every loop over them is unrolled. */
#pragma GCC unroll 8
    for (int j = 0; j < rows; j++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            sum[j][v] = stage.resume ? NAME(load)(sums + j * sums_stride + v * LANES)
                                     : (VECTOR){0};
    /* The lines of the result come from memory meanwhile, which counts where it leaves the
     * caches (``cnnfast bench --layers resnet-64-56-1x1-float64``). */
    for (int j = 0; j < rows; j++)
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(to + j * to_stride + v * LANES, 1);

    const int64_t step = runs->step;
    for (int64_t t = 0; t < runs->t; t++)
        for (int64_t r = 0; r < runs->r; r++)
            for (int64_t s = 0; s < runs->s; s++) {
                const REAL *at = columns + t * runs->step_t + r * runs->step_r + s * runs->step_s;
                CHOICE mask[MOST_VECTORS];
                for (int v = 0; masked && v < vectors; v++)
                    mask[v] = NAME(choose_bits)(*inside >> (first + v * LANES));
                inside += masked;
#pragma GCC unroll 1
                for (int64_t i = 0; i < runs->length; i++, at += step, w += WIDTH) {
                    VECTOR x[MOST_VECTORS];
                    __builtin_prefetch(w + 32 * WIDTH);
#pragma GCC unroll 3
                    for (int v = 0; v < vectors; v++)
                        x[v] = masked ? NAME(load_chosen)(at + v * LANES, 1, mask[v])
                                      : NAME(load)(at + v * LANES);
#pragma GCC unroll 8
                    for (int j = 0; j < rows; j++) {
                        const VECTOR weight = NAME(splat)(w[j]);
#pragma GCC unroll 3
                        for (int v = 0; v < vectors; v++)
                            sum[j][v] = NAME(multiply_add)(x[v], weight, sum[j][v]);
                    }
                }
            }

#pragma GCC unroll 8
    for (int j = 0; j < rows; j++) {
        if (j >= channels)
            break;
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            VECTOR y = sum[j][v];
            if (stage.finish)
                y = NAME(activate)(bias ? y + NAME(splat)(bias[j]) : y, code);
            NAME(store)(to + j * to_stride + v * LANES, y);
        }
    }
    if (stage.finish && apply)
        for (int j = 0; j < rows && j < channels; j++)
            apply(to + j * to_stride, vectors * LANES);
}

/* The same for `channels` of a panel and any number of vectors; `bias` may be NULL, and `inside`
 * where all columns are read. */
LOOP void NAME(multiply_strip)(REAL *to, int64_t to_stride, const REAL *sums,
                               int64_t sums_stride, const REAL *columns, const Runs *runs,
                               const uint64_t *inside, const REAL *w, const REAL *bias,
                               Stage stage, int64_t channels, int64_t vectors)
{
    for (int64_t v = 0; v < vectors; v += MOST_VECTORS)
        for (int64_t k = 0; k < channels; k += ROWS) {
#define BLOCK_OF(rows, count, masked)                                                          \
    NAME(multiply_block)(to + k * to_stride + v * LANES, to_stride,                            \
                         sums + k * sums_stride + v * LANES, sums_stride, columns + v * LANES, \
                         runs, inside, v * LANES, w + k, bias ? bias + k : bias, stage,        \
                         channels - k, rows, count, masked)
#define BLOCKS(rows, masked)          \
    if (vectors - v >= 3)             \
        BLOCK_OF(rows, 3, masked);    \
    else if (vectors - v == 2)        \
        BLOCK_OF(rows, 2, masked);    \
    else                              \
        BLOCK_OF(rows, 1, masked)
            const int half = ROWS > 4 && channels - k <= 4;
            if (half && inside) {
                BLOCKS(4, 1);
            } else if (half) {
                BLOCKS(4, 0);
            } else if (inside) {
                BLOCKS(ROWS, 1);
            } else {
                BLOCKS(ROWS, 0);
            }
#undef BLOCKS
#undef BLOCK_OF
        }
}

/* sums[m][:] (+)= sum of columns[i][m] * w[i][:] for the `channels` of one or two panels, `apart`
 * in memory, and fewer pixels than lanes, by the tiles of microkernel.h; finished ones go to
 * out[pixel[m] + k * stride_k]. */
LOOP void NAME(multiply_rest)(REAL *sums, const REAL *columns, int64_t step, int64_t depth,
                              const REAL *w, int64_t apart, const REAL *bias, Stage stage,
                              int64_t channels, int64_t pixels, REAL *out, const int64_t *pixel,
                              int64_t stride_k)
{
    static const int64_t neighbours[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
    const Runs runs = {1, 1, 1, depth, 0, 0, 0, step};
    const int64_t tiles = (pixels + PIXELS - 1) / PIXELS;
    for (int64_t k = 0; k < channels; k += 2 * LANES) {
        const int64_t left = channels - k < 2 * LANES ? channels - k : 2 * LANES;
        const int64_t vectors = left > LANES ? 2 : 1;
        for (int64_t i = 0; i < tiles; i++) {
            const int64_t first = i * pixels / tiles, count = (i + 1) * pixels / tiles - first;
            REAL *tile = sums + k * pixels + first * vectors * LANES;
            NAME(multiply_vectors)(tile, count, vectors, columns + first, neighbours, &runs,
                                   w + k / WIDTH * apart, LANES == WIDTH ? apart : LANES,
                                   stage.resume);
            if (stage.finish)
                NAME(store_tile)(tile, vectors * LANES, count, left, bias ? bias + k : bias,
                                 stage.activation, out + k * stride_k, pixel + first, stride_k);
        }
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

/* to[i * to_stride + m] = from[i * stride + m * step] for i < rows, m < count. */
LOOP void NAME(copy_rows)(REAL *restrict to, int64_t to_stride, const REAL *restrict from,
                          int64_t stride, int64_t step, int64_t rows, int64_t count)
{
    if (step == 1)
        for (int64_t i = 0; i < rows; i++)
            NAME(copy_row)(to + i * to_stride, from + i * stride, count, 1);
    else if (step == 2)
        for (int64_t i = 0; i < rows; i++)
            NAME(copy_row)(to + i * to_stride, from + i * stride, count, 2);
    else
        NAME(copy_transposed)(to, to_stride, from, stride, step, rows, count);
}

/* to[i * to_stride + m * step] = from[i * stride + m] for i < rows, m < count. */
LOOP void NAME(spread_rows)(REAL *restrict to, int64_t to_stride, int64_t step,
                            const REAL *restrict from, int64_t stride, int64_t rows, int64_t count)
{
    for (int64_t i = 0; i < rows; i++, to += to_stride, from += stride) {
        int64_t m = 0;
#if HAS_AVX512
        for (; step == 2 && m < count; m += LANES) {
            const int64_t lanes = count - m < LANES ? count - m : LANES;
            NAME(store_apart)(to + m * step, NAME(load_first)(from + m, lanes), lanes);
        }
#endif
        for (; m < count; m++)
            to[m * step] = from[m];
    }
}

/* to[i * to_stride + m] = from[i * stride + m] where bit m of `inside` is set, else 0, for i < rows
 * and `count` pixels, whole vectors of them. What isn't inside isn't read. */
INLINE void NAME(copy_vectors)(REAL *restrict to, int64_t to_stride, const REAL *restrict from,
                               int64_t stride, uint64_t inside, int64_t rows, const int vectors)
{
    CHOICE mask[STRIP_VECTORS];
    for (int v = 0; v < vectors; v++)
        mask[v] = NAME(choose_bits)(inside >> v * LANES);
    for (int64_t i = 0; i < rows; i++, to += to_stride, from += stride)
        for (int v = 0; v < vectors; v++)
            NAME(store)(to + v * LANES, NAME(load_chosen)(from + v * LANES, 1, mask[v]));
}

LOOP void NAME(copy_inside)(REAL *to, int64_t to_stride, const REAL *from, int64_t stride,
                            uint64_t inside, int64_t rows, int64_t count)
{
    switch ((count + LANES - 1) / LANES) {
#define VECTORS_OF(count)                                                     \
    case count:                                                               \
        NAME(copy_vectors)(to, to_stride, from, stride, inside, rows, count); \
        break;
        VECTORS_OF(1)
        VECTORS_OF(2)
        VECTORS_OF(3)
        VECTORS_OF(4)
#if !HAS_AVX512
        VECTORS_OF(5)
        VECTORS_OF(6)
        VECTORS_OF(7)
        VECTORS_OF(8)
#endif
#undef VECTORS_OF
    }
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
