/* The loops of the direct wgrad row: rows of gradients times the input rows under them, for the taps
 * of a kernel row and several out-channels at a time.
 *
 * Their sums stay in registers over all output rows, a vector of columns per weight; a load of
 * gradients serves all taps, a load of the input all out-channels. Included once per dtype and
 * instruction set (instruction_sets.h).
 */
#ifndef MOST_TAPS
#define MOST_TAPS 5
#define MOST_FILTERS 4
#define SUM_BYTES 64

/* Output rows; what a step to the next row, column and tap moves in x, to the next row, column and
 * out-channel in the gradients, and to the next out-channel in the sums. */
typedef struct {
    int64_t count;
    int64_t x_p, x_q, x_s, grad_p, grad_q, grad_k, sum_k;
} Rows;

#define sum_rows(sums, x, grad, rows, columns, taps, filters) \
    SELECT(sum_rows, sums)(sums, x, grad, rows, columns, taps, filters)
#define add_lanes(to, sums, count) SELECT(add_lanes, to)(to, sums, count)
#endif

/* Elements from a weight's sums to the next one's, whatever the vectors. */
#define SUM_ELEMENTS (SUM_BYTES / (int)sizeof(REAL))
/* Out-channels and taps whose sums fit the registers. */
#undef FILTERS
#if HAS_AVX512
#define FILTERS 4
#else
#define FILTERS 2
#endif

#include "chosen.h"

/* What load_columns takes for the columns low .. high - 1 of a vector that begins with q. With
 * stride 2 it loads twice, the elements between columns as well: inside, if those beside are. */
INLINE void NAME(choose_columns)(CHOICE *chosen, int64_t stride, int64_t low, int64_t high,
                                 int64_t q)
{
    if (stride == 2) {
        chosen[0] = NAME(choose_between)(2 * low, 2 * high - 1, 2 * q);
        chosen[1] = NAME(choose_between)(2 * low, 2 * high - 1, 2 * q + LANES - 1);
    } else
        chosen[0] = chosen[1] = NAME(choose_between)(low, high, q);
}

/* As load_strided: zeros for the columns that aren't chosen. */
INLINE VECTOR NAME(load_columns)(const REAL *from, int64_t stride, const CHOICE *chosen)
{
    if (stride != 2)
        return NAME(load_chosen)(from, stride, chosen[0]);
    const VECTOR low = NAME(load_chosen)(from, 1, chosen[0]);
    const VECTOR high = NAME(load_chosen)(from + LANES - 1, 1, chosen[1]);
    return NAME(every_second)(low, high);
}

/* sum[k][s] += gradients of out-channel k x what tap s reads, for a vector of columns of a row: all
 * of them (`chosen` is NULL), or those of `valid` and, of tap s, of chosen[s]. */
INLINE void NAME(sum_vector)(VECTOR sum[MOST_FILTERS][MOST_TAPS], const REAL *x, int64_t stride,
                             const REAL *grad, int64_t grad_stride, const Rows *rows,
                             const CHOICE (*chosen)[2], CHOICE valid, const int filters,
                             const int taps)
{
    VECTOR factor[MOST_FILTERS];
#pragma GCC unroll 4
    for (int k = 0; k < filters; k++)
        factor[k] = chosen ? NAME(load_chosen)(grad + k * rows->grad_k, grad_stride, valid)
                           : NAME(load_strided)(grad + k * rows->grad_k, grad_stride);
#if HAS_AVX2
    /* GCC 12 would load gradients again for each tap, and loads are what there are most of. */
#pragma GCC unroll 4
    for (int k = 0; k < filters; k++)
        __asm__("" : "+v"(factor[k]));
#endif
#pragma GCC unroll 5
    for (int s = 0; s < taps; s++) {
        const VECTOR value = chosen ? NAME(load_columns)(x + s * rows->x_s, stride, chosen[s])
                                    : NAME(load_strided)(x + s * rows->x_s, stride);
#pragma GCC unroll 4
        for (int k = 0; k < filters; k++)
            sum[k][s] = NAME(multiply_add)(factor[k], value, sum[k][s]);
    }
}

