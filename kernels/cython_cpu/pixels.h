/* All pixels and channels of a task, register tile by register tile, for microkernel.h. Included once
 * per instruction set and dtype STORED that a row reads: OUTPUT is the type of its results' elements,
 * STORE_TILE(f) what finishes a tile and writes it there.
 */
#ifndef OF
#define OF(function) JOIN(function, STORED, SET)
#endif

/* Have the cache lines of a tile's outputs brought while it is computed. */
INLINE void OF(fetch_outputs)(OUTPUT *out, const int64_t *pixel, int64_t pixels, int64_t channels,
                              int64_t stride_k)
{
    if (stride_k == 1)
        for (int64_t m = 0; m < pixels; m++)
            for (int64_t k = 0; k < channels; k += 64 / sizeof(OUTPUT))
                __builtin_prefetch(out + pixel[m] + k, 1);
    else
        for (int64_t k = 0; k < channels; k++) {
            __builtin_prefetch(out + pixel[0] + k * stride_k, 1);
            __builtin_prefetch(out + pixel[pixels - 1] + k * stride_k, 1);
        }
}

/* out[to[m] + k * stride_k] = the products of pixel from[m] in `a` with the weight panels, which
 * are `panel` elements apart, then bias and activation, for m < pixels, k < channels.
 * `tile`: MOST_PIXELS x 2 panels of scratch. */
LOOP void OF(multiply_pixels)(REAL *tile, const REAL *a, const int64_t *from, const int64_t *to,
                              int64_t pixels, const Runs *runs, const REAL *packed, int64_t panel,
                              int64_t channels, const REAL *bias, int64_t activation, OUTPUT *out,
                              int64_t stride_k)
{
    const int64_t tiles = (pixels + PIXELS - 1) / PIXELS;
    const int64_t blocks = (channels + 2 * LANES - 1) / (2 * LANES);
    /* Two vectors of weights stay in L1 or L2 while all pixels go by. Where all weights do, and an
     * output pixel's channels are neighbours in memory, those are written in one go instead. */
    const int pixels_first = stride_k == 1 && blocks * 2 * LANES / WIDTH * panel <= FEW_WEIGHTS;
    for (int64_t n = 0; n < tiles * blocks; n++) {
        const int64_t i = pixels_first ? n / blocks : n % tiles;
        const int64_t k = 2 * LANES * (pixels_first ? n % blocks : n / tiles);
        const int64_t first = i * pixels / tiles, count = (i + 1) * pixels / tiles - first;
        const int64_t left = channels - k, width = left < 2 * LANES ? left : 2 * LANES;
        const int64_t vectors = left > LANES ? 2 : 1;
        OUTPUT *at = out + k * stride_k;
        OF(fetch_outputs)(at, to + first, count, width, stride_k);
        NAME(multiply_vectors)(tile, count, vectors, a, from + first, runs,
                               packed + k / WIDTH * panel, LANES == WIDTH ? panel : LANES, 0);
        STORE_TILE(store_tile)(tile, vectors * LANES, count, width, bias ? bias + k : bias,
                               activation, at, to + first, stride_k);
    }
}
