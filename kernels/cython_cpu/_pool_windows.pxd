"""A pooling as its loops see it (pool_windows.h)."""

from libc.stdint cimport int64_t


cdef extern from "pool_windows.h":
    ctypedef struct Planes "PoolProblem":
        int64_t n, c
        int64_t d, h, w
        int64_t o, p, q
        int64_t dilation_d, dilation_h, dilation_w
        int64_t divisor

    ctypedef struct Strides:
        int64_t n, c, d, h, w

    ctypedef struct Pooling:
        Planes problem
        Strides x, out, indices
        const int64_t* windows
        const int64_t* in_w
        int64_t first, end, step, taps
        int64_t slides
        int64_t channels_last

    #: Fills in what the windows have in common; ``with_indices`` says whether those are given.
    void find_stretch(Pooling* pooling) noexcept nogil
    void find_layout(Pooling* pooling, bint with_indices) noexcept nogil
