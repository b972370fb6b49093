/* Rows of few windows, LANES of them side by side: a vector holds a column of all of them. Included
 * by pooling.h.
 */

/* From LANES rows of `breadth` columns (LANES or half of it), `pitch` apart, the vectors of each
 * column: every round parts even columns from odd ones. */
INLINE void NAME(part_columns)(REAL *to, const REAL *from, const int breadth, int64_t pitch)
{
    VECTOR part[LANES], next[LANES];
    for (int i = 0; i < breadth; i++)
        part[i] = NAME(load)(from + i * (breadth == LANES ? pitch : LANES));
    for (int columns = 1; columns < breadth; columns *= 2) {
        for (int i = 0; i < breadth / 2; i++) {
            next[i] = NAME(even)(part[2 * i], part[2 * i + 1]);
            next[i + breadth / 2] = NAME(odd)(part[2 * i], part[2 * i + 1]);
        }
        for (int i = 0; i < breadth; i++)
            part[i] = next[i];
    }
    for (int i = 0; i < breadth; i++)
        NAME(store)(to + i * LANES, part[i]);
}

/* Reduce the columns of four rows that have one window along d and h, side by side, which hides how
 * long an operation takes, and keep them `pitch` apart. */
INLINE void NAME(keep_four)(const int reduction, REAL *to, int64_t pitch, const REAL *const *from,
                            const Window *window, int64_t width)
{
    const int64_t taps_d = window->d, taps_h = window->h, x_h = window->x_h;
    const REAL *const first = from[0], *const second = from[1], *const third = from[2],
               *const fourth = from[3];
    for (int64_t w = 0; w < width; w += LANES) {
        const int64_t lanes = width - w < LANES ? width - w : LANES;
        VECTOR result[4] = {
            NAME(load_first)(first + w, lanes), NAME(load_first)(second + w, lanes),
            NAME(load_first)(third + w, lanes), NAME(load_first)(fourth + w, lanes),
        };
        for (int64_t d = 0; d < taps_d; d++) {
            int64_t at = w + d * window->x_d + (d == 0 ? x_h : 0);
            for (int64_t h = d == 0; h < taps_h; h++, at += x_h) {
                result[0] = NAME(fold)(reduction, result[0], NAME(load_first)(first + at, lanes));
                result[1] = NAME(fold)(reduction, result[1], NAME(load_first)(second + at, lanes));
                result[2] = NAME(fold)(reduction, result[2], NAME(load_first)(third + at, lanes));
                result[3] = NAME(fold)(reduction, result[3], NAME(load_first)(fourth + at, lanes));
            }
        }
        for (int i = 0; i < 4; i++)
            NAME(store)(to + i * pitch + w, result[i]);
    }
}

/* LANES rows: where they are read and written, the extents of their windows along d and h, whether
 * these are one, and whether results of a column lie side by side. */
typedef struct {
    const REAL *from[LANES];
    REAL *to[LANES];
    int64_t extents[LANES];
    int alike, dense;
} NAME(Rows);

/* The windows of LANES rows from the vectors of their columns. */
INLINE void NAME(fold_vectors)(const int reduction, const NAME(Rows) *rows, const REAL *columns,
                               const Pooling *pooling)
{
    Window window = {0};
    for (int64_t q = 0; q < pooling->problem.q; q++) {
        const int64_t *in_w = pooling->in_w + 3 * q;
        const int one = reduction != MEAN || rows->alike;
        REAL values[LANES];
        VECTOR result = NAME(splat)(NAME(start)(reduction));
        for (int64_t w = in_w[0]; w < in_w[1]; w += pooling->problem.dilation_w)
            result = NAME(fold)(reduction, result, NAME(load)(columns + w * LANES));
        window.extent = rows->extents[0];
        if (reduction == MEAN && one)
            result = NAME(divide)(result, divisor_of(pooling, &window, q));
        if (one && rows->dense) {
            NAME(store)(rows->to[0] + q * pooling->out.w, result);
            continue;
        }
        NAME(store)(values, result);
        for (int lane = 0; lane < LANES; lane++) {
            window.extent = rows->extents[lane];
            rows->to[lane][q * pooling->out.w] = one ? values[lane]
                : NAME(quotient)(values[lane], divisor_of(pooling, &window, q));
        }
    }
}

