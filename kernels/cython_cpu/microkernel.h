/* The register-tiled micro-kernel of the tiled row, also im2col's where a GEMM's pixels are few, and
 * the store of its tile.
 *
 * A tile is some pixels x two vectors of out-channels, whose sums stay in registers over the whole
 * reduction: with AVX-512 up to 14 pixels x two weight panels, 28 of 32 registers; without it up to
 * 6 pixels x one panel, 12 of 16. A step costs a broadcast per pixel, two loads, and the
 * multiply-adds: the machine's FMA peak while the operands come from L1 or L2. How many pixels is
 * a constant of each instance, so that tiles of 11 pixels waste nothing. A step of pairs has two
 * channels. Included once per dtype and instruction set (instruction_sets.h).
 */
#ifndef MOST_PIXELS
#define MOST_PIXELS 14
/* Weights that leave room for more in an L2. */
#define FEW_WEIGHTS ((int64_t)(128 * 1024 / sizeof(REAL)))
/* How far ahead weights are fetched: processors do that by themselves only up to the end of a page,
 * which shows where weights come from L3 or memory. */
#define AHEAD (2048 / sizeof(REAL))

/* A reduction over t x r x s runs of `length` steps that are `step` apart, where run (i, j, l)
 * begins at i * step_t + j * step_r + l * step_s. */
typedef struct {
    int64_t t, r, s, length;
    int64_t step_t, step_r, step_s, step;
} Runs;

/* Have `size` bytes brought to L2. */
static inline void fetch(const void *at, int64_t size)
{
    for (int64_t byte = 0; byte < size; byte += 64)
        __builtin_prefetch((const char *)at + byte, 0, 2);
}

#define largest_tile(tile, a, pixel, depth, w) \
    SELECT(largest_tile, tile)(tile, a, pixel, depth, w)
#define multiply_pixels(x, tile, a, from, to, pixels, runs, packed, apart, channels, bias,    \
                        activation, out, stride_k)                                            \
    SELECT_READ(multiply_pixels, x)((void *)(tile), (void *)(a), from, to, pixels, runs,      \
                                    (void *)(packed), apart, channels, (void *)(bias),        \
                                    activation, (void *)(out), stride_k)
#endif

#undef PIXELS
#undef OFFSETS
#if HAS_AVX512
#define PIXELS 14
/* More offsets than general registers: GCC would keep some in vector registers, and moving them back
 * takes the multiply-adds' ports. Read from memory they are free. */
#define OFFSETS(at, pixel, pixels) const volatile int64_t *at = pixel;
#else
#define PIXELS 6
#define OFFSETS(at, pixel, pixels)      \
    int64_t at[PIXELS];                 \
    memcpy(at, pixel, pixels * sizeof *at);
#endif

#include "transpose.h"

/* tile[m][v] (+)= sum of a[pixel[m] + run + j * step] * w[v * apart + (run, j) * WIDTH], vectors
 * all of them, over all runs and steps j; `resume` goes on from the tile's sums. `pixels`,
 * `vectors` and `unrolled` are constants. */
