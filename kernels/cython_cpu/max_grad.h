/* Maximum pooling's adjoint from its input, included by pool_grad.h: a plane's maxima are found a row
 * at a time, and the gradients put to their places while these are in cache. In a `Pooling` that is
 * read x is the forward pooling's input, in one that is written the gradient of it. */

#include "argmax.h"

/* Windows of two columns over whole rows, none of which shares a row with another one: the gradients of
 * `lanes` of them, and zeros to their other taps. */
INLINE void NAME(place_lanes)(REAL *to, const REAL *grad, const REAL *x, const Window *written,
                              const Window *read, int64_t lanes)
{
    const int64_t low = 2 * lanes < LANES ? 2 * lanes : LANES, high = 2 * lanes - low;
    const VECTOR share = NAME(load_first)(grad, lanes) + NAME(splat)(0);
    VECTOR best = NAME(splat)(LEAST);
    MASK found = {0}, second;
    for (int64_t d = 0; d < read->d; d++)
        for (int64_t h = 0; h < read->h; h++) {
            const REAL *row = x + d * read->x_d + h * read->x_h;
            const VECTOR left = NAME(load_first)(row, low);
            const VECTOR right = NAME(load_first)(row + low, high);
            const MASK tap = (MASK){0} + (LANE)(2 * (d * read->h + h));
            NAME(keep_larger)(NAME(even)(left, right), tap, &best, &found);
            NAME(keep_larger)(NAME(odd)(left, right), tap + 1, &best, &found);
        }
    for (int lane = 0; lane < LANES; lane++)
        second[lane] = lane % 2;
    const MASK left = (MASK)NAME(twice_low)((VECTOR)found) - second;
    const MASK right = (MASK)NAME(twice_high)((VECTOR)found) - second;
    const VECTOR left_share = NAME(twice_low)(share), right_share = NAME(twice_high)(share);
    for (int64_t d = 0; d < read->d; d++)
        for (int64_t h = 0; h < read->h; h++) {
            REAL *row = to + d * written->x_d + h * written->x_h;
            const LANE tap = 2 * (d * read->h + h);
            NAME(store_first)(row, NAME(choose)(left == tap, left_share, (VECTOR){0}), low);
            NAME(store_first)(row + low, NAME(choose)(right == tap, right_share, (VECTOR){0}),
                              high);
        }
}

/* Planes of such windows: every element is written once. */
INLINE void NAME(place_planes)(REAL *to, const REAL *grad, const REAL *x, const Pooling *writing,
                               const Pooling *reading)
{
    const PoolProblem *problem = &reading->problem;
    const int64_t columns = problem->q, rest = problem->w - 2 * columns;
    int64_t done_d = 0;
    Row row = {0};
    for (; row.o < problem->o; row.o++) {
        const int64_t *in_d = reading->windows + 3 * row.o;
        int64_t done_h = 0;
        for (; done_d < in_d[0]; done_d++)
            NAME(clear_rows)(to, writing, done_d, 0, problem->h, 1);
        for (row.p = 0; row.p < problem->p; row.p++) {
            const int64_t *in_h = reading->windows + 3 * (problem->o + row.p);
            int64_t from, at;
            const Window read = window_of(reading, row, &from);
            const Window written = window_of(writing, row, &at);
            const REAL *share = grad + row.o * writing->out.d + row.p * writing->out.h;
            for (int64_t d = in_d[0]; d < in_d[1]; d++)
                NAME(clear_rows)(to, writing, d, done_h, in_h[0], 1);
            int64_t q = 0;
            for (; q + LANES <= columns; q += LANES)
                NAME(place_lanes)(to + at + 2 * q, share + q, x + from + 2 * q, &written, &read,
                                  LANES);
            if (q < columns)
                NAME(place_lanes)(to + at + 2 * q, share + q, x + from + 2 * q, &written, &read,
                                  columns - q);
            for (int64_t d = 0; d < written.d && rest; d++)
                for (int64_t h = 0; h < written.h; h++)
                    memset(to + at + d * written.x_d + h * written.x_h + 2 * columns, 0,
                           rest * sizeof(REAL));
            done_h = in_h[1];
        }
        for (; done_d < in_d[1]; done_d++)
            NAME(clear_rows)(to, writing, done_d, done_h, problem->h, 1);
    }
    for (; done_d < problem->d; done_d++)
        NAME(clear_rows)(to, writing, done_d, 0, problem->h, 1);
}

/* Find the maxima of some planes, KEPT_PLACES at most, and add every gradient to its maximum's place,
 * in the order o, p, q. Rows are filled with zeros just before the first window that reaches them. */
LOOP void NAME(find_and_scatter)(REAL *to, const REAL *grad, const REAL *x, const Pooling *writing,
                                 const Pooling *reading, int64_t channels, int apart)
{
    const PoolProblem *problem = &reading->problem;
    const int flat = is_flat(writing);
    const int64_t all = problem->d * problem->h, most = KEPT_PLACES / channels;
    int64_t places[KEPT_PLACES], rows = 0;
    Row row = {0};
    if (apart) {
        NAME(place_planes)(to, grad, x, writing, reading);
        return;
    }
    Pooling find = *reading, scatter = *writing;
    find.indices.w = scatter.indices.w = channels;
    for (; row.o < problem->o; row.o++)
        for (row.p = 0; row.p < problem->p; row.p++) {
            const int64_t end_d = reading->windows[3 * row.o + 1];
            const int64_t end_h = reading->windows[3 * (problem->o + row.p) + 1];
            const int64_t end = (end_d - 1) * problem->h + end_h;
            const REAL *share = grad + row.o * writing->out.d + row.p * writing->out.h;
            int64_t offset;
            const Window window = window_of(reading, row, &offset);
            if (window.d == 0 || window.h == 0)
                continue;
            for (; rows < end; rows++)
                NAME(clear_rows)(to, writing, rows / problem->h, rows % problem->h,
                                 rows % problem->h + 1, channels);
            for (int64_t q = 0, count; q < problem->q; q += count) {
                count = problem->q - q < most ? problem->q - q : most;
                if (channels > 1)
                    NAME(find_pixels)(NULL, x + offset, places, &find, &window, channels, q,
                                      q + count);
                else
                    NAME(find_row)(NULL, x + offset, places, &find, &window, q, q + count);
                NAME(scatter_row)(to, share + q * writing->out.w, places, &scatter, flat, channels,
                                  count);
            }
        }
    for (; rows < all; rows++)
        NAME(clear_rows)(to, writing, rows / problem->h, rows % problem->h,
                         rows % problem->h + 1, channels);
}
