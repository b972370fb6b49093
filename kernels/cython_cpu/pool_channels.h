/* Rows of several channels that lie side by side: vectors of channels, from kept columns that the
 * windows of a row share. Included by pooling.h.
 */

/* The windows of output columns q .. end-1 from kept columns of some channels, which lie side by
 * side; `kept` begins with column `low`. */
INLINE void NAME(fold_pixels)(const int reduction, REAL *out, const REAL *kept,
                              const Pooling *pooling, const Window *window, int64_t q,
                              NAME(Part) part, int64_t channels)
{
    for (; q < part.end; q++) {
        const int64_t *in_w = pooling->in_w + 3 * q;
        const int64_t taps = taps_of(in_w, pooling->problem.dilation_w);
        const int64_t divisor = divisor_of(pooling, window, q);
        const int64_t step = pooling->problem.dilation_w * channels;
        for (int64_t c = 0; c < channels; c += LANES) {
            const REAL *column = kept + (in_w[0] - part.low) * channels + c;
            REAL *to = out + q * pooling->out.w + c;
            VECTOR result = NAME(splat)(NAME(start)(reduction));
            for (int64_t s = 0; s < taps; s++)
                result = NAME(fold)(reduction, result, NAME(load)(column + s * step));
            if (reduction == MEAN)
                result = NAME(divide)(result, divisor);
            if (channels - c >= LANES)
                NAME(store)(to, result);
            else
                NAME(store_first)(to, result, channels - c);
        }
    }
}

/* A window of more columns than can be kept of all channels: a part of them after the other, and
 * what they give so far in `out`. */
INLINE void NAME(fold_wide)(const int reduction, REAL *out, const REAL *x, REAL *kept,
                            const Pooling *pooling, const Window *window, int64_t q,
                            int64_t channels)
{
    const int64_t *in_w = pooling->in_w + 3 * q;
    const int64_t dilation = pooling->problem.dilation_w, taps = taps_of(in_w, dilation);
    const int64_t divisor = divisor_of(pooling, window, q), some = COLUMNS / channels;
    const int64_t step = dilation * pooling->x.w;
    const REAL start = NAME(start)(reduction);
    for (int64_t c = 0; c < channels; c++)
        out[c] = reduction == MEAN && taps == 0 ? NAME(quotient)(start, divisor) : start;
    for (int64_t s = 0; s < taps; s += some) {
        const int64_t count = taps - s < some ? taps - s : some;
        if (step == channels)
            NAME(keep_columns)(reduction, kept, x + s * step, 1, window, count * channels);
        else
            for (int64_t i = 0; i < count; i++)
                NAME(keep_columns)(reduction, kept + i * channels, x + (s + i) * step, 1, window,
                                   channels);
        for (int64_t c = 0; c < channels; c += LANES) {
            const int64_t lanes = channels - c < LANES ? channels - c : LANES;
            VECTOR result = NAME(load_first)(out + c, lanes);
            for (int64_t i = 0; i < count; i++)
                result = NAME(fold)(reduction, result, NAME(load)(kept + i * channels + c));
            if (reduction == MEAN && s + count == taps)
                result = NAME(divide)(result, divisor);
            NAME(store_first)(out + c, result, lanes);
        }
    }
}

/* A row of several channels, which lie side by side: blocks of them, of which `kept` holds the
 * columns of two windows or more if it can. */
INLINE void NAME(fold_channels)(const int reduction, REAL *out, const REAL *x, REAL *kept,
                                const Pooling *pooling, const Window *window, int64_t all,
                                int64_t widest)
{
    const int64_t room = COLUMNS / (2 * widest + 1);
    const int wide = room < all && room < 4 * LANES;
    const int64_t most = wide ? COLUMNS / 2 : room / LANES * LANES;
    const int64_t block = all < most || all <= room ? all : most;
    for (int64_t c = 0; c < all; c += block) {
        const int64_t channels = all - c < block ? all - c : block;
        for (int64_t q = 0; q < pooling->problem.q;) {
            if (wide) {
                NAME(fold_wide)(reduction, out + q * pooling->out.w + c,
                                x + pooling->in_w[3 * q] * pooling->x.w + c, kept, pooling, window,
                                q, channels);
                q++;
                continue;
            }
            const NAME(Part) part = NAME(part_from)(pooling, q, COLUMNS / channels);
            const REAL *from = x + part.low * pooling->x.w + c;
            if (pooling->x.w == channels)
                NAME(keep_columns)(reduction, kept, from, 1, window,
                                   (part.high - part.low) * channels);
            else
                for (int64_t w = 0; w < part.high - part.low; w++)
                    NAME(keep_columns)(reduction, kept + w * channels, from + w * pooling->x.w, 1,
                                       window, channels);
            NAME(fold_pixels)(reduction, out + c, kept, pooling, window, q, part, channels);
            q = part.end;
        }
    }
}
