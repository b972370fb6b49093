/* What every vector loop needs, once per dtype and instruction set (instruction_sets.h). */

INLINE VECTOR NAME(load)(const REAL *from)
{
    VECTOR vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

INLINE void NAME(store)(REAL *to, VECTOR vector)
{
    memcpy(to, &vector, sizeof vector);
}

INLINE VECTOR NAME(splat)(REAL value)
{
    return value - (VECTOR){0};
}

/* sum + x * y, rounded once wherever the instruction set can. Written as an expression, GCC 13 and
 * later would split it in two on purpose ("avoid FMA chains"). Of pairs both products are added. */
INLINE VECTOR NAME(multiply_add)(VECTOR x, VECTOR y, VECTOR sum)
{
#ifdef IS_PAIRS
#if HAS_VNNI
    return (VECTOR)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)x, (__m512i)y);
#elif HAS_AVX512
    return sum + (VECTOR)_mm512_madd_epi16((__m512i)x, (__m512i)y);
#elif HAS_AVX2
    return sum + (VECTOR)_mm256_madd_epi16((__m256i)x, (__m256i)y);
#else
    return sum + (x >> 16) * (y >> 16) + (x << 16 >> 16) * (y << 16 >> 16);
#endif
#elif HAS_AVX2 && !defined(IS_INTEGER)
    return INTRINSIC(fmadd)(x, y, sum);
#else
    return sum + x * y;
#endif
}

/* What vectors are divided by. */
typedef struct {
    VECTOR value;
    int multiplies;
} NAME(Divisor);

/* By a power of two the product is the quotient, and takes a tenth of the time; of integers, 0 and
 * -1 are those at whose divisions a processor stops. */
INLINE NAME(Divisor) NAME(divisor_from)(int64_t divisor)
{
#ifdef IS_INTEGER
    return (NAME(Divisor)){NAME(splat)(divisor), divisor == 0 || divisor == -1};
#else
    const int exact = divisor > 0 && (divisor & (divisor - 1)) == 0;
    return (NAME(Divisor)){NAME(splat)(exact ? 1 / (REAL)divisor : (REAL)divisor), exact};
#endif
}

/* x / divisor; of integers truncated, and 0 where the divisor is. */
INLINE VECTOR NAME(divide_by)(VECTOR x, NAME(Divisor) divisor)
{
    return divisor.multiplies ? x * divisor.value : x / divisor.value;
}

INLINE VECTOR NAME(divide)(VECTOR x, int64_t divisor)
{
    return NAME(divide_by)(x, NAME(divisor_from)(divisor));
}

/* The same of one element. */
INLINE REAL NAME(quotient)(REAL x, int64_t divisor)
{
#ifdef IS_INTEGER
    if (divisor == 0 || divisor == -1)
        return x * divisor;
#endif
    return x / (REAL)divisor;
}

/* Where x is NaN, which no integer is. */
INLINE MASK NAME(is_nan)(VECTOR x)
{
#ifdef IS_INTEGER
    return (MASK){0};
#else
    return (MASK)(x != x);
#endif
}

/* Where the mask is set `yes`, elsewhere `no`. */
INLINE VECTOR NAME(choose)(MASK mask, VECTOR yes, VECTOR no)
{
    return (VECTOR)(((MASK)yes & mask) | ((MASK)no & ~mask));
}

/* The larger ones; `value` where it is NaN, `former` where the two are equal or it is NaN. */
INLINE VECTOR NAME(larger)(VECTOR former, VECTOR value)
{
#if HAS_AVX512 && !defined(IS_INTEGER)
    const VECTOR greater = INTRINSIC(max)(value, former);
    return INTRINSIC(mask_mov)(
        greater, JOIN_WORDS(INTRINSIC(cmp), _mask)(value, value, _CMP_UNORD_Q), value);
#elif HAS_AVX2 && !defined(IS_INTEGER)
    const VECTOR greater = INTRINSIC(max)(value, former);
    return INTRINSIC(blendv)(greater, value, INTRINSIC(cmp)(value, value, _CMP_UNORD_Q));
#else
    return NAME(choose)((MASK)(value > former) | NAME(is_nan)(value), value, former);
#endif
}

