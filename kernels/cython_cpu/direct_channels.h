/* The loops of the direct row for one channel per group where channels lie next to each other:
 * vectors of channels, a few pixels of an output row at a time. Each pixel of the input is loaded
 * once per kernel row and multiplied into all pixels that see it; padding is
 * zeros. Included by direct.h.
 */
#ifndef MOST_PIXELS
#define MOST_PIXELS 7
/* Vectors of channels that a task computes. */
#define CHANNEL_VECTORS 2

/* Along a row: taps, input columns from one to the next and from output to output, the column of
 * tap 0 of the first output, and how far apart columns are in memory. */
typedef struct {
    int64_t taps, dilation, stride, at, size, x_w;
} Columns;

#define PIXELS(REAL)                                                                         \
    REAL *out, const Target *target, const REAL *x, const REAL *w, int64_t w_tap,            \
        const REAL *bias, const Window *window, const Columns *columns, int64_t pixels,      \
        int64_t lanes

#define lanes_of(pointer) SELECT(lanes_of, pointer)()
#define sum_channels(out, target, x, w, bias, window, columns, rows, pixels, channels) \
    SELECT(sum_channels, out)(out, target, x, w, bias, window, columns, rows, pixels, channels)
#endif

LOOP int64_t NAME(lanes_of)(void)
{
    return LANES;
}

/* A pixel's channels; if `checked`, some lanes of it, or zeros for a column outside of the input. */
INLINE VECTOR NAME(load_pixel)(const REAL *x, const Columns *columns, int64_t column,
                               int64_t lanes, const int checked)
{
    VECTOR value = {0};
    if (!checked)
        value = NAME(load)(x + column * columns->x_w);
    else if ((uint64_t)(columns->at + column) < (uint64_t)columns->size)
        value = NAME(load_first)(x + column * columns->x_w, lanes);
    KEEP_IN_REGISTER(value);
    return value;
}

/* One row of taps. `taps` and `stride` are constants, or 0 for any. */
INLINE void NAME(add_pixels)(VECTOR sum[MOST_PIXELS], const REAL *x, const REAL *w,
                             int64_t w_tap, const Columns *columns, int64_t lanes,
                             const int taps, const int stride, const int checked)
{
    if (taps == 0) {
        for (int64_t s = 0; s < columns->taps; s++) {
            const VECTOR factor = NAME(load)(w + s * w_tap);
#pragma GCC unroll 7
            for (int q = 0; q < MOST_PIXELS; q++) {
                const VECTOR value = NAME(load_pixel)(
                    x, columns, q * columns->stride + s * columns->dilation, lanes, checked);
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
        const VECTOR value = NAME(load_pixel)(x, columns, j, lanes, checked);
#pragma GCC unroll 7
        for (int q = 0; q < MOST_PIXELS; q++)
            if (j - q * stride >= 0 && j - q * stride < taps)
                sum[q] = NAME(multiply_add)(factor[j - q * stride], value, sum[q]);
    }
}

/* Blocks of MOST_PIXELS pixels of a row, the last of fewer; what `out` and `x` point to are the
 * channels of the row's first pixel. A block is checked if a part of it is outside. */
INLINE void NAME(sum_row)(PIXELS(REAL), const int taps, const int stride)
{
    const VECTOR added = bias ? NAME(load_first)(bias, lanes) : (VECTOR){0} + (REAL)-0.0;
    const int64_t step = MOST_PIXELS * columns->stride;
    const int64_t reach = step - columns->stride + (columns->taps - 1) * columns->dilation;
    Columns part = *columns;
    Columns outside = {.taps = part.taps, .dilation = part.dilation, .stride = part.stride};
    for (int64_t first = 0; first < pixels; first += MOST_PIXELS) {
        const int64_t count = pixels - first < MOST_PIXELS ? pixels - first : MOST_PIXELS;
        const int within = lanes == LANES && part.at >= 0 && part.at + reach < part.size;
        VECTOR sum[MOST_PIXELS];
#pragma GCC unroll 7
        for (int q = 0; q < MOST_PIXELS; q++)
            sum[q] = (VECTOR){0};
        const REAL *factors = w;
        for (int64_t t = 0; t < window->t; t++)
            for (int64_t r = 0; r < window->r; r++, factors += part.taps * w_tap) {
                const int inside = NAME(has_row)(window, window->at_d + t * window->dilation_d,
                                                 window->at_h + r * window->dilation_h);
                const REAL *row = x + t * window->x_t + r * window->x_r;
                if (within && inside)
                    NAME(add_pixels)(sum, row, factors, w_tap, &part, lanes, taps, stride, 0);
                else
                    NAME(add_pixels)(sum, row, factors, w_tap, inside ? &part : &outside, lanes,
                                     taps, stride, 1);
            }
#pragma GCC unroll 7
        for (int q = 0; q < MOST_PIXELS; q++) {
            VECTOR y = sum[q] + added;
            if (target->activation)
                y = NAME(activate)(y, target->activation);
            if (q < count && lanes == LANES)
                NAME(store)(out + q * target->q, y);
            else if (q < count)
                NAME(store_first)(out + q * target->q, y, lanes);
        }
        out += MOST_PIXELS * target->q;
        x += step * part.x_w;
        part.at += step;
    }
}

#undef SUM_PIXELS
#define SUM_PIXELS(name, TAPS, STRIDE)                                                        \
    LOOP void NAME(name)(PIXELS(REAL))                                                        \
    {                                                                                         \
        NAME(sum_row)(out, target, x, w, w_tap, bias, window, columns, pixels, lanes, TAPS,   \
                      STRIDE);                                                                \
    }
SUM_PIXELS(sum_pixels, 0, 0)
SUM_PIXELS(sum_pixels_3, 3, 1)
SUM_PIXELS(sum_pixels_3_2, 3, 2)
SUM_PIXELS(sum_pixels_5, 5, 1)
SUM_PIXELS(sum_pixels_5_2, 5, 2)

#if HAS_AVX512
/* Two rows below each other with 3 x 3 taps, the weights in registers as well. */
INLINE void NAME(add_two_rows)(VECTOR sum[2][MOST_PIXELS], const REAL *x, const VECTOR factor[9],
                               const Window *window, const Columns *columns, const int stride,
                               const int checked)
{
    const Columns outside = {.size = 0};
#pragma GCC unroll 5
    for (int r = 0; r < 3 + stride; r++) {
        const int inside = (uint64_t)(window->at_h + r) < (uint64_t)window->h;
#pragma GCC unroll 17
        for (int j = 0; j < (MOST_PIXELS - 1) * stride + 3; j++) {
            const VECTOR value = NAME(load_pixel)(x + r * window->x_r,
                                                  inside || !checked ? columns : &outside, j,
                                                  LANES, checked);
#pragma GCC unroll 2
            for (int p = 0; p < 2; p++)
#pragma GCC unroll 7
                for (int q = 0; q < MOST_PIXELS; q++)
                    if (j - q * stride >= 0 && j - q * stride < 3 && r - p * stride >= 0
                        && r - p * stride < 3)
                        sum[p][q] = NAME(multiply_add)(
                            factor[(r - p * stride) * 3 + j - q * stride], value, sum[p][q]);
        }
    }
}

/* All lanes of MOST_PIXELS pixels and more. */
INLINE void NAME(sum_two_rows)(PIXELS(REAL), const int stride)
{
    const VECTOR added = bias ? NAME(load)(bias) : (VECTOR){0} + (REAL)-0.0;
    VECTOR factor[9];
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; tap++)
        factor[tap] = NAME(load)(w + tap * w_tap);
    Columns part = *columns;
    for (int64_t first = 0; first < pixels; first += MOST_PIXELS) {
        /* The last block has as many pixels as all: some come out twice, the same. */
        const int64_t q = first + MOST_PIXELS > pixels ? pixels - MOST_PIXELS : first;
        const REAL *from = x + q * stride * columns->x_w;
        VECTOR sum[2][MOST_PIXELS];
#pragma GCC unroll 7
        for (int i = 0; i < MOST_PIXELS; i++)
            sum[0][i] = sum[1][i] = (VECTOR){0};
        part.at = columns->at + q * stride;
        if (part.at >= 0 && part.at + (MOST_PIXELS - 1) * stride + 3 <= part.size
            && window->at_h >= 0 && window->at_h + 3 + stride <= window->h)
            NAME(add_two_rows)(sum, from, factor, window, &part, stride, 0);
        else
            NAME(add_two_rows)(sum, from, factor, window, &part, stride, 1);
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++)
#pragma GCC unroll 7
            for (int i = 0; i < MOST_PIXELS; i++) {
                VECTOR y = sum[p][i] + added;
                if (target->activation)
                    y = NAME(activate)(y, target->activation);
                NAME(store)(out + p * target->p + (q + i) * target->q, y);
            }
    }
}
#undef SUM_TWO_ROWS
#define SUM_TWO_ROWS(name, STRIDE)                                                            \
    LOOP void NAME(name)(PIXELS(REAL))                                                        \
    {                                                                                         \
        NAME(sum_two_rows)(out, target, x, w, w_tap, bias, window, columns, pixels, lanes,    \
                           STRIDE);                                                           \
    }
