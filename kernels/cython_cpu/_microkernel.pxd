"""The micro-kernel as Cython code calls it: macros that take pointers of any dtype.

What is read from an input may be of a dtype that is stored alone (``_stored``), everything else is
of the dtype that it is computed in.
"""

from libc.stdint cimport int64_t


cdef enum:
    #: As in the header and in ``blocking``.
    MOST_PIXELS = 14


cdef extern from *:
    """
    #define WITH_AVX512
    #define WITH_STORED
    #define LOOPS "microkernel.h"
    #include "instruction_sets.h"
    """
    const char* INSTRUCTION_SET

    ctypedef struct Runs:
        int64_t t, r, s, length
        int64_t step_t, step_r, step_s, step

    void fetch(const void* at, int64_t size) noexcept nogil
    int64_t largest_tile(
        void* tile, const void* a, const int64_t* pixel, int64_t depth, const void* w
    ) noexcept nogil
    #: Of the dtype of ``x``, an input that isn't read.
    void multiply_pixels(
        const void* x, void* tile, const void* a, const int64_t* source, const int64_t* to,
        int64_t pixels, const Runs* runs, const void* packed, int64_t panel, int64_t channels,
        const void* bias, int64_t activation, void* out, int64_t stride_k
    ) noexcept nogil
    int64_t most_unpacked(const void* tile) noexcept nogil
    void multiply_unpacked(
        void* tile, const void* a, const int64_t* source, const int64_t* to, int64_t pixels,
        int64_t length, const void* w, int64_t apart, int64_t channels, const void* bias,
        int64_t activation, void* out, int64_t stride_k
    ) noexcept nogil
    void copy_transposed(
        void* to, int64_t to_stride, const void* source, int64_t stride_i, int64_t stride_j,
        int64_t rows, int64_t columns
    ) noexcept nogil
    void pack_taps(
        void* to, const void* source, int64_t stride_k, int64_t rows, int64_t channels,
        int64_t taps, int64_t all
    ) noexcept nogil
    void pack_columns(
        void* to, const void* source, int64_t stride_k, int64_t stride_c, int64_t rows,
        int64_t channels
    ) noexcept nogil
    void pack_rows(
        void* to, const void* source, int64_t stride_c, int64_t rows, int64_t channels
    ) noexcept nogil
    void pack_spread(
        void* to, const void* source, int64_t stride_k, int64_t stride_c, int64_t rows,
        int64_t channels, const int64_t* tap_at, int64_t span
    ) noexcept nogil
