/* The tiled row's way with few pixels, which read every weight once: out-channels whose in-channels
 * lie side by side are turned into vectors of out-channels in registers, a block at a time, and
 * multiplied at once. Panels would be written and read again beside weights that come from memory.
 * The order of the sums is a tile's. Included by microkernel.h.
 */
#ifndef UNPACKED_STEPS
/* Steps of the reduction that are packed at a time where there are too few registers. */
#define UNPACKED_STEPS 64
/* How far ahead rows of weights are fetched, of which processors lose track at so many at a time. To
 * L2: rows a multiple of 4 KiB apart would push each other out of L1. */
#define ROW_AHEAD (2048 / sizeof(REAL))

#define most_unpacked(tile) SELECT(most_unpacked, tile)()
#define multiply_unpacked(tile, a, from, to, pixels, length, w, apart, channels, bias, activation, \
                          out, stride_k)                                                          \
    SELECT(multiply_unpacked, tile)((void *)(tile), (void *)(a), from, to, pixels, length, w,      \
                                    apart, channels, bias, activation, (void *)(out), stride_k)
#endif

/* Pixels at most. */
LOOP int64_t NAME(most_unpacked)(void)
{
    return PIXELS;
}

#if HAS_AVX512
/* tile[m][i] (+)= sum of a[pixel[m] + j] * row[i][j] for the steps begin <= j < end, whole vectors;
 * those before are in the tile. `pixels` is a constant. */
INLINE void NAME(multiply_rows)(REAL *tile, const REAL *a, const int64_t *pixel,
                                const REAL *const *row, int64_t begin, int64_t end,
                                const int pixels)
{
    OFFSETS(at, pixel, pixels)
    VECTOR sum[PIXELS];
    for (int m = 0; m < pixels; m++)
        sum[m] = begin ? NAME(load)(tile + m * LANES) : (VECTOR){0};
#pragma GCC unroll 1
    for (int64_t j = begin; j < end; j += LANES) {
        VECTOR weight[LANES];
        for (int i = 0; i < LANES; i++) {
            weight[i] = NAME(load)(row[i] + j);
            __builtin_prefetch(row[i] + j + ROW_AHEAD, 0, 2);
        }
        NAME(transpose)(weight);
#pragma GCC unroll 14
        for (int m = 0; m < pixels; m++) {
            const REAL *under = a + at[m] + j;
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                sum[m] = NAME(multiply_add)(NAME(splat)(under[i]), weight[i], sum[m]);
        }
    }
    for (int m = 0; m < pixels; m++)
        NAME(store)(tile + m * LANES, sum[m]);
}

#undef ROWS_OF
#define ROWS_OF(pixels)                                                                    \
    LOOP void NAME(multiply_rows_##pixels)(REAL *tile, const REAL *a, const int64_t *pixel, \
                                           const REAL *const *row, int64_t begin,           \
                                           int64_t end)                                     \
    {                                                                                      \
        NAME(multiply_rows)(tile, a, pixel, row, begin, end, pixels);                      \
    }
ROWS_OF(1)
ROWS_OF(2)
ROWS_OF(3)
ROWS_OF(4)
ROWS_OF(5)
ROWS_OF(6)
ROWS_OF(7)
ROWS_OF(8)
ROWS_OF(9)
ROWS_OF(10)
ROWS_OF(11)
ROWS_OF(12)
ROWS_OF(13)
ROWS_OF(14)
#endif

/* As multiply_pixels, of at most most_unpacked() pixels with weights w[k * apart + j]. */
LOOP void NAME(multiply_unpacked)(REAL *tile, const REAL *a, const int64_t *from,
                                  const int64_t *to, int64_t pixels, int64_t length,
                                  const REAL *w, int64_t apart, int64_t channels,
                                  const REAL *bias, int64_t activation, REAL *out,
                                  int64_t stride_k)
{
    REAL packed[UNPACKED_STEPS * WIDTH];
#if HAS_AVX512
    static void (*const whole[])(REAL *, const REAL *, const int64_t *, const REAL *const *, int64_t,
                                 int64_t) = {
        NAME(multiply_rows_1),  NAME(multiply_rows_2),  NAME(multiply_rows_3),
        NAME(multiply_rows_4),  NAME(multiply_rows_5),  NAME(multiply_rows_6),
        NAME(multiply_rows_7),  NAME(multiply_rows_8),  NAME(multiply_rows_9),
        NAME(multiply_rows_10), NAME(multiply_rows_11), NAME(multiply_rows_12),
        NAME(multiply_rows_13), NAME(multiply_rows_14),
    };
#endif
    for (int64_t k = 0; k < channels; k += WIDTH, w += WIDTH * apart) {
        const int64_t rows = channels - k < WIDTH ? channels - k : WIDTH;
        int64_t done = 0, steps;
#if HAS_AVX512
        const REAL *row[LANES];
        /* What comes of the last row again isn't stored. */
        for (int i = 0; i < LANES; i++)
            row[i] = w + (i < rows ? i : rows - 1) * apart;
#endif
        for (; done < length; done += steps) {
            steps = length - done < UNPACKED_STEPS ? length - done : UNPACKED_STEPS;
#if HAS_AVX512
            /* Loads of whole lines: rows a multiple of 4 KiB apart share a set of L1, which doesn't
             * hold one of every row until the next step. */
            const int64_t before = -(uintptr_t)(w + done) % 64 / sizeof(REAL);
            if (before && before < steps)
                steps = before;
            else if (steps >= LANES) {
                steps = (length - done) / LANES * LANES;
                whole[pixels - 1](tile, a, from, row, done, done + steps);
                continue;
            }
#endif
            const Runs runs = {1, 1, 1, steps, 0, 0, 0, 1};
            NAME(pack_taps)(packed, w + done, apart, rows, steps, 1, steps);
            NAME(multiply_vectors)(tile, pixels, WIDTH / LANES, a + done, from, &runs, packed,
                                   LANES, done > 0);
        }
        NAME(store_tile)(tile, WIDTH, pixels, rows, bias ? bias + k : bias, activation,
                         out + k * stride_k, to, stride_k);
    }
}
