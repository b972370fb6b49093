/* Included by instruction_sets.h, once per instruction set: the loops for float, double, int64, and
 * for pairs of int16. */

#define DTYPE f32
#define REAL float
#define VECTOR OF_BYTES(vector_f32, VECTOR_BYTES)
#define HALF OF_BYTES(vector_f32, HALF_BYTES)
#define MASK OF_BYTES(mask_f32, VECTOR_BYTES)
#define HALF_MASK OF_BYTES(mask_f32, HALF_BYTES)
#define LANE int32_t
#define LANES (VECTOR_BYTES / 4)
#define LEAST -INFINITY
#define SUFFIX ps
#define AS_INTRINSIC(vector) (vector)
#define IS_SINGLE
#include "vectors.h"
#include LOOPS
#undef IS_SINGLE
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

#define DTYPE f64
#define REAL double
#define VECTOR OF_BYTES(vector_f64, VECTOR_BYTES)
#define HALF OF_BYTES(vector_f64, HALF_BYTES)
#define MASK OF_BYTES(mask_f64, VECTOR_BYTES)
#define HALF_MASK OF_BYTES(mask_f64, HALF_BYTES)
#define LANE int64_t
#define LANES (VECTOR_BYTES / 8)
#define LEAST -INFINITY
#define SUFFIX pd
#define AS_INTRINSIC(vector) (vector)
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

#ifdef WITH_INT64
#define DTYPE i64
#define REAL int64_t
#define VECTOR OF_BYTES(mask_f64, VECTOR_BYTES)
#define HALF OF_BYTES(mask_f64, HALF_BYTES)
#define MASK OF_BYTES(mask_f64, VECTOR_BYTES)
#define HALF_MASK OF_BYTES(mask_f64, HALF_BYTES)
#define LANE int64_t
#define LANES (VECTOR_BYTES / 8)
#define LEAST INT64_MIN
#define SUFFIX epi64
#define AS_INTRINSIC(vector) ((INTEGERS)(vector))
#define IS_INTEGER
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
#endif

#ifdef WITH_STORED
#include "pairs.h"
#endif
