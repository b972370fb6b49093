/* Maxima with their indices, included by pooling.h, and by max_grad.h, which wants no values: taps one
 * after another in the order d, h, w, since of equal ones the first counts, and of several NaN the
 * last. */

/* The first `lanes` of elements that are `stride` apart, and zeros in the other lanes, which aren't
 * read. */
INLINE VECTOR NAME(load_some)(const REAL *from, int64_t stride, int64_t lanes)
{
    if (lanes == LANES)
        return NAME(load_strided)(from, stride);
    if (stride == 1)
        return NAME(load_first)(from, lanes);
    if (stride == 2) {
        const int64_t span = 2 * lanes - 1, low = span < LANES ? span : LANES;
        return NAME(even)(NAME(load_first)(from, low), NAME(load_first)(from + low, span - low));
    }
    REAL element[LANES] = {0};
    for (int64_t lane = 0; lane < lanes; lane++)
        element[lane] = from[lane * stride];
    return NAME(load)(element);
}

/* Reduce `lanes` windows that begin `stride` apart; `*found` is where their values are, as a flat
 * index counted from the window's first tap, less than 2^31. */
INLINE VECTOR NAME(find_lanes)(const REAL *x, int64_t stride, int64_t lanes,
                               const Pooling *pooling, const Window *window, int64_t taps,
                               MASK *found)
{
    const int64_t dilation = pooling->problem.dilation_w, x_w = dilation * pooling->x.w;
    VECTOR best = NAME(splat)(LEAST);
    *found = (MASK){0};
    for (int64_t d = 0; d < window->d; d++)
        for (int64_t h = 0; h < window->h; h++) {
            const REAL *tap = x + d * window->x_d + h * window->x_h;
            const int64_t index = d * window->index_d + h * window->index_h;
            for (int64_t s = 0; s < taps; s++, tap += x_w) {
                const MASK here = (MASK){0} + (LANE)(index + s * dilation);
                NAME(keep_larger)(NAME(load_some)(tap, stride, lanes), here, &best, found);
            }
        }
    return best;
}

/* The maximum of one window, and where it is counted from the first tap. */
INLINE REAL NAME(find_one)(const REAL *x, const Pooling *pooling, const Window *window,
                           int64_t taps, int64_t *found)
{
    const int64_t dilation = pooling->problem.dilation_w;
    REAL best = LEAST;
    *found = 0;
    for (int64_t d = 0; d < window->d; d++)
        for (int64_t h = 0; h < window->h; h++)
            for (int64_t s = 0; s < taps; s++) {
                const REAL value =
                    x[d * window->x_d + h * window->x_h + s * dilation * pooling->x.w];
                if (value > best || value != value) {
                    best = value;
                    *found = d * window->index_d + h * window->index_h + s * dilation;
                }
            }
    return best;
}

/* Write the first `lanes` indices: `first`, and `step` more from one to the next, and `found`.
 * (Left to itself GCC takes a vector apart, element by element.) */
INLINE void NAME(store_indices)(int64_t *to, int64_t stride, int64_t first, int64_t step,
                                MASK found, int64_t lanes)
{
    typedef OF_BYTES(mask_f64, VECTOR_BYTES) Indices;
    enum { PARTS = LANES * 8 / VECTOR_BYTES, COUNT = LANES / PARTS };
    Indices index[PARTS], lane;
    for (int i = 0; i < COUNT; i++)
        lane[i] = i;
    lane = lane * step + first;
#if LANES * 8 > VECTOR_BYTES
    HALF_MASK half[PARTS];
    memcpy(half, &found, sizeof half);
    for (int part = 0; part < PARTS; part++)
        index[part] = __builtin_convertvector(half[part], Indices) + lane + part * COUNT * step;
#else
    index[0] = found + lane;
#endif
    if (stride == 1 && lanes == LANES) {
        memcpy(to, index, sizeof index);
        return;
    }
#if HAS_AVX512
    if (stride == 1) {
        for (int part = 0; part < PARTS; part++)
            _mm512_mask_storeu_epi64(to + part * COUNT, ((1u << lanes) - 1) >> part * COUNT,
                                     (__m512i)index[part]);
        return;
    }
#endif
    int64_t element[LANES];
    memcpy(element, index, sizeof element);
    for (int64_t i = 0; i < lanes; i++)
        to[i * stride] = element[i];
}

