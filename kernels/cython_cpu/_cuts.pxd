"""How a problem is cut, without Python: what ``blocking`` and ``blocking_rows`` say, for calls from C
(a test compares every field)."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, GemmCut, RowsCut, TiledCut,
)


#: The fprop rows that calls from C are shared out among, and the one that skips padding.
cdef enum Algorithm:
    TILED
    IM2COL
    DIRECT
    LOOP


#: Cuts of any of them, and what they have in common.
cdef union AnyCut:
    TiledCut tiled
    GemmCut gemm
    RowsCut rows


cdef struct Blocks:
    AnyCut cut
    int64_t width, tasks, weight_panels, shared_elements, local_elements


cdef void cut_gemm(GemmCut* cut, const ConvProblem* problem, int64_t itemsize) noexcept nogil
cdef void cut_tiled(
    TiledCut* cut, const ConvProblem* problem, int64_t itemsize
) noexcept nogil
cdef void cut_tiled_own(
    TiledCut* cut, const ConvProblem* problem, int64_t itemsize
) noexcept nogil
cdef void cut_rows(RowsCut* cut, const ConvProblem* problem, int64_t itemsize) noexcept nogil
cdef void cut_for(
    Blocks* blocks, Algorithm algorithm, const ConvProblem* problem, int64_t itemsize
) noexcept nogil
cdef int64_t pad_after(
    int64_t size, int64_t kernel, int64_t outputs, int64_t stride, int64_t dilation, int64_t before
) noexcept nogil
