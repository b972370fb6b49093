/* The loops of the direct row for one channel with 3 x 3 taps, stride 1 or 2: depthwise layers and
 * filters of images. The sums of a block, `rows` output rows x a vector of columns, stay in
 * registers beside the weights; a row of the input is loaded once for all output rows that see it,
 * and lies in place: rows outside are a row of zeros, columns outside aren't loaded. Included by
 * direct.h.
 */
#ifndef MOST_ROWS_3X3
#define MOST_ROWS_3X3 7

/* A plane of the input: rows `x_h` apart, of which output row 0 sees at_h and the next two, and
 * output column 0 the columns at_w and the next two; `zeros` is as good as a row outside. */
typedef struct {
    int64_t x_h, at_h, at_w, h, w, stride;
    const void *zeros;
} Plane;

#define sum_3x3(out, target, x, w, bias, plane, rows, columns) \
    SELECT(sum_3x3, out)(out, target, x, w, bias, plane, rows, columns)
#endif

/* Output rows of a block: what 7, 14, 28, 56 and 112 are multiples of. */
#undef ROWS_3X3
#if HAS_AVX2
#define ROWS_3X3 MOST_ROWS_3X3
#else
#define ROWS_3X3 3
#endif

/* A vector, of which columns outside of the row aren't loaded. */
INLINE VECTOR NAME(load_inside)(const REAL *from, CHOICE edge, const int masked)
{
    VECTOR value = masked ? NAME(load_chosen)(from, 1, edge) : NAME(load)(from);
    KEEP_IN_REGISTER(value);
    return value;
}

/* The first `count` elements, 1 or 2; what follows in the vector is anything. */
INLINE VECTOR NAME(load_few)(const REAL *from, CHOICE edge, const int count, const int masked)
{
    if (masked)
        return NAME(load_chosen)(from, 1, edge);
    return count == 1 ? (VECTOR){from[0]} : (VECTOR){from[0], from[1]};
}

/* What the three taps of a row meet. A load that crosses a cache line takes as long as two, an
 * AVX-512 shuffle runs beside the multiply-adds. */
INLINE void NAME(load_taps)(VECTOR value[3], const REAL *from, const CHOICE edges[3],
                            const int stride, const int masked)
{
#if !HAS_AVX512
    if (stride == 1) {
#pragma GCC unroll 3
        for (int s = 0; s < 3; s++)
            value[s] = NAME(load_inside)(from + s, edges[s], masked);
        return;
    }
#endif
    const VECTOR low = NAME(load_inside)(from, edges[0], masked);
    if (stride == 1) {
        const VECTOR next = NAME(load_few)(from + LANES, edges[1], 2, masked);
        value[0] = low;
        value[1] = NAME(from_second)(low, next);
        value[2] = NAME(from_third)(low, next);
    } else {
        const VECTOR high = NAME(load_inside)(from + LANES, edges[1], masked);
        const VECTOR next = NAME(load_few)(from + 2 * LANES, edges[2], 1, masked);
        value[0] = NAME(even)(low, high);
        value[1] = NAME(odd)(low, high);
        value[2] = NAME(from_second)(value[0], next);
    }
}

/* The sums of a block. Its vectors lie side by side: a cache line that two of them read, or write, is
 * there once. */
INLINE void NAME(add_3x3)(VECTOR sum[MOST_ROWS_3X3][MOST_VECTORS], const REAL *const *row,
                          int64_t column, const VECTOR factor[9], const CHOICE edges[3],
                          const int rows, const int vectors, const int stride, const int masked)
{
#pragma GCC unroll 7
    for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[p][v] = (VECTOR){0};
#pragma GCC unroll 15
    for (int i = 0; i < (rows - 1) * stride + 3; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            VECTOR value[3];
            NAME(load_taps)(value, row[i] + column + v * LANES, edges, stride, masked);
#pragma GCC unroll 7
            for (int p = 0; p < rows; p++)
#pragma GCC unroll 3
                for (int s = 0; s < 3; s++)
                    if (i - p * stride >= 0 && i - p * stride < 3)
                        sum[p][v] = NAME(multiply_add)(factor[(i - p * stride) * 3 + s], value[s],
                                                       sum[p][v]);
        }
}