INLINE void NAME(multiply)(REAL *tile, const REAL *a, const int64_t *pixel, const Runs *runs,
                           const REAL *w, int64_t apart, int resume, const int pixels,
                           const int vectors, const int unrolled)
{
    OFFSETS(at, pixel, pixels)
    VECTOR sum[MOST_PIXELS][2];
    for (int m = 0; m < pixels; m++)
        for (int v = 0; v < vectors; v++)
            sum[m][v] = resume ? NAME(load)(tile + (m * vectors + v) * LANES) : (VECTOR){0};

    const int64_t step = runs->step;
    for (int64_t t = 0; t < runs->t; t++)
        for (int64_t r = 0; r < runs->r; r++)
            for (int64_t s = 0; s < runs->s; s++) {
                const REAL *x = a + t * runs->step_t + r * runs->step_r + s * runs->step_s;
                int64_t left = runs->length;
#pragma GCC unroll 1
                for (; left >= unrolled; left -= unrolled) {
                    VECTOR weight[4][2];
                    for (int j = 0; j < unrolled; j++)
                        for (int v = 0; v < vectors; v++)
                            weight[j][v] = NAME(load)(w + j * WIDTH + v * apart);
                    for (int j = 0; j < unrolled; j++)
                        for (int v = 0; v < vectors && (v == 0 || LANES == WIDTH); v++)
                            __builtin_prefetch(w + j * WIDTH + v * apart + AHEAD);
#pragma GCC unroll 14
                    for (int m = 0; m < pixels; m++) {
                        const REAL *under = x + at[m];
                        for (int j = 0; j < unrolled; j++) {
                            const VECTOR value = NAME(splat)(under[j * step]);
                            for (int v = 0; v < vectors; v++)
                                sum[m][v] = NAME(multiply_add)(value, weight[j][v], sum[m][v]);
                        }
                    }
                    x += unrolled * step;
                    w += unrolled * WIDTH;
                }
#pragma GCC unroll 1
                for (; unrolled > 1 && left > 0; left--) {
                    const VECTOR weight = NAME(load)(w);
#pragma GCC unroll 14
                    for (int m = 0; m < pixels; m++)
                        sum[m][0] = NAME(multiply_add)(NAME(splat)(x[at[m]]), weight, sum[m][0]);
                    x += step;
                    w += WIDTH;
                }
            }

    for (int m = 0; m < pixels; m++)
        for (int v = 0; v < vectors; v++)
            NAME(store)(tile + (m * vectors + v) * LANES, sum[m][v]);
}

/* One vector of AVX-512 takes four steps at a time: fewer would load pointers faster than it can. */
#undef UNROLLED
#define UNROLLED (HAS_AVX512 ? 4 : 1)
#ifndef INSTANCE
#define ARGUMENTS tile, a, pixel, runs, w, apart, resume
#define INSTANCE(pixels)                                                                        \
    LOOP void NAME(multiply_1_##pixels)(REAL *tile, const REAL *a, const int64_t *pixel,        \
                                        const Runs *runs, const REAL *w, int64_t apart,         \
                                        int resume)                                             \
    {                                                                                           \
        NAME(multiply)(tile, a, pixel, runs, w, apart, resume, pixels, 1, UNROLLED);            \
    }                                                                                           \
    LOOP void NAME(multiply_2_##pixels)(REAL *tile, const REAL *a, const int64_t *pixel,        \
                                        const Runs *runs, const REAL *w, int64_t apart,         \
                                        int resume)                                             \
    {                                                                                           \
        NAME(multiply)(tile, a, pixel, runs, w, apart, resume, pixels, 2, 1);                   \
    }
