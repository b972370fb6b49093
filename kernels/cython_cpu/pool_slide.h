/* Rows whose windows of 2 or 3 columns are 1 or 2 apart, in memory without gaps: columns stay in
 * registers until the windows over them are reduced. Included by pooling.h.
 */

#ifndef AHEAD_BYTES
/* Where windows span slices, rows of each are asked for so far ahead. */
#define AHEAD_BYTES 4096
#endif

/* A row whose windows of 2 or 3 columns are 1 or 2 apart, in registers: those at the borders as if
 * there were columns of starts around, `before` of them in front. */
INLINE void NAME(slide)(const int reduction, const int step, const int taps, const int before,
                        REAL *out, const REAL *x, const Pooling *pooling, const Window *window)
{
    const int64_t width = pooling->problem.w, columns = pooling->problem.q;
    const int64_t divisor = divisor_of(pooling, window, pooling->first);
    const Window taps_dh = *window;
    VECTOR former = NAME(splat)(NAME(start)(reduction));
    VECTOR here = NAME(fold_columns)(reduction, x, &taps_dh, width);
    const REAL *ahead = x
        + (window->d > 1 ? AHEAD_BYTES / (int64_t)sizeof(REAL) : (window->h + step) * window->x_h);
    for (int64_t q = 0, w = LANES; q < columns; q += LANES, w += step * LANES) {
        VECTOR tap[3];
        VECTOR next = NAME(fold_columns)(reduction, x + w, &taps_dh, width - w);
        /* A row that is read beside others is no stream that a processor sees; what follows them
         * in memory, asked for in order, is. */
        for (int64_t d = 0; d < taps_dh.d; d++)
            for (int i = 0; i < step * step; i++)
                __builtin_prefetch(ahead + d * taps_dh.x_d + q * step * step + i * LANES);
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
            next = NAME(fold_columns)(reduction, x + w + LANES, &taps_dh, width - w - LANES);
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
            result = NAME(divide)(result, divisor);
        if (columns - q >= LANES)
            NAME(store)(out + q, result);
        else
            NAME(store_first)(out + q, result, columns - q);
    }
}

/* Each kind by itself, with registers of its own. */
#define SLIDE(name, reduction, step, taps, before) \
    LOOP __attribute__((noinline)) void NAME(name)(REAL *out, const REAL *x, \
                                                   const Pooling *pooling, const Window *window) \
    { \
        NAME(slide)(reduction, step, taps, before, out, x, pooling, window); \
    }
SLIDE(max_2_by_1, MAX, 1, 2, 0)
SLIDE(max_3_by_1, MAX, 1, 3, 0)
SLIDE(max_3_by_1_padded, MAX, 1, 3, 1)
SLIDE(max_2_by_2, MAX, 2, 2, 0)
SLIDE(max_3_by_2, MAX, 2, 3, 0)
SLIDE(max_3_by_2_padded, MAX, 2, 3, 1)
SLIDE(mean_2_by_1, MEAN, 1, 2, 0)
SLIDE(mean_3_by_1, MEAN, 1, 3, 0)
SLIDE(mean_3_by_1_padded, MEAN, 1, 3, 1)
SLIDE(mean_2_by_2, MEAN, 2, 2, 0)
SLIDE(mean_3_by_2, MEAN, 2, 3, 0)
SLIDE(mean_3_by_2_padded, MEAN, 2, 3, 1)
#undef SLIDE

/* A row whose windows slide. */
INLINE void NAME(slide_row)(const int reduction, REAL *out, const REAL *x, const Pooling *pooling,
                            const Window *window)
{
    typedef void Slide(REAL *out, const REAL *x, const Pooling *pooling, const Window *window);
    static Slide *const slides[2][2][3] = {
        {{NAME(max_2_by_1), NAME(max_3_by_1), NAME(max_3_by_1_padded)},
         {NAME(max_2_by_2), NAME(max_3_by_2), NAME(max_3_by_2_padded)}},
        {{NAME(mean_2_by_1), NAME(mean_3_by_1), NAME(mean_3_by_1_padded)},
         {NAME(mean_2_by_2), NAME(mean_3_by_2), NAME(mean_3_by_2_padded)}},
    };
    slides[reduction == MEAN][pooling->step - 1][pooling->taps + pooling->slides - 3](
        out, x, pooling, window);
    if (reduction == MEAN)
        for (int64_t q = 0; q < pooling->problem.q; q++) {
            if (q == pooling->first)
                q = pooling->end;
            if (q < pooling->problem.q
                && pooling->in_w[3 * q + 2] != pooling->in_w[3 * pooling->first + 2])
                out[q] = NAME(fold_window)(reduction, x, pooling, window, q);
        }
}
