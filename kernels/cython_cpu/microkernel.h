/* The register-tiled micro-kernel of the im2col, tiled and wgrad rows, and the store of its tile.
 *
 * A tile is TILE_PIXELS pixels x WIDTH out-channels; its 12 vectors of sums stay in registers over
 * the whole reduction, and each step costs 6 broadcasts, 2 loads and 12 multiply-adds. That is the
 * machine's FMA peak while the operands come from L1 or L2. Included once per dtype and instruction
 * set (instruction_sets.h).
 */
#ifndef TILE_PIXELS
#define TILE_PIXELS 6
#define WIDTH (2 * LANES)
#define BLOCK (LANES / 2)

/* A reduction over t x r x s runs of `length` steps that are `step` apart, where run (i, j, l)
 * begins at i * step_t + j * step_r + l * step_s. */
typedef struct {
    int64_t t, r, s, length;
    int64_t step_t, step_r, step_s, step;
} Runs;

#define micro_kernel(tile, a, pixel, runs, w, resume) \
    SELECT(micro_kernel, tile)(tile, a, pixel, runs, w, resume)
#define micro_kernel_panel(tile, a, depth, w, resume) \
    SELECT(micro_kernel_panel, tile)(tile, a, depth, w, resume)
#define store_tile(tile, pixels, channels, bias, activation, out, pixel, stride_k) \
    SELECT(store_tile, tile)(tile, pixels, channels, bias, activation, out, pixel, stride_k)
#define pack_pixels(to, x, offset, inside, stride_c, channels) \
    SELECT(pack_pixels, to)(to, x, offset, inside, stride_c, channels)
#define copy_transposed(to, to_stride, from, stride_i, stride_j, rows, columns) \
    SELECT(copy_transposed, to)(to, to_stride, from, stride_i, stride_j, rows, columns)
#endif

/* tile[m][:] (+)= sum of a[pixel[m] + run + j * step] * w[run][j][:] over all runs and steps j;
 * `resume` goes on from the tile's sums. */
INLINE void NAME(multiply)(REAL *tile, const REAL *a, const int64_t *pixel, const Runs *runs,
                           const REAL *w, int resume)
{
    int64_t at[TILE_PIXELS];
    memcpy(at, pixel, sizeof at);
    VECTOR sum[TILE_PIXELS][2];
    for (int m = 0; m < TILE_PIXELS; m++)
        for (int v = 0; v < 2; v++)
            sum[m][v] = resume ? NAME(load)(tile + m * WIDTH + v * LANES) : (VECTOR){0};

    for (int64_t t = 0; t < runs->t; t++)
        for (int64_t r = 0; r < runs->r; r++)
            for (int64_t s = 0; s < runs->s; s++) {
                const REAL *x = a + t * runs->step_t + r * runs->step_r + s * runs->step_s;
                /* Not unrolled: GCC 12 spills sums when it does. */
#pragma GCC unroll 1
                for (int64_t j = 0; j < runs->length; j++, x += runs->step, w += WIDTH) {
                    const VECTOR w0 = NAME(load)(w), w1 = NAME(load)(w + LANES);
                    for (int m = 0; m < TILE_PIXELS; m++) {
                        const VECTOR value = NAME(splat)(x[at[m]]);
                        sum[m][0] = NAME(multiply_add)(value, w0, sum[m][0]);
                        sum[m][1] = NAME(multiply_add)(value, w1, sum[m][1]);
                    }
                }
            }

    for (int m = 0; m < TILE_PIXELS; m++)
        for (int v = 0; v < 2; v++)
            NAME(store)(tile + m * WIDTH + v * LANES, sum[m][v]);
}

/* Pixels gathered from anywhere in `a`, channels side by side. */
LOOP void NAME(micro_kernel)(REAL *tile, const REAL *a, const int64_t *pixel, const Runs *runs,
                             const REAL *w, int resume)
{
    NAME(multiply)(tile, a, pixel, runs, w, resume);
}

/* Pixels packed side by side, [depth][TILE_PIXELS]. */
LOOP void NAME(micro_kernel_panel)(REAL *tile, const REAL *a, int64_t depth, const REAL *w,
                                   int resume)
{
    static const int64_t pixel[TILE_PIXELS] = {0, 1, 2, 3, 4, 5};
    const Runs runs = {1, 1, 1, depth, 0, 0, 0, TILE_PIXELS};
    NAME(multiply)(tile, a, pixel, &runs, w, resume);
}

/* to[i * to_stride + j] = from[i + j * from_stride] for i, j < BLOCK, a vector of half size each:
 * every round interleaves the first half of the rows with the second. */
INLINE void NAME(transpose)(REAL *to, int64_t to_stride, const REAL *from, int64_t from_stride)
{
    HALF row[BLOCK], next[BLOCK];
    for (int j = 0; j < BLOCK; j++)
        memcpy(&row[j], from + j * from_stride, sizeof(HALF));
    for (int size = 1; size < BLOCK; size *= 2) {
        for (int j = 0; j < BLOCK / 2; j++) {
            const HALF low = row[j], high = row[j + BLOCK / 2];
#if LANES == 8
            next[2 * j] = SHUFFLE(HALF_MASK, low, high, 0, 4, 1, 5);
            next[2 * j + 1] = SHUFFLE(HALF_MASK, low, high, 2, 6, 3, 7);
#else
            next[2 * j] = SHUFFLE(HALF_MASK, low, high, 0, 2);
            next[2 * j + 1] = SHUFFLE(HALF_MASK, low, high, 1, 3);
#endif
        }
        memcpy(row, next, sizeof row);
    }
    for (int i = 0; i < BLOCK; i++)
        memcpy(to + i * to_stride, &row[i], sizeof(HALF));
}

