/* Included by instruction_sets.h, once per instruction set: the loops for float, then double. */

#define DTYPE f32
#define REAL float
#define VECTOR vector_f32
#define HALF half_f32
#define MASK mask_f32
#define HALF_MASK half_mask_f32
#define LANE int32_t
#define LANES 8
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

#define DTYPE f64
#define REAL double
#define VECTOR vector_f64
#define HALF half_f64
#define MASK mask_f64
#define HALF_MASK half_mask_f64
#define LANE int64_t
#define LANES 4
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
