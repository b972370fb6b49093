/* Inputs that are stored in fewer bits than are computed with, converted as they are copied, and
 * results rounded as they are written.
 *
 * float16 and bfloat16 become float and are rounded back once, to the nearest, ties to even, like
 * NumPy's and ml_dtypes' astype; of int8 and uint8 two channels become a pair of int16, whose sums
 * stay int32. A stretch of a row is converted to a piece in L1, which is transposed from there as
 * any other. Included for float and for pairs, once per dtype STORED and instruction set.
 */
#ifndef PIECE_LENGTH
/* Copy 0 to `most` bytes, a constant up to 32, in at most two moves that overlap. */
static inline void copy_bytes(void *to, const void *from, int64_t bytes, const int64_t most)
{
    char *target = to;
    const char *source = from;
#define MOVES_OF(size)                                               \
    if (most >= size && bytes >= size) {                             \
        char first[size], last[size];                                \
        memcpy(first, source, size);                                 \
        memcpy(last, source + bytes - size, size);                   \
        memcpy(target, first, size);                                 \
        memcpy(target + bytes - size, last, size);                   \
        return;                                                      \
    }
    MOVES_OF(16)
    MOVES_OF(8)
    MOVES_OF(4)
    MOVES_OF(2)
    MOVES_OF(1)
#undef MOVES_OF
}

/* Elements of a piece's row, and of one that has whole channels of a weight. */
#define PIECE_LENGTH 64
#define TAPS_LENGTH 256
#endif

#undef RAW
#undef EACH
#ifdef IS_PAIRS
/* Channels of an element. */
#define EACH 2
#define RAW OF_BYTES(JOIN_WORDS(vector_, STORED), VECTOR_BYTES)
#else
#define EACH 1
#define RAW OF_BYTES(vector_u16, VECTOR_BYTES)
#endif

INLINE RAW OF(raw)(const STORED_TYPE *from)
{
    RAW raw;
    memcpy(&raw, from, sizeof raw);
    return raw;
}

/* The first `count` elements, fewer than LANES; no others are read. */
INLINE RAW OF(raw_first)(const STORED_TYPE *from, int64_t count)
{
#if HAS_AVX512 && defined(IS_PAIRS)
    return (RAW)_mm_maskz_loadu_epi8((1u << count) - 1, from);
#elif HAS_AVX512
    return (RAW)_mm256_maskz_loadu_epi16((1u << count) - 1, from);
#else
    RAW raw = {0};
    copy_bytes(&raw, from, count * sizeof *from, sizeof raw);
    return raw;
#endif
}

/* As integers of 32 bits. GCC makes __builtin_convertvector of bytes a chain of scalars. */
INLINE MASK OF(integers)(RAW raw)
{
#if HAS_AVX512 && defined(IS_PAIRS)
    return (MASK)RAW_AS(_mm512_cvt, _epi32)((__m128i)raw);
#elif HAS_AVX512
    return (MASK)_mm512_cvtepu16_epi32((__m256i)raw);
#elif HAS_AVX2 && defined(IS_PAIRS)
    int64_t bytes;
    memcpy(&bytes, &raw, sizeof bytes);
    return (MASK)RAW_AS(_mm256_cvt, _epi32)(_mm_set_epi64x(0, bytes));
#elif HAS_AVX2
    return (MASK)_mm256_cvtepu16_epi32((__m128i)raw);
#else
    return __builtin_convertvector(raw, MASK);
#endif
}

#ifndef IS_PAIRS
INLINE VECTOR OF(expand)(RAW raw)
{
#ifdef IS_BRAIN
    return (VECTOR)(OF(integers)(raw) << 16);
#elif HAS_AVX512
    return _mm512_cvtph_ps((__m256i)raw);
#elif HAS_AVX2
    return _mm256_cvtph_ps((__m128i)raw);
#else
    const MASK bits = OF(integers)(raw);
    const MASK sign = (bits & 0x8000) << 16, magnitude = bits & 0x7fff;
    const VECTOR small = __builtin_convertvector(magnitude, VECTOR) * 0x1p-24f;
    /* Infinity and NaN have the greatest exponent here as there. */
    const MASK large = (magnitude >= 0x7c00) & (112 << 23);
    const MASK normal = (magnitude << 13) + (112 << 23) + large;
    return (VECTOR)(sign | (MASK)NAME(choose)(magnitude < 0x400, small, (VECTOR)normal));
#endif
}

