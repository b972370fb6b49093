/* A pooling as its loops see it: the problem, the memory, the windows and what they have in common. */
#ifndef CNNFAST_POOL_WINDOWS_H
#define CNNFAST_POOL_WINDOWS_H

#include <stdint.h>

/* As the named tuple in problem.py. */
typedef struct {
    int64_t n, c;
    int64_t d, h, w;
    int64_t o, p, q;
    int64_t dilation_d, dilation_h, dilation_w;
    int64_t divisor;
} PoolProblem;

/* In elements; of an array of outputs d, h, w are o, p, q. */
typedef struct {
    int64_t n, c, d, h, w;
} Strides;

/* Windows first .. end-1 of an axis have `taps` taps and one extent, and begin `step` apart. */
typedef struct {
    int64_t first, end, step, taps;
} Stretch;

typedef struct {
    PoolProblem problem;
    Strides x, out, indices;
    /* First tap, end and extent of every window, by axes; the rows of the last one. */
    const int64_t *windows, *in_w;
    /* Output columns first .. end-1 have windows of `taps` taps and one extent, `step` apart. */
    int64_t first, end, step, taps;
    /* Output rows of a slice of which the same is true. */
    Stretch rows;
    /* 1 + how far in front of the input's columns the first window begins, where all windows are
     * such ones, cut off at the borders, in memory without gaps; 0 where they aren't. */
    int64_t slides;
    int64_t channels_last;
} Pooling;

/* How many taps a window has along its axis. */
static inline int64_t taps_of(const int64_t *window, int64_t dilation)
{
    const int64_t span = window[1] - window[0];
    return dilation == 1 ? span : (span + dilation - 1) / dilation;
}

/* The longest stretch of an axis' `count` windows that are alike. */
static inline Stretch stretch_of(const int64_t *windows, int64_t count, int64_t dilation)
{
    Stretch longest = {0};
    for (int64_t first = 0, end; first < count; first = end) {
        const int64_t *window = windows + 3 * first, *next = window + 3;
        const int64_t step = first + 1 < count ? next[0] - window[0] : 0;
        for (end = first + 1; end < count; end++, next += 3)
            if (next[0] - next[-3] != step || next[1] - next[0] != window[1] - window[0]
                || next[2] != window[2])
                break;
        if (end - first > longest.end - longest.first)
            longest = (Stretch){first, end, step, taps_of(window, dilation)};
    }
    return longest;
}

/* Fills in the longest stretches of output columns and rows. */
static inline void find_stretch(Pooling *pooling)
{
    const PoolProblem *problem = &pooling->problem;
    const Stretch columns = stretch_of(pooling->in_w, problem->q, problem->dilation_w);
    pooling->first = columns.first;
    pooling->end = columns.end;
    pooling->step = columns.step;
    pooling->taps = columns.taps;
    pooling->rows = stretch_of(pooling->windows + 3 * problem->o, problem->p, problem->dilation_h);
}

/* The columns that the widest window spans. */
static inline int64_t widest_of(const Pooling *pooling)
{
    int64_t widest = 0;
    for (int64_t q = 0; q < pooling->problem.q; q++) {
        const int64_t span = pooling->in_w[3 * q + 1] - pooling->in_w[3 * q];
        widest = span > widest ? span : widest;
    }
    return widest;
}

/* Whether all windows of a row are those of the stretch cut off at the borders, in memory without
 * gaps: `slides`. */
static inline int64_t slides_of(const Pooling *pooling)
{
    const int64_t step = pooling->step, taps = pooling->taps, width = pooling->problem.w;
    const int64_t before = step * pooling->first - pooling->in_w[3 * pooling->first];
    if (pooling->x.w != 1 || pooling->out.w != 1 || pooling->problem.dilation_w != 1 || step < 1
        || step > 2 || taps < 2 || taps > 3 || before < 0 || before > taps - 2)
        return 0;
    for (int64_t q = 0; q < pooling->problem.q; q++) {
        const int64_t start = q * step - before, end = start + taps;
        if (pooling->in_w[3 * q] != (start < 0 ? 0 : start)
            || pooling->in_w[3 * q + 1] != (end < width ? end : width))
            return 0;
    }
    return 1 + before;
}

