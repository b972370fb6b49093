"""A pooling as its loops see it (pool_windows.h)."""

from libc.stdint cimport int64_t


cdef extern from "pool_windows.h":
    ctypedef struct PoolProblem:
        int64_t n, c
        int64_t d, h, w
        int64_t o, p, q
        int64_t dilation_d, dilation_h, dilation_w
        int64_t divisor

    ctypedef struct Strides:
        int64_t n, c, d, h, w

    ctypedef struct Pooling:
        PoolProblem problem
        Strides x, out, indices
        const int64_t* windows
        const int64_t* in_w
        int64_t first, end, step, taps
        int64_t slides
        int64_t channels_last

    void find_stretch(Pooling* pooling) noexcept nogil
    int64_t slides_of(const Pooling* pooling) noexcept nogil


cdef inline void find_windows(
    Pooling* pooling, const int64_t* windows, bint channels_last
) noexcept nogil:
    """Fill in what follows from the problem, the strides and the table of windows."""
    pooling.windows = windows
    pooling.in_w = windows + 3 * (pooling.problem.o + pooling.problem.p)
    pooling.channels_last = channels_last
    find_stretch(pooling)
    pooling.slides = slides_of(pooling)
