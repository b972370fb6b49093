/* The loops of the direct row. Included once per dtype and instruction set (instruction_sets.h). */
#ifndef DIRECT_CHANNELS
#define DIRECT_CHANNELS 4

/* How a copy lies in memory, [channel][phase of rows][phase of columns][plane], a plane's rows
 * `pitch` apart and `rest` zeros behind them, and what it is a copy of. */
typedef struct {
    int64_t pitch, plane, rest, phases_h, phases_w, channels, rows;
    int64_t x_c, x_h, x_w, stride_h, stride_w;
    int64_t at_h, at_w, h, w;
} Copy;

/* What lies under output rows: taps, how far apart they and the rows are in memory, and, to tell
 * what is padding, in the input, where tap 0 of the first output is at (at_d, at_h). */
typedef struct {
    int64_t t, r;
    int64_t x_t, x_r, x_p;
    int64_t at_d, at_h, d, h;
    int64_t dilation_d, dilation_h, stride;
} Window;

/* Where sums go; if `streaming`, whole vectors past the caches. */
typedef struct {
    int64_t k, p, q;
    int64_t activation, streaming;
} Target;

#define copy_plane(to, x, copy) SELECT(copy_plane, to)(to, x, copy)
#endif

/* GCC loads again for every use what it sees to be in memory. */
#undef KEEP_IN_REGISTER
#if HAS_AVX2
#define KEEP_IN_REGISTER(vector) __asm__("" : "+v"(vector))
#else
#define KEEP_IN_REGISTER(vector) (void)(vector)
#endif

#include "chosen.h"

/* Whether a row of the input is inside of it. */
INLINE int NAME(has_row)(const Window *window, int64_t d, int64_t h)
{
    return (uint64_t)d < (uint64_t)window->d && (uint64_t)h < (uint64_t)window->h;
}

/* LANES columns of a row of the input from `at` on, zeros outside. */
INLINE VECTOR NAME(load_row)(const REAL *x, int64_t at, int64_t size)
{
    if (at >= 0 && at + LANES <= size)
        return NAME(load)(x + at);
    return NAME(load_chosen)(x + at, 1, NAME(choose_between)(0, size, at));
}

/* Copy a row of the input: column j of phase f is column at_w + j * stride_w + f. Up to a vector
 * more than `pitch` is written. */
INLINE void NAME(copy_row)(REAL *to, const REAL *x, const Copy *copy)
{
    const int64_t stride = copy->stride_w, size = copy->w;
    if (copy->x_w == 1 && stride <= 2) {
        for (int64_t j = 0; j < copy->pitch; j += LANES) {
            const int64_t at = copy->at_w + j * stride;
            const VECTOR low = NAME(load_row)(x, at, size);
            if (stride == 1) {
                NAME(store)(to + j, low);
                continue;
            }
            const VECTOR high = NAME(load_row)(x, at + LANES, size);
            NAME(store)(to + j, NAME(even)(low, high));
            if (copy->phases_w == 2)
                NAME(store)(to + copy->plane + j, NAME(odd)(low, high));
        }
        return;
    }
    for (int64_t f = 0; f < copy->phases_w; f++, to += copy->plane)
        for (int64_t j = 0; j < copy->pitch; j++) {
            const int64_t at = copy->at_w + j * stride + f;
            to[j] = (uint64_t)at < (uint64_t)size ? x[at * copy->x_w] : 0;
        }
}

/* Copy rows of all channels; `x` is NULL for a plane of padding. */
LOOP void NAME(copy_plane)(REAL *to, const REAL *x, const Copy *copy)
{
    for (int64_t c = 0; c < copy->channels; c++, x += x ? copy->x_c : 0)
        for (int64_t phase = 0; phase < copy->phases_h; phase++, to += copy->phases_w * copy->plane) {
            REAL *row = to;
            for (int64_t i = phase; i < copy->rows; i += copy->stride_h, row += copy->pitch) {
                const int64_t h = copy->at_h + i;
                if (x && h >= 0 && h < copy->h)
                    NAME(copy_row)(row, x + h * copy->x_h, copy);
                else
                    for (int64_t f = 0; f < copy->phases_w; f++)
                        memset(row + f * copy->plane, 0, copy->pitch * sizeof(REAL));
            }
            for (int64_t f = 0; f < copy->phases_w; f++)
                memset(row + f * copy->plane, 0, copy->rest * sizeof(REAL));
        }
}

#include "direct_flat.h"
#include "direct_rows.h"
#include "direct_3x3.h"
#include "direct_channels.h"
