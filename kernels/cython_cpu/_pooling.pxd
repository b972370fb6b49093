from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    InputStrides, OutputStrides, PoolProblem, number,
)


cdef extern from *:
    """
    #define LOOPS "pooling.h"
    #define WITH_INT64
    #include "instruction_sets.h"
    """
    ctypedef struct Window:
        int64_t d, h, w
        int64_t x_d, x_h, x_w
        int64_t index_d, index_h, index_w

    void max_row(
        void* out, int64_t out_stride, int64_t columns, const void* x, int64_t x_stride,
        const Window* window
    ) noexcept nogil
    void mean_row(
        void* out, int64_t out_stride, int64_t columns, const void* x, int64_t x_stride,
        const Window* window, int64_t divisor
    ) noexcept nogil
    void argmax_row(
        void* out, int64_t out_stride, int64_t columns, const void* x, int64_t x_stride,
        const Window* window, int64_t* indices, int64_t indices_stride, int64_t first, int64_t step
    ) noexcept nogil
    void spread_row(
        void* x, int64_t x_stride, int64_t columns, const void* grad, int64_t grad_stride,
        const Window* window, int64_t divisor
    ) noexcept nogil


cdef enum Reduction:
    MAX
    MEAN
    ARGMAX


#: Output columns first .. end-1 whose windows have the same taps and extent, ``step`` apart.
cdef struct Stretch:
    int64_t first, end, step


cdef Stretch longest_stretch(const int64_t* windows, int64_t columns) noexcept nogil

cdef int64_t taps_of(const int64_t* window, int64_t dilation) noexcept nogil

cdef void tile(
    Reduction reduction, const number* x, const InputStrides* x_strides, number* out,
    const OutputStrides* out_strides, int64_t* indices, const OutputStrides* indices_strides,
    const PoolProblem* problem, const int64_t* windows, const Stretch* inner, int64_t task,
) noexcept nogil
