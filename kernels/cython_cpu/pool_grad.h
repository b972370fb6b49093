/* The loops of pooling's adjoints: gradients scattered to where maxima were, or spread over windows.
 *
 * In a `Pooling` x is the gradient that is written, out the one that is read. `channels` planes are
 * filled at once: one, or several that lie side by side.
 * Included once per dtype and instruction set (instruction_sets.h).
 */
#ifndef CNNFAST_POOL_GRAD_H
#define CNNFAST_POOL_GRAD_H

#include "pool_windows.h"

/* Columns of a row that are kept: the shares of gradients, and their sums. */
enum { KEPT_COLUMNS = 1024 };
/* Places of maxima that are found, and kept, at a time. */
enum { KEPT_PLACES = 1024 };

#define scatter_planes(x, grad, indices, pooling, channels) \
    SELECT(scatter_planes, x)(x, grad, indices, pooling, channels)
#define find_and_scatter(to, grad, x, writing, reading, channels, apart) \
    SELECT(find_and_scatter, to)(to, grad, x, writing, reading, channels, apart)
#define spread_planes(x, grad, pooling, channels) \
    SELECT(spread_planes, x)(x, grad, pooling, channels)

/* Whether an index of a plane times a stride is a place in memory. */
static inline int is_flat(const Pooling *pooling)
{
    const PoolProblem *problem = &pooling->problem;
    const Strides *by = &pooling->x;
    return (problem->h == 1 || by->h == problem->w * by->w)
        && (problem->d == 1 || by->d == problem->h * problem->w * by->w);
}

/* Whether no two of an axis' windows share a tap, and none is empty. */
static inline int side_by_side(const int64_t *window, int64_t count)
{
    for (int64_t i = 0; i < count; i++, window += 3)
        if (window[1] <= window[0] || (i > 0 && window[0] < window[-2]))
            return 0;
    return 1;
}

/* Whether windows are two columns wide, side by side from the first column on, in memory without
 * gaps. `reading` has the forward pooling's input for x, `writing` its gradient. */
static inline int are_apart(const Pooling *reading, const Pooling *writing)
{
    const PoolProblem *problem = &reading->problem;
    return problem->dilation_d == 1 && problem->dilation_h == 1 && problem->dilation_w == 1
        && reading->x.w == 1 && writing->x.w == 1 && writing->out.w == 1 && reading->first == 0
        && reading->end == problem->q && reading->step == 2 && reading->taps == 2
        && reading->in_w[0] == 0 && side_by_side(reading->windows, problem->o)
        && side_by_side(reading->windows + 3 * problem->o, problem->p);
}
#endif

/* Fill rows begin .. end-1 of slice d with zeros. */
INLINE void NAME(clear_rows)(REAL *x, const Pooling *pooling, int64_t d, int64_t begin,
                             int64_t end, int64_t channels)
{
    const Strides *by = &pooling->x;
    for (int64_t h = begin; h < end; h++) {
        REAL *row = x + d * by->d + h * by->h;
        if (by->w == channels)
            memset(row, 0, pooling->problem.w * channels * sizeof(REAL));
        else
            for (int64_t w = 0; w < pooling->problem.w; w++)
                for (int64_t c = 0; c < channels; c++)
                    row[w * by->w + c] = 0;
    }
}

/* The largest of a row's indices, or -1. */
INLINE int64_t NAME(last_place)(const int64_t *places, int64_t stride, int64_t columns,
                                int64_t channels)
{
    int64_t last = -1;
    if (stride == channels || columns == 1) {
        columns *= channels;
        stride = channels = 1;
    }
    if (stride == 1 && channels == 1)
        for (int64_t i = 0; i < columns; i++)
            last = places[i] > last ? places[i] : last;
    else
        for (int64_t q = 0; q < columns; q++)
            for (int64_t c = 0; c < channels; c++)
                last = places[q * stride + c] > last ? places[q * stride + c] : last;
    return last;
}

/* Where an index is in memory. */
INLINE int64_t NAME(place_of)(const Pooling *pooling, int64_t index)
{
    const int64_t width = pooling->problem.w, height = pooling->problem.h;
    return index / (height * width) * pooling->x.d + index / width % height * pooling->x.h
        + index % width * pooling->x.w;
}

/* Add `columns` gradients of a row to their places; `flat` says that these are indices times a stride. */
INLINE void NAME(scatter_row)(REAL *x, const REAL *grad, const int64_t *places,
                              const Pooling *pooling, int flat, int64_t channels,
                              int64_t columns)
{
    const uint64_t size = pooling->problem.d * pooling->problem.h * pooling->problem.w;
    const int64_t stride = pooling->x.w;
    const int64_t grad_w = pooling->out.w, places_w = pooling->indices.w;
    if (flat && channels == 1) {
        for (int64_t q = 0; q < columns; q++)
            if ((uint64_t)places[q * places_w] < size)
                x[places[q * places_w] * stride] += grad[q * grad_w];
        return;
    }
    for (int64_t q = 0; q < columns; q++)
        for (int64_t c = 0; c < channels; c++) {
            const int64_t place = places[q * places_w + c];
            if ((uint64_t)place < size)
                x[(flat ? place * stride : NAME(place_of)(pooling, place)) + c] +=
                    grad[q * grad_w + c];
        }
}

