/* The loops of the pooling rows: every task is an output row, of one channel, or of all of them.
 *
 * Columns are reduced over a window's taps along d and h first, whole vectors of them, and the
 * results over the taps along w, so that windows that overlap share the former.
 * Included once per dtype and instruction set (instruction_sets.h).
 */
#ifndef CNNFAST_POOLING_H
#define CNNFAST_POOLING_H

#include "pool_windows.h"

enum { MAX, MEAN, ARGMAX };

/* Bytes of columns that are kept while the windows over them are reduced: half of an L1 cache. */
enum { COLUMN_BYTES = 16384 };

#define max_rows(out, x, pooling, begin, end) SELECT(max_rows, out)(out, x, pooling, begin, end)
#define mean_rows(out, x, pooling, begin, end) SELECT(mean_rows, out)(out, x, pooling, begin, end)
#define argmax_rows(out, x, indices, pooling, begin, end) \
    SELECT(argmax_rows, out)(out, x, indices, pooling, begin, end)
#endif

#define COLUMNS ((int64_t)(COLUMN_BYTES / sizeof(REAL)))

/* A sum begins with 0 (which makes -0 a 0), a maximum with the least value. */
INLINE REAL NAME(start)(const int reduction)
{
    return reduction == MEAN ? 0 : LEAST;
}

INLINE VECTOR NAME(fold)(const int reduction, VECTOR former, VECTOR value)
{
    return reduction == MEAN ? former + value : NAME(larger)(former, value);
}

INLINE REAL NAME(fold_one)(const int reduction, REAL former, REAL value)
{
    if (reduction == MEAN)
        return former + value;
    return value > former || value != value ? value : former;
}

/* Reduce `lanes` columns side by side over the taps along d and h, of which there are some. */
INLINE VECTOR NAME(fold_lanes)(const int reduction, const REAL *x, const Window *window,
                               int64_t lanes)
{
#define LOAD(at) (lanes == LANES ? NAME(load)(at) : NAME(load_first)(at, lanes))
    VECTOR result = LOAD(x);
    if (window->d == 1 && window->h <= 3) {
        if (window->h >= 2)
            result = NAME(fold)(reduction, result, LOAD(x + window->x_h));
        if (window->h == 3)
            result = NAME(fold)(reduction, result, LOAD(x + 2 * window->x_h));
        return result;
    }
    for (int64_t d = 0; d < window->d; d++)
        for (int64_t h = d == 0; h < window->h; h++)
            result = NAME(fold)(reduction, result, LOAD(x + d * window->x_d + h * window->x_h));
    return result;
#undef LOAD
}

/* The same of as many of `count` columns as fit in a vector; the other lanes are a start. */
INLINE VECTOR NAME(fold_columns)(const int reduction, const REAL *x, const Window *window,
                                 int64_t count)
{
    const VECTOR start = NAME(splat)(NAME(start)(reduction));
    if (count >= LANES)
        return NAME(fold_lanes)(reduction, x, window, LANES);
    if (count <= 0)
        return start;
    const VECTOR result = NAME(fold_lanes)(reduction, x, window, count);
    return reduction == MEAN ? result : NAME(choose_first)(count, result, start);
}

/* Reduce the window of an output column by itself. */
INLINE REAL NAME(fold_window)(const int reduction, const REAL *x, const Pooling *pooling,
                              const Window *window, int64_t q)
{
    const int64_t *in_w = pooling->in_w + 3 * q;
    REAL result = NAME(start)(reduction);
    for (int64_t w = in_w[0]; w < in_w[1]; w += pooling->problem.dilation_w) {
        const REAL *column = x + w * pooling->x.w;
        REAL value = *column;
        for (int64_t d = 0; d < window->d; d++)
            for (int64_t h = d == 0; h < window->h; h++)
                value = NAME(fold_one)(
                    reduction, value, column[d * window->x_d + h * window->x_h]);
        result = NAME(fold_one)(reduction, result, value);
    }
    return reduction == MEAN ? NAME(quotient)(result, divisor_of(pooling, window, q)) : result;
}

/* The same from the reduced columns of a row, `column` being the first that it has. */
INLINE REAL NAME(fold_taps)(const int reduction, const REAL *column, int64_t taps, int64_t dilation)
{
    REAL result = NAME(start)(reduction);
    for (int64_t s = 0; s < taps; s++)
        result = NAME(fold_one)(reduction, result, column[s * dilation]);
    return result;
}

