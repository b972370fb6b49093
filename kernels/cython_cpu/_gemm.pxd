"""The GEMM of ``gemm.h`` as Cython code calls it: macros for float and double pointers alike."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from *:
    """
    #define WITH_AVX512
    #define LOOPS "gemm.h"
    #include "instruction_sets.h"
    """
    ctypedef struct Stage:
        int resume, finish
        int64_t activation

    ctypedef struct Runs:
        int64_t t, r, s, length
        int64_t step_t, step_r, step_s, step

    int64_t lanes_of(const void* pointer) noexcept nogil
    void find_inside(
        uint64_t* inside, const int64_t* taps, int64_t t, int64_t r, int64_t s, int64_t p,
        int64_t q, int64_t first, int64_t pixels
    ) noexcept nogil
    bint has_masks(const void* pointer) noexcept nogil
    void multiply_strip(
        void* to, int64_t to_stride, const void* sums, int64_t sums_stride, const void* columns,
        const Runs* runs, const uint64_t* inside, const void* w, const void* bias, Stage stage,
        int64_t channels, int64_t vectors
    ) noexcept nogil
    void multiply_rest(
        void* sums, const void* columns, int64_t step, int64_t depth, const void* w,
        int64_t apart, const void* bias, Stage stage, int64_t channels, int64_t pixels, void* out,
        const int64_t* pixel, int64_t stride_k
    ) noexcept nogil
    void copy_rows(
        void* to, int64_t to_stride, const void* source, int64_t stride, int64_t step,
        int64_t rows, int64_t count
    ) noexcept nogil
    void copy_transposed(
        void* to, int64_t to_stride, const void* source, int64_t stride_i, int64_t stride_j,
        int64_t rows, int64_t columns
    ) noexcept nogil
    void spread_rows(
        void* to, int64_t to_stride, int64_t step, const void* source, int64_t stride,
        int64_t rows, int64_t count
    ) noexcept nogil
    void copy_inside(
        void* to, int64_t to_stride, const void* source, int64_t stride, uint64_t inside,
        int64_t rows, int64_t count
    ) noexcept nogil
    void clear_rows(void* to, int64_t to_stride, int64_t rows, int64_t count) noexcept nogil
    void prefetch_rows(
        const void* source, int64_t stride, int64_t rows, int64_t count
    ) noexcept nogil
