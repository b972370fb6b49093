/* The loops of the pooling rows: windows of one shape, evenly apart, along an output row.
 *
 * Included once per dtype and instruction set (instruction_sets.h).
 */
#ifndef CNNFAST_POOLING_H
#define CNNFAST_POOLING_H

enum { MAX, MEAN, ARGMAX };

/* d x h x w taps, and what a step along each moves in x and in the flat index of a plane. */
typedef struct {
    int64_t d, h, w;
    int64_t x_d, x_h, x_w;
    int64_t index_d, index_h, index_w;
} Window;

#define max_row(out, out_stride, columns, x, x_stride, window) \
    SELECT(max_row, out)(out, out_stride, columns, x, x_stride, window)
#define mean_row(out, out_stride, columns, x, x_stride, window, divisor) \
    SELECT(mean_row, out)(out, out_stride, columns, x, x_stride, window, divisor)
#define argmax_row(out, out_stride, columns, x, x_stride, window, indices, indices_stride, first, \
                   step) \
    SELECT(argmax_row, out)(out, out_stride, columns, x, x_stride, window, indices, \
                            indices_stride, first, step)
#define spread_row(x, x_stride, columns, grad, grad_stride, window, divisor) \
    SELECT(spread_row, x)(x, x_stride, columns, grad, grad_stride, window, divisor)

/* Gradients of a row divided at a time. */
enum { SPREAD_COLUMNS = 128 };
#endif

/* Reduce LANES windows that begin `x_stride` apart; `found` is where ARGMAX found its value, as a
 * flat index counted from the window's first tap, less than 2^31. */
INLINE VECTOR NAME(reduce)(const int reduction, const REAL *x, int64_t x_stride,
                           const Window *window, MASK *found)
{
    VECTOR result = NAME(splat)(reduction == MEAN ? 0 : LEAST);
    for (int64_t d = 0; d < window->d; d++)
        for (int64_t h = 0; h < window->h; h++) {
            const REAL *row = x + d * window->x_d + h * window->x_h;
            const int64_t index = d * window->index_d + h * window->index_h;
            for (int64_t w = 0; w < window->w; w++) {
                const VECTOR value = NAME(load_strided)(row + w * window->x_w, x_stride);
                /* NaN beats everything, and nothing but NaN beats NaN. */
                const MASK beats = (MASK)(value > result) | NAME(is_nan)(value);
                if (reduction == MEAN)
                    result += value;
                else
                    result = NAME(choose)(beats, value, result);
                if (reduction == ARGMAX) {
                    const MASK here = (MASK){0} + (LANE)(index + w * window->index_w);
                    *found = (here & beats) | (*found & ~beats);
                }
            }
        }
    return result;
}

/* One maximum, and where it is counted from the window's first tap, for windows that span more of a
 * plane than a LANE can count. */
INLINE REAL NAME(far_maximum)(const REAL *x, const Window *window, int64_t *found)
{
    REAL result = LEAST;
    *found = 0;
    for (int64_t d = 0; d < window->d; d++)
        for (int64_t h = 0; h < window->h; h++)
            for (int64_t w = 0; w < window->w; w++) {
                const REAL value = x[d * window->x_d + h * window->x_h + w * window->x_w];
                if (value > result || value != value) {
                    result = value;
                    *found = d * window->index_d + h * window->index_h + w * window->index_w;
                }
            }
    return result;
}

/* Reduce `columns` windows: by vectors, of which the last begins early enough to end with the row,
 * or, where there are fewer, one by one. Windows begin `step` apart in the input row, the first at
 * the flat index `first`. */