/* Reduce `count` columns of a row, any stride apart, and keep them. */
INLINE void NAME(keep_columns)(const int reduction, REAL *to, const REAL *x, int64_t stride,
                               const Window *window, int64_t count)
{
    int64_t w = 0;
    if (stride != 1) {
        for (; w < count; w++)
            to[w] = x[w * stride];
        for (int64_t d = 0; d < window->d; d++)
            for (int64_t h = d == 0; h < window->h; h++)
                for (w = 0; w < count; w++)
                    to[w] = NAME(fold_one)(
                        reduction, to[w], x[d * window->x_d + h * window->x_h + w * stride]);
        return;
    }
    if (window->d * window->h > 4 && count >= 8 * LANES) {
        /* Row after row, as memory is read best. */
        memcpy(to, x, count * sizeof(REAL));
        for (int64_t d = 0; d < window->d; d++)
            for (int64_t h = d == 0; h < window->h; h++) {
                const REAL *row = x + d * window->x_d + h * window->x_h;
                for (w = 0; w + LANES <= count; w += LANES)
                    NAME(store)(to + w, NAME(fold)(reduction, NAME(load)(to + w), NAME(load)(row + w)));
                for (; w < count; w++)
                    to[w] = NAME(fold_one)(reduction, to[w], row[w]);
            }
        return;
    }
    /* Side by side, which hides how long an operation takes. */
    for (; w + 4 * LANES <= count; w += 4 * LANES) {
        VECTOR sum[4];
        for (int i = 0; i < 4; i++)
            sum[i] = NAME(load)(x + w + i * LANES);
        for (int64_t d = 0; d < window->d; d++)
            for (int64_t h = d == 0; h < window->h; h++)
                for (int i = 0; i < 4; i++)
                    sum[i] = NAME(fold)(
                        reduction, sum[i],
                        NAME(load)(x + d * window->x_d + h * window->x_h + w + i * LANES));
        for (int i = 0; i < 4; i++)
            NAME(store)(to + w + i * LANES, sum[i]);
    }
    for (; w < count; w += LANES) {
        const VECTOR sum = NAME(fold_columns)(reduction, x + w, window, count - w);
        NAME(store_first)(to + w, sum, count - w < LANES ? count - w : LANES);
    }
}

/* Output columns q .. end-1 read the columns low .. high-1, no more than `limit` of them. */
typedef struct {
    int64_t end, low, high;
} NAME(Part);

INLINE NAME(Part) NAME(part_from)(const Pooling *pooling, int64_t q, int64_t limit)
{
    NAME(Part) part = {pooling->problem.q, 0, pooling->problem.w};
    const int64_t *first = pooling->in_w + 3 * q;
    const int64_t span = first[1] - first[0];
    if (part.high <= limit)
        return part;
    if (q >= pooling->first && q < pooling->end && span <= limit) {
        const int64_t more = pooling->step ? (limit - span) / pooling->step : pooling->end;
        part.end = more < pooling->end - q ? q + more + 1 : pooling->end;
        part.low = first[0];
        part.high = pooling->in_w[3 * part.end - 2];
        return part;
    }
    part = (NAME(Part)){q, part.high, 0};
    for (; part.end < (q < pooling->first ? pooling->first : pooling->problem.q); part.end++) {
        const int64_t *in_w = pooling->in_w + 3 * part.end;
        const int64_t low = in_w[0] < part.low ? in_w[0] : part.low;
        const int64_t high = in_w[1] > part.high ? in_w[1] : part.high;
        if (high - low > limit)
            break;
        part.low = low;
        part.high = high;
    }
    return part;
}

/* Every fourth of 4 LANES elements. */
INLINE VECTOR NAME(every_fourth)(const REAL *from)
{
    const VECTOR low = NAME(even)(NAME(load)(from), NAME(load)(from + LANES));
    const VECTOR high = NAME(even)(NAME(load)(from + 2 * LANES), NAME(load)(from + 3 * LANES));
    return NAME(even)(low, high);
}

