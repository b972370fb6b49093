/* Rows whose windows of 2 or 3 columns are 1 or 2 apart, in memory without gaps: columns stay in
 * registers until the windows over them are reduced. Included by pooling.h.
 */

#ifndef AHEAD_BYTES
/* Where windows span slices, rows of each are asked for so far ahead, for the second cache: into
 * the first one too few at a time are under way. */
#define AHEAD_BYTES 4096

/* Taps along d and h, at most. */
enum { SLIDE_TAPS = 9 };
#endif

/* Reduce as many of `count` columns as fit in a vector over the taps at `offsets`, the first one at
 * 0; the other lanes are a start. */
INLINE VECTOR NAME(fold_taps_at)(const int reduction, const REAL *x, const int64_t *offsets,
                                 int64_t taps, int64_t count)
{
    const VECTOR start = NAME(splat)(NAME(start)(reduction));
    if (count >= LANES) {
        VECTOR result = NAME(load)(x);
        for (int64_t tap = 1; tap < taps; tap++)
            result = NAME(fold)(reduction, result, NAME(load)(x + offsets[tap]));
        return result;
    }
    if (count <= 0)
        return start;
    VECTOR result = NAME(load_first)(x, count);
    for (int64_t tap = 1; tap < taps; tap++)
        result = NAME(fold)(reduction, result, NAME(load_first)(x + offsets[tap], count));
    return reduction == MEAN ? result : NAME(choose_first)(count, result, start);
}

/* Rows of windows of 2 or 3 columns that are 1 or 2 apart, in registers: those at the borders as if
 * there were columns of starts around, `before` of them in front. The rows' windows are alike, of
 * `high` taps along h alone, or any for 0. */
INLINE void NAME(slide)(const int reduction, const int step, const int taps, const int before,
                        const int high, REAL *out, const REAL *x, const Pooling *pooling,
                        const Window *window, int64_t rows)
{
    const int64_t width = pooling->problem.w, columns = pooling->problem.q;
    const int64_t x_p = pooling->rows.step * pooling->x.h, out_p = pooling->out.h;
    const NAME(Divisor) divisor =
        NAME(divisor_from)(reduction == MEAN ? divisor_of(pooling, window, pooling->first) : 1);
    const int64_t count = high ? high : window->d * window->h, x_d = window->x_d;
    int64_t offsets[SLIDE_TAPS] = {0, window->x_h, 2 * window->x_h};
    if (!high)
        for (int64_t d = 0; d < window->d; d++)
            for (int64_t h = 0; h < window->h; h++)
                offsets[d * window->h + h] = d * x_d + h * window->x_h;
    /* A row that is read beside others is no stream that a processor sees; what follows them in
     * memory, asked for in order, is. */
    const int64_t streams = high ? 1 : count > 1 ? window->d : 0;
    const int64_t further =
        !high && window->d > 1 ? AHEAD_BYTES / (int64_t)sizeof(REAL) : (window->h + step) * window->x_h;
    for (; rows > 0; rows--, x += x_p, out += out_p) {
        const REAL *ahead = x + further;
        VECTOR former = NAME(splat)(NAME(start)(reduction));
        VECTOR here = NAME(fold_taps_at)(reduction, x, offsets, count, width);
        for (int64_t q = 0, w = LANES; q < columns; q += LANES, w += step * LANES) {
            VECTOR tap[3];
            VECTOR next = NAME(fold_taps_at)(reduction, x + w, offsets, count, width - w);
            const REAL *const asked = ahead + q * step * step;
            if (streams == 1)
                for (int i = 0; i < step * step; i++)
                    __builtin_prefetch(asked + i * LANES);
            else
                for (int64_t d = 0; d < streams; d++)
                    for (int i = 0; i < step * step; i++)
                        __builtin_prefetch(asked + d * x_d + i * LANES, 0, 2);
            if (step == 1) {
                tap[before] = here;
                tap[before + 1] = NAME(from_second)(here, next);
                if (before)
                    tap[0] = NAME(from_last)(former, here);
                else
                    tap[2] = NAME(from_third)(here, next);
                former = here;
            } else {
                const VECTOR even = NAME(even)(here, next), odd = NAME(odd)(here, next);
                next = NAME(fold_taps_at)(reduction, x + w + LANES, offsets, count,
                                          width - w - LANES);
                tap[before] = even;
                tap[before + 1] = odd;
                if (before)
                    tap[0] = NAME(from_last)(former, odd);
                else
                    tap[2] = NAME(from_second)(even, next);
                former = odd;
            }
            here = next;
            VECTOR result = tap[0];
            if (reduction == MEAN)
                result += NAME(splat)(0);
            for (int s = 1; s < taps; s++)
                result = NAME(fold)(reduction, result, tap[s]);
            if (reduction == MEAN)
                result = NAME(divide_by)(result, divisor);
            if (columns - q >= LANES)
                NAME(store)(out + q, result);
            else
                NAME(store_first)(out + q, result, columns - q);
        }
    }
}