/* Add the products of all rows to the sums of `taps` x `filters` weights; `together` rows have sums
 * of their own, added up at the end, which keeps few weights from waiting for each other. */
INLINE void NAME(sum_block)(REAL *sums, const REAL *x, int64_t stride, const REAL *grad,
                            int64_t grad_stride, const Rows *rows, const int64_t *columns,
                            const int filters, const int taps, const int together)
{
    VECTOR sum[2][MOST_FILTERS][MOST_TAPS];
    /* Columns that some tap has inside, first .. last - 1, and whole vectors of those that all
     * have, begin .. end - 1. */
    int64_t first = columns[0], last = columns[1], begin = first, end = last;
    for (int s = 1; s < taps; s++) {
        const int64_t low = columns[2 * s], high = columns[2 * s + 1];
        first = low < first ? low : first;
        last = high > last ? high : last;
        begin = low > begin ? low : begin;
        end = high < end ? high : end;
    }
    begin = first + (begin - first + LANES - 1) / LANES * LANES;
    end = end < begin ? begin : begin + (end - begin) / LANES * LANES;
#pragma GCC unroll 4
    for (int k = 0; k < filters; k++)
#pragma GCC unroll 5
        for (int s = 0; s < taps; s++) {
            sum[0][k][s] = NAME(load)(sums + k * rows->sum_k + s * SUM_ELEMENTS);
            sum[1][k][s] = (VECTOR){0};
        }

#define ALL_ROWS(body)                                                     \
    {                                                                      \
        int64_t p = 0;                                                     \
        for (; p + together <= rows->count; p += together)                 \
            body(together);                                                \
        if (together > 1 && p < rows->count)                               \
            body(1);                                                       \
    }
#define FULL(size)                                                                               \
    for (int64_t q = begin; q < end; q += LANES)                                                 \
        for (int i = 0; i < size; i++)                                                           \
            NAME(sum_vector)(sum[i], x + (p + i) * rows->x_p + q * stride, stride,               \
                             grad + (p + i) * rows->grad_p + q * grad_stride, grad_stride, rows, \
                             NULL, valid, filters, taps)
#define CHOSEN(size)                                                                             \
    for (int i = 0; i < size; i++)                                                               \
        NAME(sum_vector)(sum[i], x + (p + i) * rows->x_p + q * stride, stride,                   \
                         grad + (p + i) * rows->grad_p + q * grad_stride, grad_stride, rows,     \
                         chosen, valid, filters, taps)
    CHOICE chosen[MOST_TAPS][2], valid = NAME(choose_between)(0, 0, 0);
    if (begin < end)
        ALL_ROWS(FULL)
    for (int64_t q = first < begin ? first : end; q < last;
         q = q + LANES == begin ? end : q + LANES) {
        valid = NAME(choose_between)(q, last, q);
        for (int s = 0; s < taps; s++)
            NAME(choose_columns)(chosen[s], stride, columns[2 * s], columns[2 * s + 1], q);
        ALL_ROWS(CHOSEN)
    }
#undef ALL_ROWS
#undef FULL
#undef CHOSEN

#pragma GCC unroll 4
    for (int k = 0; k < filters; k++)
#pragma GCC unroll 5
        for (int s = 0; s < taps; s++)
            NAME(store)(sums + k * rows->sum_k + s * SUM_ELEMENTS,
                        together > 1 ? sum[0][k][s] + sum[1][k][s] : sum[0][k][s]);
}

