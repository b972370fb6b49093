/* Compiles the vector loops in the header LOOPS for float and double, under WITH_INT64 for int64 as
 * well, and for every instruction set, and lets SELECT(function, pointer) name the one for the
 * pointer's dtype and this processor.
 *
 * Loops are written once, in GCC/Clang vector types of 32 bytes, in these words:
 *   REAL      an element of the dtype     LANES    elements of a vector
 *   VECTOR    a vector of them            HALF     a vector of half as many
 *   LEAST     the dtype's least value     FUSED    its fused multiply-add, if there is one
 *   IS_INTEGER           defined if it is      MASKED   its masked load, if there is one
 *   MASK, HALF_MASK      as many integers, such as comparisons give
 *   LOOP      begins a function           NAME(f)  its name, with dtype and instruction set added
 *   INLINE    begins a helper of one      LANE     an element of a MASK
 * No -march flag is involved: the compiler may use AVX2 and FMA inside the functions that say so
 * and nowhere else. Off x86 the baseline is all there is (NEON on aarch64).
 * The environment variable CNNFAST_INSTRUCTION_SET=baseline keeps to it, for tests.
 */
#ifndef CNNFAST_INSTRUCTION_SETS_H
#define CNNFAST_INSTRUCTION_SETS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LOOP __attribute__((unused)) TARGET static
#define INLINE __attribute__((always_inline, unused)) TARGET static inline
#define JOIN_(function, dtype, set) function##_##dtype##_##set
#define JOIN(function, dtype, set) JOIN_(function, dtype, set)
#define NAME(function) JOIN(function, DTYPE, SET)

/* GCC has the first only since version 12. */
#ifdef __clang__
#define SHUFFLE(INDICES, low, high, ...) __builtin_shufflevector(low, high, __VA_ARGS__)
#else
#define SHUFFLE(INDICES, low, high, ...) __builtin_shuffle(low, high, (INDICES){__VA_ARGS__})
#endif

/* Vectors never cross a call that isn't inlined, so how the ABI would pass them doesn't matter. */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float vector_f32 __attribute__((vector_size(32)));
typedef double vector_f64 __attribute__((vector_size(32)));
typedef float half_f32 __attribute__((vector_size(16)));
typedef double half_f64 __attribute__((vector_size(16)));
typedef int32_t half_mask_f32 __attribute__((vector_size(16)));
typedef int64_t half_mask_f64 __attribute__((vector_size(16)));
typedef int32_t mask_f32 __attribute__((vector_size(32)));
typedef int64_t mask_f64 __attribute__((vector_size(32)));

#define SET baseline
#define TARGET
#define HAS_FMA 0
#include "dtypes.h"
#undef SET
#undef TARGET
#undef HAS_FMA

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define SET avx2
#define TARGET __attribute__((target("avx2,fma")))
#define HAS_FMA 1
#include "dtypes.h"
#undef SET
#undef TARGET
#undef HAS_FMA

static int use_avx2;

/* Runs once, when the extension is loaded. */
__attribute__((constructor)) static void choose_instruction_set(void)
{
    const char *wanted = getenv("CNNFAST_INSTRUCTION_SET");
    __builtin_cpu_init();
    use_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
        && !(wanted && strcmp(wanted, "baseline") == 0);
}

#define SELECT_DTYPE(function, dtype) \
    (use_avx2 ? function##_##dtype##_avx2 : function##_##dtype##_baseline)
#define INSTRUCTION_SET (use_avx2 ? "avx2" : "baseline")
#else
#define SELECT_DTYPE(function, dtype) function##_##dtype##_baseline
#define INSTRUCTION_SET "baseline"
#endif

#ifdef WITH_INT64
#define SELECT_INT64(function) , int64_t: SELECT_DTYPE(function, i64)
#else
#define SELECT_INT64(function)
#endif
#define SELECT(function, pointer) \
    _Generic(*(pointer), \
        float: SELECT_DTYPE(function, f32), \
        double: SELECT_DTYPE(function, f64) SELECT_INT64(function))

#endif
