/* The loops of the direct wgrad row: output rows of gradients times the input rows under them, for
 * up to MOST_TAPS weights at a time.
 *
 * The sums of a block of taps stay in registers over all rows, a vector of columns per tap; each
 * load of gradients serves all taps. Included once per dtype and instruction set
 * (instruction_sets.h).
 */
#ifndef MOST_TAPS
#define MOST_TAPS 9
#define MOST_VECTORS 4
#define VECTOR_BYTES 32

/* A weight: where it reads x for the output (0, 0), the outputs low .. high - 1 of a row for which
 * that is inside, and where its vector of sums is. */
typedef struct {
    int64_t at, low, high, sum;
} Tap;

/* Output rows, and what a step to the next row and column moves in x and in the gradients. */
typedef struct {
    int64_t rows;
    int64_t x_p, x_q, grad_p, grad_q;
} Outputs;

#define sum_taps(sums, x, grad, outputs, taps, count) \
    SELECT(sum_taps, sums)(sums, x, grad, outputs, taps, count)
#define add_lanes(to, sums, count) SELECT(add_lanes, to)(to, sums, count)
#endif

/* The elements from[i * stride] for the lanes i of the mask; zeros for others, unread. */
INLINE VECTOR NAME(load_masked)(const REAL *from, int64_t stride, MASK mask)
{
#if HAS_AVX2
    if (stride == 1)
        return INTRINSIC(maskload)(from, (__m256i)mask);
#endif
    VECTOR vector;
    REAL element[LANES];
    for (int lane = 0; lane < LANES; lane++)
        element[lane] = mask[lane] ? from[lane * stride] : 0;
    memcpy(&vector, element, sizeof vector);
    return vector;
}

/* Which of the positions first, first + 1, ... of a vector are low .. high - 1. */
INLINE MASK NAME(mask_between)(int64_t low, int64_t high, int64_t first)
{
#if LANES == 8
    const MASK lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
    const MASK lane = {0, 1, 2, 3};
#endif
    low = low < first ? 0 : low - first < LANES ? low - first : LANES;
    high = high < first ? 0 : high - first < LANES ? high - first : LANES;
    return (MASK)(lane >= (MASK){0} + (LANE)low) & (MASK)(lane < (MASK){0} + (LANE)high);
}

/* The masks of load_columns for the columns low .. high - 1 of a vector that begins with q. With
 * stride 2 it loads twice, the elements between columns as well: inside, if those beside are. */
INLINE void NAME(set_masks)(MASK *mask, int64_t stride, int64_t low, int64_t high, int64_t q)
{
    if (stride == 2) {
        mask[0] = NAME(mask_between)(2 * low, 2 * high - 1, 2 * q);
        mask[1] = NAME(mask_between)(2 * low, 2 * high - 1, 2 * q + LANES - 1);
    } else
        mask[0] = mask[1] = NAME(mask_between)(low, high, q);
}

/* As load_strided: zeros for the columns that are masked. */
INLINE VECTOR NAME(load_columns)(const REAL *from, int64_t stride, const MASK *mask)
{
    if (stride != 2)
        return NAME(load_masked)(from, stride, mask[0]);
    const VECTOR low = NAME(load_masked)(from, 1, mask[0]);
    const VECTOR high = NAME(load_masked)(from + LANES - 1, 1, mask[1]);
    return NAME(every_second)(low, high);
}

/* sum[v][m] += gradients x what tap m reads, for the columns of `vectors` vectors. */
INLINE void NAME(sum_full)(VECTOR sum[MOST_VECTORS][MOST_TAPS], const REAL *x, int64_t stride,
                           const REAL *grad, int64_t grad_stride, const int64_t *at,
                           const int count, const int vectors)
{
    for (int v = 0; v < vectors; v++) {
        const VECTOR factor = NAME(load_strided)(grad + v * LANES * grad_stride, grad_stride);
        for (int m = 0; m < count; m++) {
            const VECTOR value = NAME(load_strided)(x + at[m] + v * LANES * stride, stride);
            sum[v][m] = NAME(multiply_add)(factor, value, sum[v][m]);
        }
    }
}

/* The same for a vector of columns of all rows, from q on, of which taps have some outside. */
INLINE void NAME(sum_masked)(VECTOR *sum, const REAL *x, int64_t stride, const REAL *grad,
                             int64_t grad_stride, const Outputs *outputs, const Tap *taps,
                             const int64_t *at, const int count, int64_t q, int64_t last)
{
    const MASK columns = NAME(mask_between)(q, last, q);
    MASK mask[MOST_TAPS][2];
#pragma GCC unroll 1
    for (int m = 0; m < count; m++)
        NAME(set_masks)(mask[m], stride, taps[m].low, taps[m].high, q);
    x += q * stride;
    grad += q * grad_stride;
    for (int64_t p = 0; p < outputs->rows; p++, x += outputs->x_p, grad += outputs->grad_p) {
        const VECTOR factor = NAME(load_masked)(grad, grad_stride, columns);
        for (int m = 0; m < count; m++) {
            const VECTOR value = NAME(load_columns)(x + at[m], stride, mask[m]);
            sum[m] = NAME(multiply_add)(factor, value, sum[m]);
        }
    }
}