SUM_TWO_ROWS(sum_two_rows_1, 1)
SUM_TWO_ROWS(sum_two_rows_2, 2)
#endif

/* `rows` output rows of `pixels` pixels of up to CHANNEL_VECTORS vectors of `channels` channels;
 * weights [t][r][s][CHANNEL_VECTORS * LANES]. */
LOOP void NAME(sum_channels)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                             const REAL *bias, const Window *window, const Columns *columns,
                             int64_t rows, int64_t pixels, int64_t channels)
{
    const int near = columns->dilation == 1;
    void (*sum)(PIXELS(REAL)) =
        near && columns->taps == 3 && columns->stride == 1   ? NAME(sum_pixels_3)
        : near && columns->taps == 3 && columns->stride == 2 ? NAME(sum_pixels_3_2)
        : near && columns->taps == 5 && columns->stride == 1 ? NAME(sum_pixels_5)
        : near && columns->taps == 5 && columns->stride == 2 ? NAME(sum_pixels_5_2)
                                                             : NAME(sum_pixels);
    const int64_t w_tap = CHANNEL_VECTORS * LANES;
    Window part = *window;
    int64_t together = 1;
#if HAS_AVX512
    if (near && columns->taps == 3 && window->r == 3 && window->t == 1 && window->dilation_h == 1
        && window->stride == columns->stride && columns->stride <= 2 && rows >= 2
        && pixels >= MOST_PIXELS && channels % LANES == 0
        && (uint64_t)window->at_d < (uint64_t)window->d) {
        sum = columns->stride == 1 ? NAME(sum_two_rows_1) : NAME(sum_two_rows_2);
        together = 2;
    }
#endif
    for (int64_t first = 0; first < rows; first += together) {
        /* The last rows may come out twice, the same. */
        const int64_t p = first + together > rows ? rows - together : first;
        part.at_h = window->at_h + p * window->stride;
        for (int64_t v = 0; v < channels; v += LANES)
            sum(out + p * target->p + v, target, x + p * window->x_p + v, w + v, w_tap,
                bias ? bias + v : 0, &part, columns, pixels,
                channels - v < LANES ? channels - v : LANES);
    }
}