/* Columns begin .. end-1 of a row of one channel; `values` may be NULL. */
INLINE void NAME(find_row)(REAL *values, const REAL *x, int64_t *places, const Pooling *pooling,
                           const Window *window, int64_t begin, int64_t end)
{
    const int64_t values_w = pooling->out.w, places_w = pooling->indices.w;
    const int64_t step = pooling->step * pooling->x.w;
    const int64_t span = (window->d - 1) * window->index_d + window->h * window->index_h;
    const int in_lanes = span <= INT32_MAX;
    const int64_t alike = begin > pooling->first ? begin : pooling->first;
    const int64_t other = end < pooling->end ? end : pooling->end;
    for (int64_t q = begin; q < end;) {
        /* The last vector of the stretch begins early enough to end with it, if there is one
         * before it: a vector in part takes longer than a whole one. */
        if (q > other - LANES && q < other && other - LANES >= alike)
            q = other - LANES;
        const int64_t *in_w = pooling->in_w + 3 * q;
        const int64_t taps = taps_of(in_w, pooling->problem.dilation_w);
        const int64_t first = window->index + in_w[0];
        const REAL *from = x + in_w[0] * pooling->x.w;
        /* Outside of the stretch a vector has one window: without branches, which random maxima
         * mispredict. */
        const int alone = q < alike || q >= other;
        if (taps == 0 || !in_lanes || (alone && !HAS_AVX2)) {
            int64_t at;
            const REAL value = NAME(find_one)(from, pooling, window, taps, &at);
            if (values)
                values[(q - begin) * values_w] = value;
            places[(q - begin) * places_w] = taps == 0 ? -1 : first + at;
            q++;
            continue;
        }
        const int64_t lanes = alone ? 1 : other - q < LANES ? other - q : LANES;
        MASK found;
        VECTOR best;
        if (lanes < LANES)
            best = step == 1 || alone
                ? NAME(find_lanes)(from, 1, lanes, pooling, window, taps, &found)
                : step == 2 ? NAME(find_lanes)(from, 2, lanes, pooling, window, taps, &found)
                            : NAME(find_lanes)(from, step, lanes, pooling, window, taps, &found);
        else
            best = step == 1 ? NAME(find_lanes)(from, 1, LANES, pooling, window, taps, &found)
                : step == 2  ? NAME(find_lanes)(from, 2, LANES, pooling, window, taps, &found)
                             : NAME(find_lanes)(from, step, LANES, pooling, window, taps, &found);
        if (values && values_w == 1)
            NAME(store_first)(values + q - begin, best, lanes);
        else if (values)
            NAME(store_strided)(values + (q - begin) * values_w, values_w, best, lanes);
        NAME(store_indices)(places + (q - begin) * places_w, places_w, first, pooling->step, found,
                            lanes);
        q += lanes;
    }
}

/* The same of several channels, which lie side by side. */
INLINE void NAME(find_pixels)(REAL *values, const REAL *x, int64_t *places, const Pooling *pooling,
                              const Window *window, int64_t channels, int64_t begin, int64_t end)
{
    const int64_t span = (window->d - 1) * window->index_d + window->h * window->index_h;
    for (int64_t q = begin; q < end; q++, places += pooling->indices.w) {
        const int64_t *in_w = pooling->in_w + 3 * q;
        const int64_t taps = taps_of(in_w, pooling->problem.dilation_w);
        const int64_t first = window->index + in_w[0];
        REAL *to = values ? values + (q - begin) * pooling->out.w : NULL;
        for (int64_t c = 0; c < channels; c += LANES) {
            const REAL *from = x + in_w[0] * pooling->x.w + c;
            const int64_t lanes = channels - c < LANES ? channels - c : LANES;
            MASK found;
            VECTOR best;
            if (taps == 0 || span > INT32_MAX) {
                for (int64_t lane = 0; lane < lanes; lane++) {
                    int64_t at;
                    const REAL value = NAME(find_one)(from + lane, pooling, window, taps, &at);
                    if (values)
                        to[c + lane] = value;
                    places[c + lane] = taps == 0 ? -1 : first + at;
                }
                continue;
            }
            if (lanes == LANES)
                best = NAME(find_lanes)(from, 1, LANES, pooling, window, taps, &found);
            else
                best = NAME(find_lanes)(from, 1, lanes, pooling, window, taps, &found);
            if (values)
                NAME(store_first)(to + c, best, lanes);
            NAME(store_indices)(places + c, 1, first, 0, found, lanes);
        }
    }
}

/* A row whose windows are empty. */
INLINE void NAME(find_nothing)(REAL *out, int64_t *indices, const Pooling *pooling,
                               int64_t channels)
{
    for (int64_t q = 0; q < pooling->problem.q; q++)
        for (int64_t c = 0; c < channels; c++) {
            out[q * pooling->out.w + c] = LEAST;
            indices[q * pooling->indices.w + c] = -1;
        }
}

LOOP void NAME(argmax_rows)(REAL *out, const REAL *x, int64_t *indices, const Pooling *pooling,
                            int64_t begin, int64_t end)
{
    for (Row row = row_of(pooling, begin); begin < end; row = row_after(pooling, row, 1)) {
        int64_t offset;
        const int64_t channels = channels_from(pooling, row, end - begin);
        const Window window = window_of(pooling, row, &offset);
        REAL *to = out + offset_of(&pooling->out, row);
        int64_t *places = indices + offset_of(&pooling->indices, row);
        if (window.d == 0 || window.h == 0)
            NAME(find_nothing)(to, places, pooling, channels);
        else if (pooling->channels_last)
            NAME(find_pixels)(to, x + offset, places, pooling, &window, channels, 0,
                              pooling->problem.q);
        else
            NAME(find_row)(to, x + offset, places, pooling, &window, 0, pooling->problem.q);
        begin += channels;
    }
}