/* Add every gradient of some planes to the place that its index says, in the order o, p, q. Rows
 * are filled with zeros just before the first of their places is met. */
LOOP void NAME(scatter_planes)(REAL *x, const REAL *grad, const int64_t *indices,
                               const Pooling *pooling, int64_t channels)
{
    const PoolProblem problem = pooling->problem;
    const Strides out = pooling->out, in = pooling->indices;
    const int flat = is_flat(pooling);
    const int64_t all = problem.d * problem.h;
    int64_t rows = 0;
    for (int64_t o = 0; o < problem.o; o++)
        for (int64_t p = 0; p < problem.p; p++) {
            const int64_t *places = indices + o * in.d + p * in.h;
            const int64_t last = NAME(last_place)(places, in.w, problem.q, channels);
            for (; rows < all && rows * problem.w <= last; rows++)
                NAME(clear_rows)(x, pooling, rows / problem.h, rows % problem.h,
                                 rows % problem.h + 1, channels);
            NAME(scatter_row)(x, grad + o * out.d + p * out.h, places, pooling, flat, channels,
                              problem.q);
        }
    for (; rows < all; rows++)
        NAME(clear_rows)(x, pooling, rows / problem.h, rows % problem.h, rows % problem.h + 1,
                         channels);
}

#include "max_grad.h"

/* What a row of gradients gives to one column, in the order of q. `first` is the first window that ends
 * behind the column. */
INLINE VECTOR NAME(gather_shares)(const REAL *grad, const Pooling *pooling, const Window *window,
                                  int64_t w, int64_t first, int64_t lanes)
{
    const int64_t dilation = pooling->problem.dilation_w;
    VECTOR sum = {0};
    /* Windows that were cut off in front may begin behind the next one, less than a dilation. */
    for (int64_t q = first; q < pooling->problem.q; q++) {
        const int64_t *in_w = pooling->in_w + 3 * q;
        if (in_w[0] > w && in_w[0] >= dilation)
            break;
        if (in_w[0] > w || in_w[1] <= w || (dilation > 1 && (w - in_w[0]) % dilation))
            continue;
        const REAL *at = grad + q * pooling->out.w;
        const VECTOR value = lanes == LANES ? NAME(load)(at) : NAME(load_first)(at, lanes);
        sum += NAME(divide)(value, divisor_of(pooling, window, q));
    }
    return sum;
}

/* Add a row's sums of shares to the rows of x that its windows hold, or write them to those that
 * are new: slices from `new_d` on, there rows from `new_h` on. */
INLINE void NAME(add_to_rows)(REAL *x, VECTOR sum, const Window *window, int64_t new_d,
                              int64_t new_h, int64_t lanes)
{
    for (int64_t d = 0; d < window->d; d++)
        for (int64_t h = 0; h < window->h; h++) {
            REAL *at = x + d * window->x_d + h * window->x_h;
            const int is_new = d >= new_d && h >= new_h;
            if (lanes == LANES)
                NAME(store)(at, is_new ? sum : NAME(load)(at) + sum);
            else
                NAME(store_first)(at, is_new ? sum : NAME(load_first)(at, lanes) + sum, lanes);
        }
}

/* One row of gradients, any strides: column after column. */
INLINE void NAME(spread_columns)(REAL *x, const REAL *grad, const Pooling *pooling,
                                 const Window *window, int64_t new_d, int64_t new_h,
                                 int64_t channels)
{
    int64_t first = 0;
    for (int64_t w = 0; w < pooling->problem.w; w++) {
        while (first < pooling->problem.q && pooling->in_w[3 * first + 1] <= w)
            first++;
        for (int64_t c = 0; c < channels; c += LANES) {
            REAL *to = x + w * pooling->x.w + c;
            const int64_t lanes = channels - c;
            if (lanes >= LANES)
                NAME(add_to_rows)(
                    to, NAME(gather_shares)(grad + c, pooling, window, w, first, LANES), window,
                    new_d, new_h, LANES);
            else
                NAME(add_to_rows)(
                    to, NAME(gather_shares)(grad + c, pooling, window, w, first, lanes), window,
                    new_d, new_h, lanes);
        }
    }
}

/* The shares of a row's gradients, which lie side by side, and for every column the sum of those
 * that it gets. */