#define CASE(pixels)                                          \
    case pixels:                                              \
        if (vectors == 2)                                     \
            NAME(multiply_2_##pixels)(tile, a, pixel, runs, w, apart, resume); \
        else                                                  \
            NAME(multiply_1_##pixels)(tile, a, pixel, runs, w, apart, resume); \
        return;
#endif

INSTANCE(1)
INSTANCE(2)
INSTANCE(3)
INSTANCE(4)
INSTANCE(5)
INSTANCE(6)
#if PIXELS > 6
INSTANCE(7)
INSTANCE(8)
INSTANCE(9)
INSTANCE(10)
INSTANCE(11)
INSTANCE(12)
INSTANCE(13)
INSTANCE(14)
#endif

/* The tile [pixels][vectors * LANES] (+)= the products of 1 to PIXELS pixels, gathered from anywhere
 * in `a`, with one or two vectors of weights. */
LOOP void NAME(multiply_vectors)(REAL *tile, int64_t pixels, int64_t vectors, const REAL *a,
                                 const int64_t *pixel, const Runs *runs, const REAL *w,
                                 int64_t apart, int resume)
{
    switch (pixels) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
#if PIXELS > 6
        CASE(7)
        CASE(8)
        CASE(9)
        CASE(10)
        CASE(11)
        CASE(12)
        CASE(13)
        CASE(14)
#endif
    }
}

/* The largest tile, the same pixels at every step, two panels of weights after each other. Returns
 * its sums. */
LOOP int64_t NAME(largest_tile)(REAL *tile, const REAL *a, const int64_t *pixel, int64_t depth,
                                const REAL *w)
{
    const Runs runs = {1, 1, 1, depth, 0, 0, 0, 0};
    NAME(multiply_vectors)(tile, PIXELS, 2, a, pixel, &runs, w,
                           LANES == WIDTH ? depth * WIDTH : LANES, 0);
    return PIXELS * 2 * LANES;
}

/* Write `pixels` rows of the tile, `row` apart, as columns: channel k of pixel m to
 * out[m * apart + k * stride_k]; `apart` is 1, or 2 with AVX-512. */
INLINE void NAME(store_columns)(const REAL *tile, int64_t row, int64_t pixels, int64_t channels,
                                REAL *out, int64_t apart, int64_t stride_k)
{
#if HAS_AVX512
    for (int64_t k = 0; k < channels; k += LANES)
        for (int64_t m = 0; m < pixels; m += LANES) {
            const int64_t lanes = pixels - m < LANES ? pixels - m : LANES;
            VECTOR turned[LANES];
            for (int i = 0; i < LANES; i++)
                turned[i] = NAME(load)(tile + (m + (i < lanes ? i : lanes - 1)) * row + k);
            NAME(transpose)(turned);
            REAL *to = out + k * stride_k + m * apart;
            for (int i = 0; i < LANES && i < channels - k; i++, to += stride_k)
                if (apart == 1)
                    NAME(store_first)(to, turned[i], lanes);
                else
                    NAME(store_apart)(to, turned[i], lanes);
        }
#else
    NAME(copy_transposed)(out, stride_k, tile, 1, row, channels, pixels);
#endif
}

/* Add the bias (NULL: none), apply the activation, and write the first `channels` of the rows of
 * the tile, `row` apart, to out[pixel[m] + k * stride_k]. Overwrites the tile. */
LOOP void NAME(store_tile)(REAL *tile, int64_t row, int64_t pixels, int64_t channels,
                           const REAL *bias, int64_t activation, REAL *out, const int64_t *pixel,
                           int64_t stride_k)
{
    for (int64_t k = 0; (stride_k == 1 || bias || activation) && k < channels; k += LANES) {
        const int64_t lanes = channels - k < LANES ? channels - k : LANES;
        /* y + -0.0 is y, whatever y is: no bias is the bias -0.0. */
        VECTOR added = NAME(splat)((REAL)-0.0);
        if (bias)
            added = NAME(load_first)(bias + k, lanes);
        for (int64_t m = 0; m < pixels; m++) {
            REAL *at = tile + m * row + k;
            const VECTOR y = NAME(activate)(NAME(load)(at) + added, activation);
            if (stride_k != 1)
                NAME(store)(at, y);
            else if (lanes == LANES)
                NAME(store)(out + pixel[m] + k, y);
            else
                NAME(store_first)(out + pixel[m] + k, y, lanes);
        }
    }
    if (stride_k == 1)
        return;
    for (int64_t m = 0, end; m < pixels; m = end) {
        /* Neighbours in memory, up to the end of an output row, or every other of them: a phase of
         * a gradient. */
        const int64_t apart = HAS_AVX512 && m + 1 < pixels && pixel[m + 1] - pixel[m] == 2 ? 2 : 1;
        end = m + 1;
        while (end < pixels && pixel[end] == pixel[m] + (end - m) * apart)
            end++;
        NAME(store_columns)(tile + m * row, row, end - m, channels, out + pixel[m], apart, stride_k);
    }
}

#define STORED DTYPE
#define OUTPUT REAL
#define STORE_TILE NAME
#include "pixels.h"
#undef STORED
#undef OUTPUT
#undef STORE_TILE

#ifdef WITH_STORED
#ifdef IS_SINGLE
#define STORED f16
#define STORED_TYPE float16
#include "storage.h"
#define STORED bf16
#define STORED_TYPE bfloat16
#define IS_BRAIN
#include "storage.h"
#undef IS_BRAIN
#elif defined(IS_PAIRS)
#define RAW_AS(begin, end) JOIN_WORDS(JOIN_WORDS(begin, epi8), end)
#define STORED i8
#define STORED_TYPE int8_t
#include "storage.h"
#undef RAW_AS
#define RAW_AS(begin, end) JOIN_WORDS(JOIN_WORDS(begin, epu8), end)
#define STORED u8
#define STORED_TYPE uint8_t
#include "storage.h"
#undef RAW_AS
#endif
#endif

#ifndef IS_PAIRS
#include "unpacked.h"
#endif