/* Write a vector of each row that isn't stored as it is. */
LOOP __attribute__((noinline)) void NAME(store_kept)(REAL *out, const Target *target,
                                                     const REAL *kept, int64_t lanes, int64_t rows)
{
    for (int64_t p = 0; p < rows; p++, kept += LANES)
        NAME(store_row)(out + p * target->p, target->q, kept, (VECTOR){0} + (REAL)-0.0, lanes,
                        target->activation);
}

/* The activation of a code, where NaN stays NaN; for others as it is. */
INLINE VECTOR NAME(clamp)(VECTOR y, int64_t activation)
{
    const VECTOR zero = {0}, most = zero + (activation == 2 ? 6 : INFINITY);
#if HAS_AVX2
    /* These give their second operand where one is NaN, or both are zeros. */
    return INTRINSIC(min)(most, INTRINSIC(max)(zero, y));
#else
    y = NAME(choose)(y < zero, zero, y);
    return NAME(choose)(y > most, most, y);
#endif
}

/* Write a block, the first `left` columns of its last vector. */
INLINE void NAME(store_3x3)(REAL *out, const Target *target,
                            VECTOR sum[MOST_ROWS_3X3][MOST_VECTORS], VECTOR added, int64_t left,
                            const int rows, const int vectors)
{
#pragma GCC unroll 7
    for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[p][v] += added;
    /* Through memory, as others, a depthwise layer with relu6 took 1.8 times as long. */
    if (target->activation == 1 || target->activation == 2) {
#pragma GCC unroll 7
        for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[p][v] = NAME(clamp)(sum[p][v], target->activation);
    }
    if (target->activation > 2 || target->q != 1) {
        REAL kept[MOST_ROWS_3X3 * LANES];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
#pragma GCC unroll 7
            for (int p = 0; p < rows; p++)
                NAME(store)(kept + p * LANES, sum[p][v]);
            NAME(store_kept)(out + v * LANES * target->q, target, kept,
                             left < LANES ? left : LANES, rows);
        }
        return;
    }
#if HAS_AVX2
    if (vectors > 1 && target->streaming) {
#pragma GCC unroll 7
        for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                INTRINSIC(stream)(out + p * target->p + v * LANES, sum[p][v]);
        return;
    }
#endif
#pragma GCC unroll 7
    for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            if (vectors > 1 || left >= LANES)
                NAME(store)(out + p * target->p + v * LANES, sum[p][v]);
            else
                NAME(store_first)(out + p * target->p, sum[p][0], left);
}

