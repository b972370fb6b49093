/* Vectors of which some lanes are chosen, for the ends of rows. Included once per dtype and
 * instruction set, by the loops that need it. */
#undef CHOICE
#if HAS_AVX512
#define CHOICE uint32_t
#else
#define CHOICE MASK
#endif

/* The positions first, first + 1, ... of a vector that are low .. high - 1. */
INLINE CHOICE NAME(choose_between)(int64_t low, int64_t high, int64_t first)
{
    low = low < first ? 0 : low - first < LANES ? low - first : LANES;
    high = high < first ? 0 : high - first < LANES ? high - first : LANES;
#if HAS_AVX512
    return ((1u << high) - 1) & ~((1u << low) - 1);
#else
    return NAME(first_lanes)(high) & ~NAME(first_lanes)(low);
#endif
}

/* The lanes whose bits are set. */
INLINE CHOICE NAME(choose_bits)(uint64_t bits)
{
#if HAS_AVX512
    return bits & ((1u << LANES) - 1);
#else
    MASK bit;
    for (int i = 0; i < LANES; i++)
        bit[i] = (LANE)1 << i;
    return (bit & (LANE)bits) == bit;
#endif
}

/* The elements from[i * stride] for the chosen lanes i; zeros for others, unread. */
INLINE VECTOR NAME(load_chosen)(const REAL *from, int64_t stride, CHOICE chosen)
{
#if HAS_AVX512
    if (stride == 1)
        return INTRINSIC(maskz_loadu)(chosen, from);
#elif HAS_AVX2
    if (stride == 1)
        return INTRINSIC(maskload)(from, (__m256i)chosen);
#endif
    REAL element[LANES];
    for (int lane = 0; lane < LANES; lane++)
#if HAS_AVX512
        element[lane] = chosen >> lane & 1 ? from[lane * stride] : 0;
#else
        element[lane] = chosen[lane] ? from[lane * stride] : 0;
#endif
    return NAME(load)(element);
}

/* Write the chosen lanes, side by side with others that stay as they are. */
INLINE void NAME(store_chosen)(REAL *to, VECTOR vector, CHOICE chosen)
{
#if HAS_AVX512
    INTRINSIC(mask_storeu)(to, chosen, vector);
#elif HAS_AVX2
    INTRINSIC(maskstore)(to, (__m256i)chosen, vector);
#else
    for (int lane = 0; lane < LANES; lane++)
        if (chosen[lane])
            to[lane] = vector[lane];
#endif
}