INLINE void NAME(sum_shares)(REAL *sums, REAL *shares, const REAL *grad, const Pooling *pooling,
                             const Window *window)
{
    const int64_t columns = pooling->problem.q, step = pooling->step;
    const int apart = step == pooling->taps && pooling->first == 0 && pooling->end == columns;
    const int64_t divisor = divisor_of(pooling, window, pooling->first);
    for (int64_t q = pooling->first; q < pooling->end; q += LANES) {
        const int64_t lanes = pooling->end - q < LANES ? pooling->end - q : LANES;
        const VECTOR share = NAME(divide)(NAME(load_first)(grad + q, lanes), divisor);
        if (apart && step == 2) {
            /* The row of sums is a vector longer than it has to be. */
            NAME(store)(sums + 2 * q, NAME(twice_low)(share) + NAME(splat)(0));
            NAME(store)(sums + 2 * q + LANES, NAME(twice_high)(share) + NAME(splat)(0));
        } else
            NAME(store)(shares + q, share);
    }
    if (apart && step == 2) {
        for (int64_t w = 2 * columns; w < pooling->problem.w; w++)
            sums[w] = 0;
        return;
    }
    memset(sums, 0, pooling->problem.w * sizeof(REAL));
    for (int64_t q = 0; q < columns; q++) {
        const int64_t *in_w = pooling->in_w + 3 * q;
        if (q == pooling->first && pooling->end - q > 1) {
            /* A column gets its shares in the order of q: the last taps come first. */
            for (int64_t s = pooling->taps - 1; s >= 0; s--) {
                REAL *to = sums + in_w[0] + s;
                const REAL *of = shares + q;
                const int64_t count = pooling->end - q;
                if (step == 1)
                    for (int64_t i = 0; i < count; i++)
                        to[i] += of[i];
                else if (step == 2)
                    for (int64_t i = 0; i < count; i++)
                        to[2 * i] += of[i];
                else
                    for (int64_t i = 0; i < count; i++)
                        to[i * step] += of[i];
            }
            q = pooling->end - 1;
            continue;
        }
        const REAL share = grad[q] / (REAL)divisor_of(pooling, window, q);
        for (int64_t w = in_w[0]; w < in_w[1]; w++)
            sums[w] += share;
    }
}

/* One row of gradients; `sums` and `shares` are kept columns. */
INLINE void NAME(spread_row)(REAL *x, const REAL *grad, const Pooling *pooling,
                             const Window *window, int64_t new_d, int64_t new_h, int64_t channels,
                             REAL *sums, REAL *shares)
{
    const int64_t width = pooling->problem.w;
    if (channels > 1 || pooling->x.w != 1 || pooling->out.w != 1 || width > KEPT_COLUMNS
        || pooling->problem.q > KEPT_COLUMNS || pooling->problem.dilation_w != 1) {
        NAME(spread_columns)(x, grad, pooling, window, new_d, new_h, channels);
        return;
    }
    NAME(sum_shares)(sums, shares, grad, pooling, window);
    for (int64_t w = 0; w < width; w += LANES)
        if (width - w >= LANES)
            NAME(add_to_rows)(x + w, NAME(load)(sums + w), window, new_d, new_h, LANES);
        else
            NAME(add_to_rows)(x + w, NAME(load)(sums + w), window, new_d, new_h, width - w);
}

/* Spread the gradients of some planes over their windows. What windows share is written by the
 * first of them and added to by the others; rows between windows are filled with zeros. */
LOOP void NAME(spread_planes)(REAL *x, const REAL *grad, const Pooling *pooling, int64_t channels)
{
    REAL sums[KEPT_COLUMNS + 2 * LANES], shares[KEPT_COLUMNS + LANES];
    const PoolProblem *problem = &pooling->problem;
    const int dense = problem->dilation_d == 1 && problem->dilation_h == 1;
    int64_t done_d = 0;
    if (!dense)
        for (; done_d < problem->d; done_d++)
            NAME(clear_rows)(x, pooling, done_d, 0, problem->h, channels);
    Row row = {0};
    for (; row.o < problem->o; row.o++) {
        const int64_t *in_d = pooling->windows + 3 * row.o;
        const int64_t end_d = in_d[1] > done_d ? in_d[1] : done_d;
        int64_t done_h = 0;
        for (; done_d < in_d[0] && done_d < problem->d; done_d++)
            NAME(clear_rows)(x, pooling, done_d, 0, problem->h, channels);
        for (row.p = 0; row.p < problem->p; row.p++) {
            const int64_t *in_h = pooling->windows + 3 * (problem->o + row.p);
            int64_t offset;
            const Window window = window_of(pooling, row, &offset);
            for (int64_t d = done_d; d < end_d; d++)
                NAME(clear_rows)(x, pooling, d, done_h, in_h[0] < problem->h ? in_h[0] : problem->h, channels);
            if (window.d > 0 && window.h > 0)
                NAME(spread_row)(
                    x + offset, grad + row.o * pooling->out.d + row.p * pooling->out.h, pooling,
                    &window, done_d - in_d[0], done_h - in_h[0], channels, sums, shares);
            done_h = in_h[1] > done_h ? in_h[1] : done_h;
        }
        for (; done_d < end_d; done_d++)
            NAME(clear_rows)(x, pooling, done_d, done_h, problem->h, channels);
    }
    for (; done_d < problem->d; done_d++)
        NAME(clear_rows)(x, pooling, done_d, 0, problem->h, channels);
}