#define BLOCK(filters, taps)                                                                      \
    LOOP void NAME(sum_##filters##_##taps)(REAL *sums, const REAL *x, const REAL *grad,           \
                                           const Rows *rows, const int64_t *columns)              \
    {                                                                                             \
        NAME(sum_block)(sums, x, 1, grad, 1, rows, columns, filters, taps,                        \
                        (filters) * (taps) <= 6 ? 2 : 1);                                         \
    }                                                                                             \
    LOOP void NAME(sum_second_##filters##_##taps)(REAL *sums, const REAL *x, const REAL *grad,    \
                                                  const Rows *rows, const int64_t *columns)       \
    {                                                                                             \
        NAME(sum_block)(sums, x, 2, grad, 1, rows, columns, filters, taps,                        \
                        (filters) * (taps) <= 6 ? 2 : 1);                                         \
    }
#define BLOCKS(filters) \
    BLOCK(filters, 1) BLOCK(filters, 2) BLOCK(filters, 3) BLOCK(filters, 4) BLOCK(filters, 5)
#define NAMES(name, filters)                                                                   \
    {NAME(name##_##filters##_1), NAME(name##_##filters##_2), NAME(name##_##filters##_3),       \
     NAME(name##_##filters##_4), NAME(name##_##filters##_5)}

BLOCKS(1)
BLOCKS(2)
#if FILTERS == 4
BLOCKS(3)
BLOCKS(4)
#endif

/* Add the products of all rows to the sums of the taps of a kernel row, for `filters` out-channels;
 * tap s is inside for the outputs columns[2 * s] .. columns[2 * s + 1] - 1. */
LOOP void NAME(sum_rows)(REAL *sums, const REAL *x, const REAL *grad, const Rows *rows,
                         const int64_t *columns, int64_t taps, int64_t filters)
{
    typedef void Block(REAL *, const REAL *, const REAL *, const Rows *, const int64_t *);
#if FILTERS == 4
    static Block *const blocks[2][4][MOST_TAPS] = {
        {NAMES(sum, 1), NAMES(sum, 2), NAMES(sum, 3), NAMES(sum, 4)},
        {NAMES(sum_second, 1), NAMES(sum_second, 2), NAMES(sum_second, 3), NAMES(sum_second, 4)}};
#else
    static Block *const blocks[2][2][MOST_TAPS] = {
        {NAMES(sum, 1), NAMES(sum, 2)}, {NAMES(sum_second, 1), NAMES(sum_second, 2)}};
#endif
    const int64_t stride = rows->x_q, grad_stride = rows->grad_q;
    const int fast = grad_stride == 1 && (stride == 1 || stride == 2);
    const int64_t parts = (taps + MOST_TAPS - 1) / MOST_TAPS;
    const int64_t most = !fast ? 1 : parts == 1 ? taps : (taps + parts - 1) / parts;
    const int64_t groups = (filters + FILTERS - 1) / FILTERS;
    const int64_t step = !fast ? 1 : groups == 1 ? filters : (filters + groups - 1) / groups;
    for (int64_t s = 0; s < taps; s += most)
        for (int64_t k = 0; k < filters; k += step) {
            const int64_t width = taps - s < most ? taps - s : most;
            const int64_t height = filters - k < step ? filters - k : step;
            REAL *to = sums + k * rows->sum_k + s * SUM_ELEMENTS;
            const REAL *from = x + s * rows->x_s, *with = grad + k * rows->grad_k;
            if (fast)
                blocks[stride - 1][height - 1][width - 1](to, from, with, rows, columns + 2 * s);
            else
                NAME(sum_block)(to, from, stride, with, grad_stride, rows, columns + 2 * s, 1, 1,
                                2);
        }
}

/* to[i] = the lanes of the i-th sums, added in pairs. */
LOOP void NAME(add_lanes)(REAL *to, const REAL *sums, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
#if HAS_AVX512
        to[i] = INTRINSIC(reduce_add)(NAME(load)(sums + i * SUM_ELEMENTS));
#else
        REAL lane[LANES];
        memcpy(lane, sums + i * SUM_ELEMENTS, sizeof lane);
#pragma GCC unroll 4
        for (int half = LANES / 2; half; half /= 2)
#pragma GCC unroll 8
            for (int j = 0; j < half; j++)
                lane[j] += lane[j + half];
        to[i] = lane[0];
#endif
    }
}