/* Planes of one row each, from `row` on. */
INLINE void NAME(find_planes)(NAME(Rows) *rows, REAL *out, const REAL *x, const Pooling *pooling,
                              const Window *window, int64_t offset, Row row)
{
    const int64_t channels = pooling->problem.c, x_c = pooling->x.c, out_c = pooling->out.c;
    const int64_t next_x = pooling->x.n - channels * x_c;
    const int64_t next_out = pooling->out.n - channels * out_c;
    int64_t c = row.c;
    x += offset;
    out += offset_of(&pooling->out, row);
    for (int lane = 0; lane < LANES; lane++) {
        rows->from[lane] = x;
        rows->to[lane] = out;
        rows->extents[lane] = window->extent;
        x += x_c;
        out += out_c;
        if (++c == channels) {
            c = 0;
            x += next_x;
            out += next_out;
        }
    }
    rows->alike = 1;
    rows->dense = row.c + LANES <= channels && out_c == 1;
}

/* The same of rows of any planes, whose columns are reduced and kept as well. */
INLINE void NAME(find_rows)(const int reduction, NAME(Rows) *rows, REAL *out, const REAL *x,
                            REAL *kept, int64_t pitch, const Pooling *pooling, Row row)
{
    rows->alike = 1;
    rows->dense = 0;
    for (int lane = 0; lane < LANES; lane++, row = row_after(pooling, row)) {
        int64_t offset;
        const Window window = window_of(pooling, row, &offset);
        rows->to[lane] = out + offset_of(&pooling->out, row);
        rows->extents[lane] = window.extent;
        rows->alike &= window.extent == rows->extents[0];
        if (window.d == 0 || window.h == 0)
            for (int64_t w = 0; w < pooling->problem.w; w++)
                kept[lane * pitch + w] = NAME(start)(reduction);
        else
            NAME(keep_columns)(reduction, kept + lane * pitch, x + offset, pooling->x.w, &window,
                               pooling->problem.w);
    }
}

/* Reduce the windows of LANES rows from `row` on, the first of which is `window` and reads x from
 * `offset` on. */
INLINE void NAME(fold_rows)(const int reduction, REAL *out, const REAL *x, REAL *kept,
                            const Pooling *pooling, const Window *window, int64_t offset, Row row)
{
    const int64_t width = pooling->problem.w;
    const int breadth = width <= LANES / 2 ? LANES / 2 : LANES;
    const int64_t pitch = (width + breadth - 1) / breadth * breadth;
    REAL *const columns = kept + LANES * pitch;
    NAME(Rows) rows;
    if (pooling->problem.o * pooling->problem.p == 1 && pooling->x.w == 1) {
        NAME(find_planes)(&rows, out, x, pooling, window, offset, row);
        for (int lane = 0; lane < LANES; lane += 4)
            NAME(keep_four)(reduction, kept + lane * pitch, pitch, rows.from + lane, window, width);
    } else
        NAME(find_rows)(reduction, &rows, out, x, kept, pitch, pooling, row);
    if (breadth == LANES)
        for (int64_t w = 0; w < pitch; w += LANES)
            NAME(part_columns)(columns + w * LANES, kept + w, LANES, pitch);
    else
        NAME(part_columns)(columns, kept, LANES / 2, pitch);
    NAME(fold_vectors)(reduction, &rows, columns, pooling);
}

/* Each kind by itself, with registers of its own. */
LOOP __attribute__((noinline)) void NAME(max_of_rows)(REAL *out, const REAL *x, REAL *kept,
                                                      const Pooling *pooling, const Window *window,
                                                      int64_t offset, Row row)
{
    NAME(fold_rows)(MAX, out, x, kept, pooling, window, offset, row);
}

LOOP __attribute__((noinline)) void NAME(mean_of_rows)(REAL *out, const REAL *x, REAL *kept,
                                                       const Pooling *pooling, const Window *window,
                                                       int64_t offset, Row row)
{
    NAME(fold_rows)(MEAN, out, x, kept, pooling, window, offset, row);
}