INLINE RAW OF(round)(VECTOR y)
{
#if !defined(IS_BRAIN) && HAS_AVX512
    return (RAW)_mm512_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif !defined(IS_BRAIN) && HAS_AVX2
    return (RAW)_mm256_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const MASK bits = (MASK)y, sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
    const MASK nan = magnitude > 0x7f800000;
#ifdef IS_BRAIN
    const MASK rounded = (magnitude + 0x7fff + ((magnitude >> 16) & 1)) >> 16;
    const MASK narrow = (nan & 0x7fc0) | (~nan & rounded);
#else
    const MASK odd = (magnitude >> 13) & 1;
    const MASK normal = (magnitude - (112 << 23) + 0xfff + odd) >> 13;
    /* Beside 1/2 a float's last bit is that of the least float16. */
    const MASK small = (MASK)((VECTOR)magnitude + 0.5f) - 0x3f000000;
    const MASK tiny = magnitude < 113 << 23, large = magnitude >= 143 << 23;
    const MASK quiet = nan & (0x200 | ((magnitude >> 13) & 0x3ff));
    const MASK finite = (tiny & small) | (~tiny & normal);
    const MASK narrow = (large & (0x7c00 | quiet)) | (~large & finite);
#endif
#if HAS_AVX512
    return (RAW)_mm512_cvtepi32_epi16((__m512i)(sign | narrow));
#elif HAS_AVX2
    const __m256i both = _mm256_packus_epi32((__m256i)(sign | narrow), _mm256_setzero_si256());
    return (RAW)_mm256_castsi256_si128(_mm256_permute4x64_epi64(both, 8));
#else
    return __builtin_convertvector(sign | narrow, RAW);
#endif
#endif
}

/* Write `count` floats, rounded. */
INLINE void OF(narrow)(STORED_TYPE *to, const REAL *from, int64_t count)
{
    for (; count >= LANES; count -= LANES, from += LANES, to += LANES) {
        const RAW rounded = OF(round)(NAME(load)(from));
        memcpy(to, &rounded, sizeof rounded);
    }
    if (count) {
        const RAW rounded = OF(round)(NAME(load_first)(from, count));
#if HAS_AVX512
        _mm256_mask_storeu_epi16(to, (1u << count) - 1, (__m256i)rounded);
#else
        copy_bytes(to, &rounded, count * sizeof *to, sizeof rounded);
#endif
    }
}

/* store_tile of microkernel.h, rounded: a tile is finished in a piece of its own. */
LOOP void OF(store_tile)(REAL *tile, int64_t row, int64_t pixels, int64_t channels,
                         const REAL *bias, int64_t activation, STORED_TYPE *out,
                         const int64_t *pixel, int64_t stride_k)
{
    REAL piece[2 * WIDTH * 16];
    int64_t place[MOST_PIXELS];
    const int last = stride_k == 1;
    for (int m = 0; m < MOST_PIXELS; m++)
        place[m] = last ? m * 2 * WIDTH : m;
    NAME(store_tile)(tile, row, pixels, channels, bias, activation, piece, place, last ? 1 : 16);
    if (last) {
        for (int64_t m = 0; m < pixels; m++)
            OF(narrow)(out + pixel[m], piece + m * 2 * WIDTH, channels);
        return;
    }
    for (int64_t m = 0, end; m < pixels; m = end) {
        end = m + 1;
        while (end < pixels && pixel[end] == pixel[m] + end - m)
            end++;
        for (int64_t k = 0; k < channels; k++)
            OF(narrow)(out + pixel[m] + k * stride_k, piece + k * 16 + m, end - m);
    }
}
#endif

