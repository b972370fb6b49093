/* Compiles the vector loops in the header LOOPS for float and double, under WITH_INT64 for int64 and
 * under WITH_STORED for pairs of int16 as well, and for every instruction set, and lets
 * SELECT(function, pointer) name the one for the pointer's dtype and this processor.
 *
 * Loops are written once, in GCC/Clang vector types, in these words:
 *   REAL      an element of the dtype     LANES    elements of a vector
 *   VECTOR    a vector of them            HALF     a vector of half as many
 *   LEAST     the dtype's least value     LANE     an element of a MASK
 *   MASK, HALF_MASK      as many integers, such as comparisons give
 *   LOOP      begins a function           NAME(f)  its name, with dtype and instruction set added
 *   INLINE    begins a helper of one      SUFFIX   ends the names of the dtype's intrinsics
 *   IS_INTEGER           defined if the dtype is an integer, IS_SINGLE for float, IS_PAIRS for pairs
 *   HAS_AVX2, HAS_AVX512, HAS_VNNI       1 where those instructions may be used, else 0
 * A vector has 32 bytes. Loops that take vectors of any size say WITH_AVX512 and are compiled for
 * vectors of 64 bytes as well.
 * No -march flag is involved: the compiler may use an instruction set inside the functions that say
 * so and nowhere else. Off x86 the baseline is all there is (NEON on aarch64).
 * The environment variable CNNFAST_INSTRUCTION_SET keeps to "baseline", "avx2" or "avx512" (without
 * VNNI), for tests.
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

#define VECTOR_TYPES(bytes)                                              \
    typedef float vector_f32_##bytes __attribute__((vector_size(bytes))); \
    typedef double vector_f64_##bytes __attribute__((vector_size(bytes))); \
    typedef int32_t mask_f32_##bytes __attribute__((vector_size(bytes))); \
    typedef int64_t mask_f64_##bytes __attribute__((vector_size(bytes)));
VECTOR_TYPES(16)
VECTOR_TYPES(32)
VECTOR_TYPES(64)
#ifdef WITH_STORED
#include "stored.h"
/* As many elements of a stored dtype as a vector of `bytes` has float or int32 ones. */
#define STORED_TYPES(bytes)                                                      \
    typedef uint16_t vector_u16_##bytes __attribute__((vector_size(bytes / 2))); \
    typedef int8_t vector_i8_##bytes __attribute__((vector_size(bytes / 4)));    \
    typedef uint8_t vector_u8_##bytes __attribute__((vector_size(bytes / 4)));
STORED_TYPES(32)
STORED_TYPES(64)
#endif
#define OF_BYTES_(type, bytes) type##_##bytes
#define OF_BYTES(type, bytes) OF_BYTES_(type, bytes)
#define JOIN_WORDS_(first, second) first##second
#define JOIN_WORDS(first, second) JOIN_WORDS_(first, second)

enum { BASELINE, AVX2, AVX512, AVX512_VNNI };

#define VECTOR_BYTES 32
#define HALF_BYTES 16
#define SET baseline
#define TARGET
#define HAS_AVX2 0
#define HAS_AVX512 0
#define HAS_VNNI 0
#include "dtypes.h"
#undef SET
#undef TARGET
#undef HAS_AVX2

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <immintrin.h>
#define SET avx2
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define HAS_AVX2 1
#define INTRINSIC(name) JOIN_WORDS(_mm256_##name##_, SUFFIX)
#define INTEGERS __m256i
#include "dtypes.h"
#undef SET
#undef TARGET
#undef INTRINSIC
#undef INTEGERS

#ifdef WITH_AVX512
#undef VECTOR_BYTES
#undef HALF_BYTES
#undef HAS_AVX512
#define VECTOR_BYTES 64
#define HALF_BYTES 32
#define SET avx512
#define AVX512_TARGET "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c"
#define TARGET __attribute__((target(AVX512_TARGET)))
#define HAS_AVX512 1
#define INTRINSIC(name) JOIN_WORDS(_mm512_##name##_, SUFFIX)
#define INTEGERS __m512i
#include "dtypes.h"
#undef SET
#undef TARGET
#ifdef WITH_STORED
/* An instruction for pairs alone. */
#undef HAS_VNNI
#define SET vnni
#define TARGET __attribute__((target("avx512vnni," AVX512_TARGET)))
#define HAS_VNNI 1
#include "pairs.h"
#undef SET
#undef TARGET
#endif
#undef INTRINSIC
#undef INTEGERS
#define SELECT_DTYPE(function, dtype)                                    \
    (instruction_set >= AVX512 ? function##_##dtype##_avx512             \
     : instruction_set == AVX2 ? function##_##dtype##_avx2               \
                               : function##_##dtype##_baseline)
#else
#define SELECT_DTYPE(function, dtype) \
    (instruction_set >= AVX2 ? function##_##dtype##_avx2 : function##_##dtype##_baseline)
#endif

/* What the loops above are run with. */
static int instruction_set;

/* Not all compilers know the name of that instruction set. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

/* Runs once, when the extension is loaded. */
__attribute__((constructor)) static void choose_instruction_set(void)
{
    const char *wanted = getenv("CNNFAST_INSTRUCTION_SET");
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        instruction_set = AVX2;
    if (instruction_set == AVX2 && __builtin_cpu_supports("avx512f")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq"))
        instruction_set = __builtin_cpu_supports("avx512vnni") ? AVX512_VNNI : AVX512;
    if (wanted && strcmp(wanted, "baseline") == 0)
        instruction_set = BASELINE;
    if (wanted && strcmp(wanted, "avx2") == 0 && instruction_set > AVX2)
        instruction_set = AVX2;
    if (wanted && strcmp(wanted, "avx512") == 0 && instruction_set > AVX512)
        instruction_set = AVX512;
}

#else
#define SELECT_DTYPE(function, dtype) function##_##dtype##_baseline
static const int instruction_set = BASELINE;
#endif

#define INSTRUCTION_SET ((const char *const[]){"baseline", "avx2", "avx512", "avx512"}[instruction_set])

#ifdef WITH_INT64
#define SELECT_INT64(function) , int64_t: SELECT_DTYPE(function, i64)
#else
#define SELECT_INT64(function)
#endif
#define SELECT(function, pointer) \
    _Generic(*(pointer), \
        float: SELECT_DTYPE(function, f32), \
        double: SELECT_DTYPE(function, f64) SELECT_INT64(function))

/* The same for a pointer that is read from and may be of a dtype that is stored alone. */
#ifdef WITH_STORED
#define SELECT_READ(function, pointer) \
    _Generic(*(pointer), \
        float: SELECT_DTYPE(function, f32), \
        double: SELECT_DTYPE(function, f64), \
        float16: SELECT_DTYPE(function, f16), \
        bfloat16: SELECT_DTYPE(function, bf16), \
        int8_t: SELECT_PAIRS(function, i8), \
        uint8_t: SELECT_PAIRS(function, u8))
#if defined(WITH_AVX512) && (defined(__x86_64__) || defined(__i386__))
#define SELECT_PAIRS(function, dtype) \
    (instruction_set == AVX512_VNNI ? function##_##dtype##_vnni : SELECT_DTYPE(function, dtype))
#else
#define SELECT_PAIRS SELECT_DTYPE
#endif
#else
#define SELECT_READ SELECT
#endif

#endif
