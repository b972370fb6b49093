/* The loops of the direct row for one channel per group where channels lie next to each other:
 * vectors of channels, a few pixels of an output row at a time. Each pixel of the input is loaded
 * once per kernel row and multiplied into all pixels that see it. Included by direct.h.
 */
#ifndef MOST_PIXELS
#define MOST_PIXELS 7
/* Vectors of channels that a task computes. */
#define CHANNEL_VECTORS 2

/* Along a row, in input columns `dilation` apart: taps, columns from one output to the next, and
 * how far apart they and tap 0 of the first output are in memory and in the input. */
typedef struct {
    int64_t taps, stride, x_s, at, size, dilation;
} Columns;

#define PIXELS(REAL)                                                                         \
    REAL *out, const Target *target, const REAL *x, const REAL *w, int64_t w_tap,            \
        const REAL *bias, const Window *window, const Columns *columns, int64_t count,       \
        int64_t lanes

#define channels_of_vectors(pointer) (CHANNEL_VECTORS * SELECT(lanes_of, pointer)())
#define sum_channels(out, target, x, w, bias, window, columns, rows, pixels, channels) \
    SELECT(sum_channels, out)(out, target, x, w, bias, window, columns, rows, pixels, channels)
#endif

LOOP int64_t NAME(lanes_of)(void)
{
    return LANES;
}

/* One row of taps. TAPS and STRIDE are constants, or 0 for any. */
INLINE void NAME(add_pixels)(VECTOR sum[MOST_PIXELS], const REAL *x, const REAL *w,
                             int64_t w_tap, const Columns *columns, int inside, int64_t lanes,
                             const int taps, const int stride)
{
    if (taps == 0) {
        for (int64_t s = 0; s < columns->taps; s++) {
            const VECTOR factor = NAME(load)(w + s * w_tap);
            for (int q = 0; q < MOST_PIXELS; q++) {
                const int64_t j = q * columns->stride + s;
                const int64_t at = columns->at + j * columns->dilation;
                VECTOR value = {0};
                if (inside && (uint64_t)at < (uint64_t)columns->size)
                    value = NAME(load_first)(x + j * columns->x_s, lanes);
                sum[q] = NAME(multiply_add)(factor, value, sum[q]);
            }
        }
        return;
    }
    VECTOR factor[5];
#pragma GCC unroll 5
    for (int s = 0; s < taps; s++)
        factor[s] = NAME(load)(w + s * w_tap);
#pragma GCC unroll 17
    for (int j = 0; j < (MOST_PIXELS - 1) * stride + taps; j++) {
        const int64_t at = columns->at + j * columns->dilation;
        VECTOR value = {0};
        if (inside && (uint64_t)at < (uint64_t)columns->size) {
            value = lanes == LANES ? NAME(load)(x + j * columns->x_s)
                                   : NAME(load_first)(x + j * columns->x_s, lanes);
            KEEP_IN_REGISTER(value);
        }
#pragma GCC unroll 7
        for (int q = 0; q < MOST_PIXELS; q++)
            if (j - q * stride >= 0 && j - q * stride < taps)
                sum[q] = NAME(multiply_add)(factor[j - q * stride], value, sum[q]);
    }
}

/* Up to MOST_PIXELS pixels of a vector. */
#undef SUM_PIXELS
#define SUM_PIXELS(name, taps, stride)                                                       \
    LOOP void NAME(name)(PIXELS(REAL))                                                       \
    {                                                                                        \
        VECTOR sum[MOST_PIXELS] = {0};                                                       \
        for (int64_t t = 0; t < window->t; t++) {                                            \
            const int64_t d = window->at_d + t * window->dilation_d;                         \
            for (int64_t r = 0; r < window->r; r++, w += columns->taps * w_tap) {            \
                const int64_t h = window->at_h + r * window->dilation_h;                     \
                const int inside = (uint64_t)d < (uint64_t)window->d                         \
                                   && (uint64_t)h < (uint64_t)window->h;                     \
                NAME(add_pixels)(sum, x + t * window->x_t + r * window->x_r, w, w_tap,       \
                                 columns, inside, lanes, taps, stride);                      \
            }                                                                                \
        }                                                                                    \
        const VECTOR added = bias ? NAME(load_first)(bias, lanes) : (VECTOR){0} + (REAL)-0.0; \
        for (int q = 0; q < MOST_PIXELS; q++) {                                              \
            if (q == count)                                                                  \
                break;                                                                       \
            NAME(store_first)(out + q * target->q,                                           \
                              NAME(activate)(sum[q] + added, target->activation), lanes);    \
        }                                                                                    \
    }
SUM_PIXELS(sum_pixels, 0, 0)
SUM_PIXELS(sum_pixels_3, 3, 1)
SUM_PIXELS(sum_pixels_3_2, 3, 2)
SUM_PIXELS(sum_pixels_5, 5, 1)
SUM_PIXELS(sum_pixels_5_2, 5, 2)

/* `rows` output rows of `pixels` pixels of up to CHANNEL_VECTORS vectors of `channels` channels;
 * weights [t][r][s][CHANNEL_VECTORS * LANES]. */
LOOP void NAME(sum_channels)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                             const REAL *bias, const Window *window, const Columns *columns,
                             int64_t rows, int64_t pixels, int64_t channels)
{
    void (*const sum)(PIXELS(REAL)) =
        columns->taps == 3 && columns->stride == 1   ? NAME(sum_pixels_3)
        : columns->taps == 3 && columns->stride == 2 ? NAME(sum_pixels_3_2)
        : columns->taps == 5 && columns->stride == 1 ? NAME(sum_pixels_5)
        : columns->taps == 5 && columns->stride == 2 ? NAME(sum_pixels_5_2)
                                                     : NAME(sum_pixels);
    Window part = *window;
    for (int64_t p = 0; p < rows; p++, part.at_h += window->stride) {
        Columns from = *columns;
        const int64_t step = MOST_PIXELS * columns->stride;
        const REAL *x_p = x + p * target->k;
        for (int64_t q = 0; q < pixels; q += MOST_PIXELS) {
            const int64_t count = pixels - q < MOST_PIXELS ? pixels - q : MOST_PIXELS;
            for (int64_t v = 0; v < channels; v += LANES)
                sum(out + p * target->p + q * target->q + v, target, x_p + v, w + v,
                    CHANNEL_VECTORS * LANES, bias ? bias + v : 0, &part, &from, count,
                    channels - v < LANES ? channels - v : LANES);
            x_p += step * columns->x_s;
            from.at += step * columns->dilation;
        }
    }
}