/* Reduce the windows of a row from output column q on whose columns fit in `kept`; the next q. */
INLINE int64_t NAME(fold_stretch)(const int reduction, REAL *out, const REAL *x, REAL *kept,
                                  const Pooling *pooling, const Window *window, int64_t q)
{
    const int64_t dilation = pooling->problem.dilation_w, stride = pooling->out.w;
    const int64_t *in_w = pooling->in_w;
    const NAME(Part) part = NAME(part_from)(pooling, q, COLUMNS);
    const int64_t end = part.end, low = part.low, high = part.high;
    if (end == q) {
        out[q * stride] = NAME(fold_window)(reduction, x, pooling, window, q);
        return q + 1;
    }
    NAME(keep_columns)(reduction, kept, x + low * pooling->x.w, pooling->x.w, window, high - low);
    while (q < end) {
        const int64_t inner = pooling->end < end ? pooling->end : end;
        const int64_t divisor = divisor_of(pooling, window, q);
        const REAL *columns = kept + in_w[3 * q] - low;
        if (q < pooling->first || q + LANES > inner) {
            const int64_t taps = taps_of(in_w + 3 * q, dilation);
            const REAL result = NAME(fold_taps)(reduction, columns, taps, dilation);
            out[q * stride] = reduction == MEAN ? NAME(quotient)(result, divisor) : result;
            q++;
            continue;
        }
        VECTOR result = NAME(splat)(NAME(start)(reduction));
        for (int64_t s = 0; s < pooling->taps; s++) {
            const REAL *tap = columns + s * dilation;
            const VECTOR value = pooling->step == 1 ? NAME(load)(tap)
                : pooling->step == 2                ? NAME(load_strided)(tap, 2)
                : pooling->step == 4                ? NAME(every_fourth)(tap)
                                                    : NAME(load_strided)(tap, pooling->step);
            result = NAME(fold)(reduction, result, value);
        }
        if (reduction == MEAN)
            result = NAME(divide)(result, divisor);
        NAME(store_strided)(out + q * stride, stride, result, LANES);
        q += LANES;
    }
    return end;
}

#include "pool_rows.h"
#include "pool_channels.h"
#include "pool_slide.h"

/* A row of windows that are empty. */
INLINE void NAME(clear_row)(const int reduction, REAL *out, const Pooling *pooling,
                            const Window *window, int64_t channels)
{
    for (int64_t q = 0; q < pooling->problem.q; q++) {
        REAL value = NAME(start)(reduction);
        if (reduction == MEAN)
            value = NAME(quotient)(value, divisor_of(pooling, window, q));
        for (int64_t c = 0; c < channels; c++)
            out[q * pooling->out.w + c] = value;
    }
}

/* Tasks begin .. end-1. */
INLINE void NAME(fold_tasks)(const int reduction, REAL *out, const REAL *x, const Pooling *pooling,
                             int64_t begin, int64_t end)
{
    /* Vectors may be read beyond the columns. */
    REAL kept[COLUMNS + LANES];
    const int few = pooling->problem.q < LANES
        && pooling->problem.w <= COLUMNS / (2 * LANES) - LANES;
    const int64_t widest = pooling->channels_last ? widest_of(pooling) : 0;
    Row row = row_of(pooling, begin);
    while (begin < end) {
        int64_t offset, q = 0, rows = 1;
        const int64_t channels = channels_from(pooling, row, end - begin);
        const Window window = window_of(pooling, row, &offset);
        const REAL *from = x + offset;
        REAL *to = out + offset_of(&pooling->out, row);
        if (window.d == 0 || window.h == 0)
            NAME(clear_row)(reduction, to, pooling, &window, channels);
        else if (pooling->channels_last)
            NAME(fold_channels)(reduction, to, from, kept, pooling, &window, channels, widest);
        else if (pooling->slides && window.d * window.h <= SLIDE_TAPS) {
            rows = rows_alike(pooling, row, end - begin);
            NAME(slide_rows)(reduction, to, from, pooling, &window, rows);
        } else if (few && end - begin >= LANES) {
            if (reduction == MEAN)
                NAME(mean_of_rows)(out, x, kept, pooling, &window, offset, row);
            else
                NAME(max_of_rows)(out, x, kept, pooling, &window, offset, row);
            rows = LANES;
        } else
            while (q < pooling->problem.q)
                q = NAME(fold_stretch)(reduction, to, from, kept, pooling, &window, q);
        begin += rows * channels;
        row = row_after(pooling, row, rows);
    }
}

LOOP void NAME(max_rows)(REAL *out, const REAL *x, const Pooling *pooling, int64_t begin,
                         int64_t end)
{
    NAME(fold_tasks)(MAX, out, x, pooling, begin, end);
}

LOOP void NAME(mean_rows)(REAL *out, const REAL *x, const Pooling *pooling, int64_t begin,
                          int64_t end)
{
    NAME(fold_tasks)(MEAN, out, x, pooling, begin, end);
}

#include "argmax.h"
#undef COLUMNS