INLINE void NAME(pool_row)(const int reduction, REAL *out, int64_t out_stride, int64_t columns,
                           const REAL *x, int64_t x_stride, const Window *window, int64_t divisor,
                           int64_t *indices, int64_t indices_stride, int64_t first, int64_t step)
{
    const int64_t lanes = columns < LANES ? 1 : LANES;
    const int empty = window->d == 0 || window->h == 0 || window->w == 0;
    const int64_t span = (window->d - 1) * window->index_d + (window->h - 1) * window->index_h
        + (window->w - 1) * window->index_w;
    if (reduction == ARGMAX && !empty && span > INT32_MAX) {
        for (int64_t q = 0; q < columns; q++) {
            int64_t found;
            out[q * out_stride] = NAME(far_maximum)(x + q * x_stride, window, &found);
            indices[q * indices_stride] = first + q * step + found;
        }
        return;
    }
    for (int64_t i = 0; i < columns; i += lanes) {
        const int64_t q = i + lanes <= columns ? i : columns - lanes;
        const REAL *at = x + q * x_stride;
        MASK found = {0};
        VECTOR result;
        if (lanes == 1)
            result = NAME(reduce)(reduction, at, 0, window, &found);
        else if (x_stride == 1)
            result = NAME(reduce)(reduction, at, 1, window, &found);
        else if (x_stride == 2)
            result = NAME(reduce)(reduction, at, 2, window, &found);
        else
            result = NAME(reduce)(reduction, at, x_stride, window, &found);
        if (reduction == MEAN)
            result = NAME(divide)(result, divisor);
        NAME(store_strided)(out + q * out_stride, out_stride, result, lanes);
        if (reduction == ARGMAX)
            for (int64_t lane = 0; lane < lanes; lane++)
                indices[(q + lane) * indices_stride] =
                    empty ? -1 : first + (q + lane) * step + found[lane];
    }
}

LOOP void NAME(max_row)(REAL *out, int64_t out_stride, int64_t columns, const REAL *x,
                        int64_t x_stride, const Window *window)
{
    NAME(pool_row)(MAX, out, out_stride, columns, x, x_stride, window, 1, NULL, 0, 0, 0);
}

LOOP void NAME(mean_row)(REAL *out, int64_t out_stride, int64_t columns, const REAL *x,
                         int64_t x_stride, const Window *window, int64_t divisor)
{
    NAME(pool_row)(MEAN, out, out_stride, columns, x, x_stride, window, divisor, NULL, 0, 0, 0);
}

LOOP void NAME(argmax_row)(REAL *out, int64_t out_stride, int64_t columns, const REAL *x,
                           int64_t x_stride, const Window *window, int64_t *indices,
                           int64_t indices_stride, int64_t first, int64_t step)
{
    NAME(pool_row)(ARGMAX, out, out_stride, columns, x, x_stride, window, 1, indices,
                   indices_stride, first, step);
}

/* to[i * stride] += from[i * from_stride] for i < count. */
INLINE void NAME(add_run)(REAL *restrict to, int64_t stride, const REAL *restrict from,
                          int64_t from_stride, int64_t count)
{
    if (stride == 1)
        for (int64_t i = 0; i < count; i++)
            to[i] += from[i * from_stride];
    else
        for (int64_t i = 0; i < count; i++)
            to[i * stride] += from[i * from_stride];
}

/* Add grad[q * grad_stride] / divisor to every tap of window q, for q < columns. A place gets its
 * gradients in the order of q: the last tap of all windows comes first. */
LOOP void NAME(spread_row)(REAL *x, int64_t x_stride, int64_t columns, const REAL *grad,
                           int64_t grad_stride, const Window *window, int64_t divisor)
{
    REAL share[SPREAD_COLUMNS];
    for (int64_t first = 0; first < columns; first += SPREAD_COLUMNS) {
        const int64_t left = columns - first;
        const int64_t count = left < SPREAD_COLUMNS ? left : SPREAD_COLUMNS;
        for (int64_t q = 0; q < count; q++)
            share[q] = grad[(first + q) * grad_stride] / (REAL)divisor;
        for (int64_t d = 0; d < window->d; d++)
            for (int64_t h = 0; h < window->h; h++) {
                REAL *row = x + first * x_stride + d * window->x_d + h * window->x_h;
                if (count == 1)
                    NAME(add_run)(row, window->x_w, share, 0, window->w);
                else
                    for (int64_t w = window->w - 1; w >= 0; w--)
                        NAME(add_run)(row + w * window->x_w, x_stride, share, 1, count);
            }
    }
}