/* Add the products of all rows to the sums of `count` taps; `vectors` sums per tap, added up at the
 * end, keep few taps from waiting for each other. */
INLINE void NAME(sum_block)(REAL *sums, const REAL *x, int64_t stride, const REAL *grad,
                            int64_t grad_stride, const Outputs *outputs, const Tap *taps,
                            const int count, const int vectors)
{
    const int64_t block = vectors * LANES;
    VECTOR sum[MOST_VECTORS][MOST_TAPS] = {0};
    int64_t at[MOST_TAPS];
    /* Columns that some tap has inside, first .. last - 1, and whole vectors of those that all
     * have, begin .. end - 1. */
    int64_t first = taps[0].low, last = taps[0].high, begin = first, end = last;
#pragma GCC unroll 1
    for (int m = 1; m < count; m++) {
        first = taps[m].low < first ? taps[m].low : first;
        last = taps[m].high > last ? taps[m].high : last;
        begin = taps[m].low > begin ? taps[m].low : begin;
        end = taps[m].high < end ? taps[m].high : end;
    }
    begin = first + (begin - first + LANES - 1) / LANES * LANES;
    end = end < begin ? begin : begin + (end - begin) / LANES * LANES;
    for (int m = 0; m < count; m++) {
        at[m] = taps[m].at;
        sum[0][m] = NAME(load)(sums + taps[m].sum);
    }

    for (int64_t p = 0; p < outputs->rows && begin < end; p++) {
        const REAL *from = x + p * outputs->x_p + begin * stride;
        const REAL *with = grad + p * outputs->grad_p + begin * grad_stride;
        int64_t left = end - begin;
        /* Not unrolled: GCC 12 spills sums when it does. */
#pragma GCC unroll 1
        for (; left >= block; left -= block, from += block * stride, with += block * grad_stride)
            NAME(sum_full)(sum, from, stride, with, grad_stride, at, count, vectors);
#pragma GCC unroll 1
        for (; vectors > 1 && left; left -= LANES, from += LANES * stride,
                                    with += LANES * grad_stride)
            NAME(sum_full)(sum, from, stride, with, grad_stride, at, count, 1);
    }
    for (int64_t q = first < begin ? first : end; q < last;
         q = q + LANES == begin ? end : q + LANES)
        NAME(sum_masked)(sum[0], x, stride, grad, grad_stride, outputs, taps, at, count, q, last);

    for (int m = 0; m < count; m++) {
        for (int v = 1; v < vectors; v++)
            sum[0][m] += sum[v][m];
        NAME(store)(sums + taps[m].sum, sum[0][m]);
    }
}

/* Add the products of all rows to the sums of `count` taps, as many at a time as there is code
 * for. */
LOOP void NAME(sum_taps)(REAL *sums, const REAL *x, const REAL *grad, const Outputs *outputs,
                         const Tap *taps, int64_t count)
{
#define BLOCKS(stride, grad_stride, size, vectors)                                            \
    for (; count >= size; count -= size, taps += size)                                        \
        NAME(sum_block)(sums, x, stride, grad, grad_stride, outputs, taps, size, vectors)
    const int64_t stride = outputs->x_q, grad_stride = outputs->grad_q;
    if (stride == 1 && grad_stride == 1) {
        BLOCKS(1, 1, 9, 1);
        BLOCKS(1, 1, 6, 1);
        BLOCKS(1, 1, 4, 2);
        BLOCKS(1, 1, 3, 3);
        BLOCKS(1, 1, 2, 4);
        BLOCKS(1, 1, 1, 4);
    } else if (stride == 2 && grad_stride == 1) {
        BLOCKS(2, 1, 9, 1);
        BLOCKS(2, 1, 6, 1);
        BLOCKS(2, 1, 3, 2);
        BLOCKS(2, 1, 1, 4);
    } else {
        BLOCKS(stride, grad_stride, 9, 1);
        BLOCKS(stride, grad_stride, 3, 1);
        BLOCKS(stride, grad_stride, 1, 1);
    }
#undef BLOCKS
}

/* to[i] = the lanes of the vector sums[i], added in pairs. */
LOOP void NAME(add_lanes)(REAL *to, const REAL *sums, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        REAL lane[LANES];
        memcpy(lane, sums + i * LANES, sizeof lane);
        for (int half = LANES / 2; half; half /= 2)
            for (int j = 0; j < half; j++)
                lane[j] += lane[j + half];
        to[i] = lane[0];
    }
}