/* Elements; `other` are their second channels. */
INLINE VECTOR OF(joined)(RAW raw, RAW other)
{
#ifdef IS_PAIRS
    return (OF(integers)(raw) & 0xffff) | OF(integers)(other) << 16;
#else
    return OF(expand)(raw);
#endif
}

/* An element; `other` is its second channel, or NULL for none. */
INLINE REAL OF(element)(const STORED_TYPE *from, const STORED_TYPE *other)
{
#ifdef IS_PAIRS
    return (*from & 0xffff) | (int32_t)(other ? *other : 0) << 16;
#else
    return OF(expand)(OF(raw_first)(from, 1))[0];
#endif
}

/* to[i] = the element at from[i * stride], whose second channel is other[i * stride], for i < count. */
INLINE void OF(widen)(REAL *to, const STORED_TYPE *from, const STORED_TYPE *other, int64_t stride,
                      int64_t count)
{
    const RAW none = {0};
    int64_t i = 0;
    if (stride == 1) {
        for (; i + LANES <= count; i += LANES)
            NAME(store)(to + i, OF(joined)(OF(raw)(from + i), other ? OF(raw)(other + i) : none));
        if (i < count) {
            const int64_t left = count - i;
            const RAW second = other ? OF(raw_first)(other + i, left) : none;
            const VECTOR last = OF(joined)(OF(raw_first)(from + i, left), second);
#if HAS_AVX512
            NAME(store_first)(to + i, last, left);
#else
            copy_bytes(to + i, &last, left * sizeof *to, sizeof last);
#endif
        }
        return;
    }
#ifdef IS_PAIRS
    /* Channels that lie side by side are pairs as they are. */
    if (stride == 2 && other == from + 1)
        for (; i + LANES <= count; i += LANES) {
#if HAS_AVX512
            const __m256i raw = _mm256_loadu_si256((const void *)(from + 2 * i));
            NAME(store)(to + i, (VECTOR)RAW_AS(_mm512_cvt, _epi16)(raw));
#elif HAS_AVX2
            const __m128i raw = _mm_loadu_si128((const void *)(from + 2 * i));
            NAME(store)(to + i, (VECTOR)RAW_AS(_mm256_cvt, _epi16)(raw));
#else
            int16_t wide[2 * LANES];
            for (int lane = 0; lane < 2 * LANES; lane++)
                wide[lane] = from[2 * i + lane];
            memcpy(to + i, wide, sizeof wide);
#endif
        }
#endif
    for (; i < count; i++)
        to[i] = OF(element)(from + i * stride, other ? other + i * stride : other);
}

/* to[i] = the element of the channels from i * EACH on, `stride` apart. */
INLINE void OF(widen_channels)(REAL *to, const STORED_TYPE *from, int64_t stride, int64_t channels)
{
    const int64_t whole = channels / EACH;
    OF(widen)(to, from, EACH == 1 ? NULL : from + stride, EACH * stride, whole);
    if (channels % EACH)
        to[whole] = OF(element)(from + whole * EACH * stride, NULL);
}

/* to[i * to_stride + j] = the element at from[i * stride_i + j * EACH * stride_j] for i < rows;
 * there are `columns` channels. */