/* Blocks of `together` rows and `vectors` vectors; more than one of those read no padding. */
INLINE void NAME(plane_3x3)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                            const REAL *bias, const Plane *plane, int64_t rows, int64_t begin,
                            int64_t end, const int together, const int vectors, const int stride)
{
    const REAL *row[(MOST_ROWS_3X3 - 1) * 2 + 3];
    VECTOR factor[9];
    CHOICE edges[3];
    int64_t edges_at = -1;
    /* y + -0.0 is y, whatever y is: no bias is the bias -0.0. */
    const VECTOR added = NAME(splat)(bias ? *bias : (REAL)-0.0);
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; tap++)
        factor[tap] = NAME(splat)(w[tap]);
    for (int64_t first = 0; first < rows; first += together) {
        /* The last block has as many rows as all: some come out twice, the same. */
        const int64_t p = first + together > rows ? rows - together : first;
        for (int i = 0; i < (together - 1) * stride + 3; i++) {
            const int64_t h = plane->at_h + p * stride + i;
            const int inside = (uint64_t)h < (uint64_t)plane->h;
            row[i] = inside ? x + h * plane->x_h + plane->at_w : (const REAL *)plane->zeros;
        }
        for (int64_t q = begin; q < end; q += vectors * LANES) {
            const int64_t at = plane->at_w + q * stride;
            REAL *to = out + p * target->p + q * target->q;
            VECTOR sum[MOST_ROWS_3X3][MOST_VECTORS];
            if (vectors > 1 || (at >= 0 && at + stride * LANES + 3 - stride <= plane->w))
                NAME(add_3x3)(sum, row, q * stride, factor, edges, together, vectors, stride, 0);
            else {
                /* Of the loads of load_taps. */
                const int64_t apart = stride == 1 && !HAS_AVX512 ? 1 : LANES;
                for (int s = 0; s < 3 && edges_at != q; s++)
                    edges[s] = NAME(choose_between)(0, plane->w, at + s * apart);
                edges_at = q;
                NAME(add_3x3)(sum, row, q * stride, factor, edges, together, 1, stride, 1);
            }
            NAME(store_3x3)(to, target, sum, added, end - q, together, vectors);
        }
    }
}

#undef SUM_3X3
#define SUM_3X3(name, together, vectors, stride)                                              \
    LOOP void NAME(name)(REAL *out, const Target *target, const REAL *x, const REAL *w,       \
                         const REAL *bias, const Plane *plane, int64_t rows, int64_t begin,   \
                         int64_t end)                                                         \
    {                                                                                         \
        NAME(plane_3x3)(out, target, x, w, bias, plane, rows, begin, end, together, vectors,  \
                        stride);                                                              \
    }
SUM_3X3(sum_few, 1, 1, 1)
SUM_3X3(sum_few_2, 1, 1, 2)
SUM_3X3(sum_most, ROWS_3X3, 1, 1)
SUM_3X3(sum_most_2, ROWS_3X3, 1, 2)
#undef WIDE_ROWS
#if HAS_AVX512
#define WIDE_ROWS 4
SUM_3X3(sum_wide, WIDE_ROWS, MOST_VECTORS, 1)
#elif HAS_AVX2
#define WIDE_ROWS 2
SUM_3X3(sum_wide, WIDE_ROWS, MOST_VECTORS, 1)
#endif

/* `rows` output rows of `columns` columns. */
LOOP void NAME(sum_3x3)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                        const REAL *bias, const Plane *plane, int64_t rows, int64_t columns)
{
    int64_t begin = 0, end = 0;
    const int most = rows >= ROWS_3X3;
    if (plane->stride == 2) {
        (most ? NAME(sum_most_2) : NAME(sum_few_2))(out, target, x, w, bias, plane, rows, 0,
                                                    columns);
        return;
    }
#if HAS_AVX2
    /* Rows that are a multiple of 4 KiB apart share the same few places of an L1 cache. */
    const int crowded = plane->x_h * sizeof(REAL) % 4096 == 0;
    if ((crowded || target->streaming) && rows >= WIDE_ROWS) {
        const int64_t wide = MOST_VECTORS * LANES;
        begin = plane->at_w < 0 ? (LANES - 1 - plane->at_w) / LANES * LANES : 0;
        end = plane->w - plane->at_w - 2 < columns ? plane->w - plane->at_w - 2 : columns;
        end = end < begin + wide ? begin : begin + (end - begin) / wide * wide;
        NAME(sum_wide)(out, target, x, w, bias, plane, rows, begin, end);
        if (target->streaming)
            _mm_sfence();
    }
#endif
    void (*const rest)(REAL *, const Target *, const REAL *, const REAL *, const REAL *,
                       const Plane *, int64_t, int64_t, int64_t) =
        most ? NAME(sum_most) : NAME(sum_few);
    if (begin < end)
        rest(out, target, x, w, bias, plane, rows, 0, begin);
    rest(out, target, x, w, bias, plane, rows, end > begin ? end : 0, columns);
}
