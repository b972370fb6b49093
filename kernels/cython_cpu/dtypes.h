/* Included by instruction_sets.h, once per instruction set: the loops for float, double, int64. */

#define DTYPE f32
#define REAL float
#define VECTOR vector_f32
#define HALF half_f32
#define MASK mask_f32
#define HALF_MASK half_mask_f32
#define LANE int32_t
#define LANES 8
#define LEAST -INFINITY
#define FUSED _mm256_fmadd_ps
#define MASKED _mm256_maskload_ps
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
#undef FUSED
#undef MASKED

#define DTYPE f64
#define REAL double
#define VECTOR vector_f64
#define HALF half_f64
#define MASK mask_f64
#define HALF_MASK half_mask_f64
#define LANE int64_t
#define LANES 4
#define LEAST -INFINITY
#define FUSED _mm256_fmadd_pd
#define MASKED _mm256_maskload_pd
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
#undef FUSED
#undef MASKED

#ifdef WITH_INT64
#define DTYPE i64
#define REAL int64_t
#define VECTOR mask_f64
#define HALF half_mask_f64
#define MASK mask_f64
#define HALF_MASK half_mask_f64
#define LANE int64_t
#define LANES 4
#define LEAST INT64_MIN
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
#undef IS_INTEGER
#endif
