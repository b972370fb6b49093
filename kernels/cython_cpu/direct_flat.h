/* The loops of the direct row over a padded copy of the input: a plane of output rows is one stretch
 * of sums, `pitch` apart row from row, and what lies between rows isn't stored. A block is as many
 * vectors of the stretch times 1 to 4 out-channels as the registers hold; it takes one load per
 * vector and one factor per channel a tap. Included by direct.h.
 */
#ifndef MOST_FLAT
#define MOST_FLAT 12

/* A tap's weights are next to each other, its inputs `steps` from the first output's. */
typedef struct {
    int64_t taps;
    const int64_t *steps;
    int64_t rows, columns, pitch;
} Flat;

#define sum_flat(out, target, x, w, bias, flat, channels) \
    SELECT(sum_flat, out)(out, target, x, w, bias, flat, channels)
#endif

/* Write `columns` finished sums, a vector of them may be read. */
INLINE void NAME(store_row)(REAL *out, int64_t stride, const REAL *sums, VECTOR added,
                            int64_t columns, int64_t activation)
{
    for (int64_t q = 0; q < columns; q += LANES) {
        VECTOR y = NAME(load)(sums + q) + added;
        if (activation)
            y = NAME(activate)(y, activation);
        if (stride != 1)
            NAME(store_strided)(out + q * stride, stride, y,
                                columns - q < LANES ? columns - q : LANES);
        else if (columns - q >= LANES)
            NAME(store)(out + q, y);
        else
            NAME(store_first)(out + q, y, columns - q);
    }
}

/* Write what a block has of each row: `count` sums of each channel, from place `at` on. */
LOOP __attribute__((noinline)) void NAME(store_block)(REAL *out, const Target *target,
                                                      const REAL *sums, const REAL *bias,
                                                      const Flat *flat, int64_t channels,
                                                      int64_t at, int64_t count)
{
    int64_t row = at / flat->pitch, q = at - row * flat->pitch, from = 0;
    out += row * target->p;
    for (; from < count && row < flat->rows; row++, out += target->p) {
        const int64_t left = count - from, columns = flat->columns - q;
        for (int64_t k = 0; k < channels; k++)
            /* y + -0.0 is y, whatever y is: no bias is the bias -0.0. */
            NAME(store_row)(out + k * target->k + q * target->q, target->q,
                            sums + k * count + from, NAME(splat)(bias ? bias[k] : (REAL)-0.0),
                            columns < left ? columns : left, target->activation);
        from += flat->pitch - q;
        q = 0;
    }
}

/* Blocks of `vectors` vectors of `channels` channels until `end`; returns where they end. */
INLINE int64_t NAME(sum_blocks)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                                const REAL *bias, const Flat *flat, int64_t at, int64_t end,
                                const int channels, const int vectors)
{
    REAL sums[(DIRECT_CHANNELS * MOST_FLAT / 2 + 1) * LANES];
    for (; at + vectors * LANES <= end; at += vectors * LANES) {
        VECTOR sum[DIRECT_CHANNELS][MOST_FLAT];
#pragma GCC unroll 4
        for (int k = 0; k < channels; k++)
#pragma GCC unroll 12
            for (int v = 0; v < vectors; v++)
                sum[k][v] = (VECTOR){0};
        const REAL *factors = w;
        for (int64_t tap = 0; tap < flat->taps; tap++, factors += channels) {
            const REAL *from = x + at + flat->steps[tap];
            VECTOR factor[DIRECT_CHANNELS];
#pragma GCC unroll 4
            for (int k = 0; k < channels; k++)
                factor[k] = NAME(splat)(factors[k]);
#pragma GCC unroll 12
            for (int v = 0; v < vectors; v++) {
                VECTOR value = NAME(load)(from + v * LANES);
                KEEP_IN_REGISTER(value);
#pragma GCC unroll 4
                for (int k = 0; k < channels; k++)
                    sum[k][v] = NAME(multiply_add)(factor[k], value, sum[k][v]);
            }
        }
#pragma GCC unroll 4
        for (int k = 0; k < channels; k++)
#pragma GCC unroll 12
            for (int v = 0; v < vectors; v++)
                NAME(store)(sums + (k * vectors + v) * LANES, sum[k][v]);
        NAME(store_block)(out, target, sums, bias, flat, channels, at, vectors * LANES);
    }
    return at;
}

/* All of `channels` channels: as long as there are as many, blocks of `vectors` vectors. */
#undef SUM_FLAT
#define SUM_FLAT(channels, vectors)                                                          \
    LOOP void NAME(sum_flat_##channels)(REAL *out, const Target *target, const REAL *x,      \
                                        const REAL *w, const REAL *bias, const Flat *flat,   \
                                        int64_t end)                                         \
    {                                                                                        \
        int64_t at = NAME(sum_blocks)(out, target, x, w, bias, flat, 0, end, channels,       \
                                      vectors);                                              \
        if (at && end - at > vectors / 2 * LANES) {                                          \
            /* The last block has as many vectors: some come out twice, the same. */         \
            NAME(sum_blocks)(out, target, x, w, bias, flat, end - vectors * LANES, end,      \
                             channels, vectors);                                             \
            return;                                                                          \
        }                                                                                    \
        NAME(sum_blocks)(out, target, x, w, bias, flat, at, end, channels, 1);               \
    }

/* Sums beside the factors and a value: 24 of 32 registers, or 8 to 12 of 16, of which the baseline's
 * vectors take two each. */
#if HAS_AVX512
SUM_FLAT(1, 12)
SUM_FLAT(2, 12)
SUM_FLAT(3, 8)
SUM_FLAT(4, 6)
#elif HAS_AVX2
SUM_FLAT(1, 12)
SUM_FLAT(2, 6)
SUM_FLAT(3, 3)
SUM_FLAT(4, 2)
#else
SUM_FLAT(1, 6)
SUM_FLAT(2, 3)
SUM_FLAT(3, 2)
SUM_FLAT(4, 1)
#endif

/* All rows of 1 to 4 channels. Vectors at the end of the copy are read whole. */
LOOP void NAME(sum_flat)(REAL *out, const Target *target, const REAL *x, const REAL *w,
                         const REAL *bias, const Flat *flat, int64_t channels)
{
    const int64_t places = (flat->rows - 1) * flat->pitch + flat->columns;
    const int64_t end = (places + LANES - 1) / LANES * LANES;
    (channels == 1   ? NAME(sum_flat_1)
     : channels == 2 ? NAME(sum_flat_2)
     : channels == 3 ? NAME(sum_flat_3)
                     : NAME(sum_flat_4))(out, target, x, w, bias, flat, end);
}
