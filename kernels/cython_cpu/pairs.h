/* The loops for pairs of int16 channels, whose products are summed in int32: an element is two channels
 * in 32 bits as it is read, and a sum as it is written. Included by dtypes.h. */
#define DTYPE pairs
#define REAL int32_t
#define VECTOR OF_BYTES(mask_f32, VECTOR_BYTES)
#define HALF OF_BYTES(mask_f32, HALF_BYTES)
#define MASK OF_BYTES(mask_f32, VECTOR_BYTES)
#define HALF_MASK OF_BYTES(mask_f32, HALF_BYTES)
#define LANE int32_t
#define LANES (VECTOR_BYTES / 4)
#define LEAST INT32_MIN
#define SUFFIX epi32
#define AS_INTRINSIC(vector) ((INTEGERS)(vector))
#define IS_INTEGER
#define IS_PAIRS
#include "vectors.h"
#include LOOPS
#undef DTYPE
#undef REAL
#undef VECTOR
#undef HALF
#undef MASK
#undef HALF_MASK
#undef LANE
#undef LANES
#undef LEAST
#undef SUFFIX
#undef AS_INTRINSIC
#undef IS_INTEGER
#undef IS_PAIRS
