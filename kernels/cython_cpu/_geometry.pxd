"""What the shapes of calls from C mean: canonical problems, or what is wrong with them."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport ConvProblem
from cnnfast.kernels.cython_cpu.conv cimport ConvShape, ConvStrides


#: The largest arrays and the most operations, in double, for products may pass 64 bits; extents and
#: steps are no more than LIMIT.
cdef int64_t LIMIT
cdef double MOST_ELEMENTS
cdef double MOST_OPERATIONS


cdef int find_problem(
    ConvProblem* problem, const ConvShape* shape, bint transposed
) noexcept nogil
cdef void fill_contiguous(
    int64_t* strides, int64_t channels, int64_t first, int64_t second, int64_t third
) noexcept nogil
cdef void fill_strides(
    ConvStrides* to, const ConvStrides* given, const ConvProblem* problem, bint transposed
) noexcept nogil
cdef bint spread_strides(
    int64_t* to, const Py_ssize_t* strides, int rank, int64_t itemsize
) noexcept nogil
