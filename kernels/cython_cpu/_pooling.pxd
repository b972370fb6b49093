from cython cimport floating
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport InputStrides, OutputStrides, PoolProblem


cdef enum Reduction:
    MAX
    MEAN
    ARGMAX


#: Output columns first .. end-1 whose windows have the same taps and extent, ``step`` apart.
cdef struct Stretch:
    int64_t first, end, step


cdef Stretch longest_stretch(const int64_t* windows, int64_t columns) noexcept nogil

cdef void tile(
    Reduction reduction, const floating* x, const InputStrides* x_strides, floating* out,
    const OutputStrides* out_strides, int64_t* indices, const OutputStrides* indices_strides,
    const PoolProblem* problem, const int64_t* windows, const Stretch* inner, int64_t task,
) noexcept nogil