LOOP void OF(copy_transposed)(REAL *restrict to, int64_t to_stride,
                              const STORED_TYPE *restrict from, int64_t stride_i, int64_t stride_j,
                              int64_t rows, int64_t columns)
{
    REAL piece[WIDTH][PIECE_LENGTH];
    if (stride_j == 1 && columns > 1) {
        for (int64_t i = 0; i < rows; i++)
            OF(widen_channels)(to + i * to_stride, from + i * stride_i, 1, columns);
        return;
    }
    for (int64_t j = 0, many; j < columns; j += many * EACH) {
        many = (columns - j + EACH - 1) / EACH;
        many = many < WIDTH ? many : WIDTH;
        for (int64_t i = 0; i < rows; i += PIECE_LENGTH) {
            const int64_t length = rows - i < PIECE_LENGTH ? rows - i : PIECE_LENGTH;
            for (int64_t c = 0; c < many; c++) {
                const STORED_TYPE *first = from + i * stride_i + (j + c * EACH) * stride_j;
                const int both = EACH > 1 && j + c * EACH + 1 < columns;
                OF(widen)(piece[c], first, both ? first + stride_j : NULL, stride_i, length);
            }
            NAME(copy_transposed)(to + i * to_stride + j / EACH, to_stride, piece[0], 1,
                                  PIECE_LENGTH, length, many);
        }
    }
}

/* pack_taps of transpose.h for at most TAPS_LENGTH taps; of `channels`, `all` elements to a tap. */
LOOP void OF(pack_taps)(REAL *restrict to, const STORED_TYPE *restrict from, int64_t stride_k,
                        int64_t rows, int64_t channels, int64_t taps, int64_t all)
{
    REAL piece[WIDTH][TAPS_LENGTH];
    const int64_t most = TAPS_LENGTH / taps;
    for (int64_t c = 0, many; c < all; c += many) {
        many = all - c < most ? all - c : most;
        for (int64_t k = 0; k < rows; k++) {
            const STORED_TYPE *row = from + k * stride_k + c * EACH * taps;
            /* The next ones, or the next panel's first. */
            fetch(c + many < all ? row + many * EACH * taps
                                 : from + (k + WIDTH) * stride_k,
                  TAPS_LENGTH * EACH * sizeof *row);
#ifdef IS_PAIRS
            for (int64_t i = 0; i < many; i++, row += 2 * taps)
                OF(widen)(piece[k] + i * taps, row, 2 * (c + i) + 1 < channels ? row + taps : NULL,
                          1, taps);
#else
            OF(widen)(piece[k], row, NULL, 1, many * taps);
#endif
        }
        NAME(pack_taps)(to + c * WIDTH, piece[0], TAPS_LENGTH, rows, many, taps, all);
    }
}

/* pack_rows of transpose.h. */
LOOP void OF(pack_rows)(REAL *restrict to, const STORED_TYPE *restrict from, int64_t stride_c,
                        int64_t rows, int64_t channels)
{
    for (int64_t c = 0; c < channels; c += EACH, from += EACH * stride_c, to += WIDTH) {
        OF(widen)(to, from, EACH > 1 && c + 1 < channels ? from + stride_c : NULL, 1, rows);
        memset(to + rows, 0, (WIDTH - rows) * sizeof *to);
    }
}

/* to[c][k] = the elements of one tap of weights, from[k * stride_k + c * stride_c] for k < rows, any
 * strides; others of a panel stay as they are. */
LOOP void OF(pack_columns)(REAL *restrict to, const STORED_TYPE *restrict from, int64_t stride_k,
                           int64_t stride_c, int64_t rows, int64_t channels)
{
    REAL piece[WIDTH][PIECE_LENGTH];
    for (int64_t c = 0, many; c < channels; c += many) {
        many = channels - c < EACH * PIECE_LENGTH ? channels - c : EACH * PIECE_LENGTH;
        for (int64_t k = 0; k < rows; k++)
            OF(widen_channels)(piece[k], from + k * stride_k + c * stride_c, stride_c, many);
        NAME(copy_transposed)(to + c / EACH * WIDTH, WIDTH, piece[0], 1, PIECE_LENGTH,
                              (many + EACH - 1) / EACH, rows);
    }
}

#undef OUTPUT
#undef STORE_TILE
#ifdef IS_PAIRS
#define OUTPUT REAL
#define STORE_TILE NAME
#else
#define OUTPUT STORED_TYPE
#define STORE_TILE OF
#endif
#include "pixels.h"
#undef OUTPUT
#undef STORE_TILE
#undef STORED
#undef STORED_TYPE