/* The same for i < rows, j < columns, both at least BLOCK. The last blocks begin early enough to
 * end with the array. */
INLINE void NAME(transpose_all)(REAL *to, int64_t to_stride, const REAL *from, int64_t from_stride,
                                int64_t rows, int64_t columns)
{
    for (int64_t j = 0; j < columns; j += BLOCK) {
        j = j + BLOCK <= columns ? j : columns - BLOCK;
        for (int64_t i = 0; i < rows; i += BLOCK) {
            i = i + BLOCK <= rows ? i : rows - BLOCK;
            NAME(transpose)(to + i * to_stride + j, to_stride, from + i + j * from_stride,
                            from_stride);
        }
    }
}

/* to[i * to_stride + j] = from[i * stride_i + j * stride_j] for i < rows, j < columns. */
LOOP void NAME(copy_transposed)(REAL *restrict to, int64_t to_stride, const REAL *restrict from,
                                int64_t stride_i, int64_t stride_j, int64_t rows, int64_t columns)
{
    if (stride_j == 1 && columns >= BLOCK)
        for (int64_t i = 0; i < rows; i++)
            memcpy(to + i * to_stride, from + i * stride_i, columns * sizeof(REAL));
    else if (stride_i == 1 && rows >= BLOCK && columns >= BLOCK)
        NAME(transpose_all)(to, to_stride, from, stride_j, rows, columns);
    else
        for (int64_t j = 0; j < columns; j++)
            for (int64_t i = 0; i < rows; i++)
                to[i * to_stride + j] = from[i * stride_i + j * stride_j];
}

/* Add the bias (NULL: none), apply the activation, and write the tile's first `pixels` x `channels`
 * to out[pixel[m] + k * stride_k]. Overwrites the tile. */
LOOP void NAME(store_tile)(REAL *tile, int64_t pixels, int64_t channels, const REAL *bias,
                           int activation, REAL *out, const int64_t *pixel, int64_t stride_k)
{
    /* y + -0.0 is y, whatever y is: no bias is the bias -0.0. */
    REAL bias_panel[WIDTH];
    if (!bias || channels < WIDTH) {
        for (int64_t k = 0; k < WIDTH; k++)
            bias_panel[k] = bias && k < channels ? bias[k] : (REAL)-0.0;
        bias = bias_panel;
    }
    for (int m = 0; m < TILE_PIXELS; m++)
        for (int v = 0; v < 2; v++) {
            REAL *at = tile + m * WIDTH + v * LANES;
            const VECTOR y = NAME(load)(at) + NAME(load)(bias + v * LANES);
            NAME(store)(at, NAME(activate)(y, activation));
        }

    int neighbours = 1;
    for (int64_t m = 0; m < pixels; m++)
        neighbours &= pixel[m] == pixel[0] + m;
    if (stride_k == 1 && channels == WIDTH)
        for (int64_t m = 0; m < pixels; m++)
            memcpy(out + pixel[m], tile + m * WIDTH, WIDTH * sizeof(REAL));
    else if (neighbours && pixels == TILE_PIXELS && channels == WIDTH)
        NAME(transpose_all)(out + pixel[0], stride_k, tile, WIDTH, WIDTH, TILE_PIXELS);
    else if (neighbours)
        NAME(copy_transposed)(out + pixel[0], stride_k, tile, 1, WIDTH, channels, pixels);
    else
        for (int64_t m = 0; m < pixels; m++)
            for (int64_t k = 0; k < channels; k++)
                out[pixel[m] + k * stride_k] = tile[m * WIDTH + k];
}

/* Pack `channels` values of TILE_PIXELS pixels as [channel][TILE_PIXELS]: channel c of pixel m is
 * x[offset[m] + c * stride_c], or 0 if the pixel isn't inside. */
LOOP void NAME(pack_pixels)(REAL *restrict to, const REAL *restrict x, const int64_t *offset,
                            const int *inside, int64_t stride_c, int64_t channels)
{
    const int64_t apart = offset[1] - offset[0];
    int all = 1, even = 1;
    for (int m = 0; m < TILE_PIXELS; m++) {
        all &= inside[m];
        even &= offset[m] == offset[0] + m * apart;
    }
    if (all && even && (apart == 1 || stride_c == 1))
        NAME(copy_transposed)(to, TILE_PIXELS, x + offset[0], stride_c, apart, channels,
                              TILE_PIXELS);
    else if (all)
        for (int64_t c = 0; c < channels; c++)
            for (int m = 0; m < TILE_PIXELS; m++)
                to[c * TILE_PIXELS + m] = x[offset[m] + c * stride_c];
    else
        for (int m = 0; m < TILE_PIXELS; m++)
            for (int64_t c = 0; c < channels; c++)
                to[c * TILE_PIXELS + m] = inside[m] ? x[offset[m] + c * stride_c] : 0;
}