/* The same for `*best`, with `*found` where that is from: `here` where `value` is taken. */
INLINE void NAME(keep_larger)(VECTOR value, MASK here, VECTOR *best, MASK *found)
{
#if HAS_AVX512 && !defined(IS_INTEGER)
    const unsigned beats = JOIN_WORDS(INTRINSIC(cmp), _mask)(value, *best, _CMP_GT_OQ)
        | JOIN_WORDS(INTRINSIC(cmp), _mask)(value, value, _CMP_UNORD_Q);
    *best = INTRINSIC(mask_mov)(*best, beats, value);
    *found = (MASK)INTRINSIC(mask_mov)((VECTOR)*found, beats, (VECTOR)here);
#else
    const MASK beats = (MASK)(value > *best) | NAME(is_nan)(value);
    *best = NAME(choose)(beats, value, *best);
    *found = (here & beats) | (*found & ~beats);
#endif
}

/* The elements 0, 2, 4 ... of two vectors whose loads are LANES - 1 apart. */
INLINE VECTOR NAME(every_second)(VECTOR low, VECTOR high)
{
#if LANES == 16
    return SHUFFLE(MASK, low, high, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
#elif LANES == 8
    return SHUFFLE(MASK, low, high, 0, 2, 4, 6, 9, 11, 13, 15);
#else
    return SHUFFLE(MASK, low, high, 0, 2, 5, 7);
#endif
}

/* The elements 0, 2, 4 ... of two vectors side by side, and 1, 3, 5 ... */
INLINE VECTOR NAME(even)(VECTOR low, VECTOR high)
{
#if LANES == 16
    return SHUFFLE(MASK, low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif LANES == 8
    return SHUFFLE(MASK, low, high, 0, 2, 4, 6, 8, 10, 12, 14);
#else
    return SHUFFLE(MASK, low, high, 0, 2, 4, 6);
#endif
}

INLINE VECTOR NAME(odd)(VECTOR low, VECTOR high)
{
#if LANES == 16
    return SHUFFLE(MASK, low, high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif LANES == 8
    return SHUFFLE(MASK, low, high, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return SHUFFLE(MASK, low, high, 1, 3, 5, 7);
#endif
}

/* A vector that begins with the last element of `low`, and one with the second, or the third.
 * Of such shuffles GCC makes permutations that need a register of indices, and a copy. */
#if HAS_AVX512
#define FOLLOWING(low, high, first)                                                            \
    (VECTOR)(LANES == 16 ? _mm512_alignr_epi32((__m512i)(high), (__m512i)(low), (first) % 16)  \
                         : _mm512_alignr_epi64((__m512i)(high), (__m512i)(low), (first) % 8))
#endif
INLINE VECTOR NAME(from_last)(VECTOR low, VECTOR high)
{
#if HAS_AVX512
    return FOLLOWING(low, high, LANES - 1);
#elif LANES == 8
    return SHUFFLE(MASK, low, high, 7, 8, 9, 10, 11, 12, 13, 14);
#else
    return SHUFFLE(MASK, low, high, 3, 4, 5, 6);
#endif
}

INLINE VECTOR NAME(from_second)(VECTOR low, VECTOR high)
{
#if HAS_AVX512
    return FOLLOWING(low, high, 1);
#elif LANES == 8
    return SHUFFLE(MASK, low, high, 1, 2, 3, 4, 5, 6, 7, 8);
#else
    return SHUFFLE(MASK, low, high, 1, 2, 3, 4);
#endif
}

INLINE VECTOR NAME(from_third)(VECTOR low, VECTOR high)
{
#if HAS_AVX512
    return FOLLOWING(low, high, 2);
#elif LANES == 8
    return SHUFFLE(MASK, low, high, 2, 3, 4, 5, 6, 7, 8, 9);
#else
    return SHUFFLE(MASK, low, high, 2, 3, 4, 5);
#endif
}

/* Every element twice, of the vector's lower half and of its upper half. */
INLINE VECTOR NAME(twice_low)(VECTOR x)
{
#if LANES == 16
    return SHUFFLE(MASK, x, x, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
#elif LANES == 8
    return SHUFFLE(MASK, x, x, 0, 0, 1, 1, 2, 2, 3, 3);
#else
    return SHUFFLE(MASK, x, x, 0, 0, 1, 1);
#endif
}

INLINE VECTOR NAME(twice_high)(VECTOR x)
{
#if LANES == 16
    return SHUFFLE(MASK, x, x, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
#elif LANES == 8
    return SHUFFLE(MASK, x, x, 4, 4, 5, 5, 6, 6, 7, 7);
#else
    return SHUFFLE(MASK, x, x, 2, 2, 3, 3);
#endif
}

/* LANES elements that are `stride` apart; reads nothing beyond the last of them. Meant for callers
 * to whom the stride is a constant, 0, 1 or 2, or anything else. */
INLINE VECTOR NAME(load_strided)(const REAL *from, int64_t stride)
{
    if (stride == 0)
        return NAME(splat)(*from);
    if (stride == 1)
        return NAME(load)(from);
    if (stride == 2)
        return NAME(every_second)(NAME(load)(from), NAME(load)(from + LANES - 1));
#if LANES == 16
    REAL element[LANES];
    for (int lane = 0; lane < LANES; lane++)
        element[lane] = from[lane * stride];
    return NAME(load)(element);
#elif LANES == 8
    return (VECTOR){from[0], from[stride], from[2 * stride], from[3 * stride],
                    from[4 * stride], from[5 * stride], from[6 * stride], from[7 * stride]};
#else
    return (VECTOR){from[0], from[stride], from[2 * stride], from[3 * stride]};
#endif
}

/* The first `count` lanes of a mask are set, the others aren't. */
INLINE MASK NAME(first_lanes)(int64_t count)
{
    MASK lane;
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    return lane < (LANE)count;
}

/* The first `count` lanes of `yes`, 0 to LANES of them, the others of `no`. */
INLINE VECTOR NAME(choose_first)(int64_t count, VECTOR yes, VECTOR no)
{
#if HAS_AVX512
    return (VECTOR)INTRINSIC(mask_mov)(AS_INTRINSIC(no), (1u << count) - 1, AS_INTRINSIC(yes));
#else
    return NAME(choose)(NAME(first_lanes)(count), yes, no);
#endif
}

/* The first `count` elements, 0 to LANES of them, and zeros in the other lanes, which aren't read. */
INLINE VECTOR NAME(load_first)(const REAL *from, int64_t count)
{
#if HAS_AVX512
    return (VECTOR)INTRINSIC(maskz_loadu)((1u << count) - 1, from);
#elif HAS_AVX2
    return (VECTOR)INTRINSIC(maskload)((const void *)from, (__m256i)NAME(first_lanes)(count));
#else
    REAL element[LANES] = {0};
    for (int64_t i = 0; i < count; i++)
        element[i] = from[i];
    return NAME(load)(element);
#endif
}

/* Write the first `count` elements, 0 to LANES of them, and nothing else. */
INLINE void NAME(store_first)(REAL *to, VECTOR vector, int64_t count)
{
#if HAS_AVX512
    INTRINSIC(mask_storeu)((void *)to, (1u << count) - 1, AS_INTRINSIC(vector));
#elif HAS_AVX2
    INTRINSIC(maskstore)((void *)to, (__m256i)NAME(first_lanes)(count), AS_INTRINSIC(vector));
#else
    for (int64_t i = 0; i < count; i++)
        to[i] = vector[i];
#endif
}

/* The activation is a code of problem.ACTIVATION_CODES, where NaN stays NaN, or the address of a
 * function that changes `count` values in place. */
INLINE VECTOR NAME(activate)(VECTOR y, int64_t activation)
{
    if (activation > 2) {
        REAL values[LANES];
        NAME(store)(values, y);
        ((void (*)(REAL *, int64_t))activation)(values, LANES);
        return NAME(load)(values);
    }
    const VECTOR zero = {0}, six = zero + 6;
    if (activation >= 1)
        y = NAME(choose)(y < zero, zero, y);
    if (activation == 2)
        y = NAME(choose)(y > six, six, y);
    return y;
}

/* Write the first `lanes` elements, `stride` apart. */
INLINE void NAME(store_strided)(REAL *to, int64_t stride, VECTOR vector, int64_t lanes)
{
    if (stride == 1 && lanes == LANES) {
        NAME(store)(to, vector);
        return;
    }
    for (int64_t lane = 0; lane < lanes; lane++)
        to[lane * stride] = vector[lane];
}