/* Fills in how the arrays lie in memory. */
static inline void find_layout(Pooling *pooling, int with_indices)
{
    pooling->channels_last = pooling->problem.c > 1 && pooling->x.c == 1 && pooling->out.c == 1
        && (!with_indices || pooling->indices.c == 1);
    pooling->slides = slides_of(pooling);
}

/* What the windows of an output row share: taps along d and h, the product of the extents, what a
 * tap's step moves in x and in the flat index of a plane, and the index of column 0's first tap. */
typedef struct {
    int64_t d, h, extent;
    int64_t x_d, x_h;
    int64_t index_d, index_h, index;
} Window;

typedef struct {
    int64_t n, c, o, p;
} Row;

/* The row of a task. Tasks are (n, c, o, p), where channels lie side by side (n, o, p, c). */
static inline Row row_of(const Pooling *pooling, int64_t task)
{
    const PoolProblem *problem = &pooling->problem;
    Row row;
    if (pooling->channels_last)
        row.c = task % problem->c, task /= problem->c;
    row.p = task % problem->p, task /= problem->p;
    row.o = task % problem->o, task /= problem->o;
    if (!pooling->channels_last)
        row.c = task % problem->c, task /= problem->c;
    row.n = task;
    return row;
}

/* Bring an index back into its axis of `count`: how often that is exceeded. */
static inline int64_t carry_of(int64_t *index, int64_t count)
{
    int64_t carry = 0;
    if (count == 1)
        carry = *index, *index = 0;
    for (; *index >= count; carry++)
        *index -= count;
    return carry;
}

/* The row that comes `rows` later, of the same channel; where channels lie side by side, of the
 * first one. */
static inline Row row_after(const Pooling *pooling, Row row, int64_t rows)
{
    const PoolProblem *problem = &pooling->problem;
    row.p += rows;
    row.o += carry_of(&row.p, problem->p);
    const int64_t planes = carry_of(&row.o, problem->o);
    row.c = pooling->channels_last ? 0 : row.c + planes;
    row.n += pooling->channels_last ? planes : carry_of(&row.c, problem->c);
    return row;
}

/* Channels that are computed together: from a row's to the last one, `tasks` at most. */
static inline int64_t channels_from(const Pooling *pooling, Row row, int64_t tasks)
{
    const int64_t left = pooling->problem.c - row.c;
    if (!pooling->channels_last)
        return 1;
    return left < tasks ? left : tasks;
}

/* Rows from `row` on whose windows are alike, one slice's and `tasks` at most. */
static inline int64_t rows_alike(const Pooling *pooling, Row row, int64_t tasks)
{
    const int64_t left = pooling->rows.end - row.p;
    if (row.p < pooling->rows.first || left < 1)
        return 1;
    return left < tasks ? left : tasks;
}

static inline int64_t offset_of(const Strides *strides, Row row)
{
    return row.n * strides->n + row.c * strides->c + row.o * strides->d + row.p * strides->h;
}

/* The windows of a row, and where in x its column 0 is. */
static inline Window window_of(const Pooling *pooling, Row row, int64_t *x_offset)
{
    const PoolProblem *problem = &pooling->problem;
    const int64_t *in_d = pooling->windows + 3 * row.o;
    const int64_t *in_h = pooling->windows + 3 * (problem->o + row.p);
    Window window;
    window.d = taps_of(in_d, problem->dilation_d);
    window.h = taps_of(in_h, problem->dilation_h);
    window.extent = in_d[2] * in_h[2];
    window.x_d = problem->dilation_d * pooling->x.d;
    window.x_h = problem->dilation_h * pooling->x.h;
    window.index_d = problem->dilation_d * problem->h * problem->w;
    window.index_h = problem->dilation_h * problem->w;
    window.index = (in_d[0] * problem->h + in_h[0]) * problem->w;
    *x_offset = row.n * pooling->x.n + row.c * pooling->x.c + in_d[0] * pooling->x.d
        + in_h[0] * pooling->x.h;
    return window;
}

/* What the sum over the window of column q is divided by. */
static inline int64_t divisor_of(const Pooling *pooling, const Window *window, int64_t q)
{
    return pooling->problem.divisor ? pooling->problem.divisor
                                    : window->extent * pooling->in_w[3 * q + 2];
}

#endif