/* Each kind by itself, with registers of its own; of windows as high as they are wide, the taps
 * are no loop. */
#define SLIDE(name, reduction, step, taps, before, high) \
    LOOP __attribute__((noinline)) void NAME(name)(REAL *out, const REAL *x, \
                                                   const Pooling *pooling, const Window *window, \
                                                   int64_t rows) \
    { \
        NAME(slide)(reduction, step, taps, before, high, out, x, pooling, window, rows); \
    }
#define SLIDES(name, reduction, step, taps, before) \
    SLIDE(name, reduction, step, taps, before, 0) \
    SLIDE(name##_square, reduction, step, taps, before, taps)
SLIDES(max_2_by_1, MAX, 1, 2, 0)
SLIDES(max_3_by_1, MAX, 1, 3, 0)
SLIDES(max_3_by_1_padded, MAX, 1, 3, 1)
SLIDES(max_2_by_2, MAX, 2, 2, 0)
SLIDES(max_3_by_2, MAX, 2, 3, 0)
SLIDES(max_3_by_2_padded, MAX, 2, 3, 1)
SLIDES(mean_2_by_1, MEAN, 1, 2, 0)
SLIDES(mean_3_by_1, MEAN, 1, 3, 0)
SLIDES(mean_3_by_1_padded, MEAN, 1, 3, 1)
SLIDES(mean_2_by_2, MEAN, 2, 2, 0)
SLIDES(mean_3_by_2, MEAN, 2, 3, 0)
SLIDES(mean_3_by_2_padded, MEAN, 2, 3, 1)
#undef SLIDES
#undef SLIDE

/* Rows that slide, whose windows are alike. */
INLINE void NAME(slide_rows)(const int reduction, REAL *out, const REAL *x, const Pooling *pooling,
                             const Window *window, int64_t rows)
{
    typedef void Slide(REAL *out, const REAL *x, const Pooling *pooling, const Window *window,
                       int64_t rows);
#define BOTH(name) {NAME(name), NAME(name##_square)}
    static Slide *const slides[2][2][3][2] = {
        {{BOTH(max_2_by_1), BOTH(max_3_by_1), BOTH(max_3_by_1_padded)},
         {BOTH(max_2_by_2), BOTH(max_3_by_2), BOTH(max_3_by_2_padded)}},
        {{BOTH(mean_2_by_1), BOTH(mean_3_by_1), BOTH(mean_3_by_1_padded)},
         {BOTH(mean_2_by_2), BOTH(mean_3_by_2), BOTH(mean_3_by_2_padded)}},
    };
#undef BOTH
    const int square = window->d == 1 && window->h == pooling->taps;
    slides[reduction == MEAN][pooling->step - 1][pooling->taps + pooling->slides - 3][square](
        out, x, pooling, window, rows);
    for (int64_t q = 0; reduction == MEAN && q < pooling->problem.q; q++) {
        if (q == pooling->first)
            q = pooling->end;
        if (q < pooling->problem.q
            && pooling->in_w[3 * q + 2] != pooling->in_w[3 * pooling->first + 2])
            for (int64_t p = 0; p < rows; p++)
                out[p * pooling->out.h + q] = NAME(fold_window)(
                    reduction, x + p * pooling->rows.step * pooling->x.h, pooling, window, q);
    }
}
