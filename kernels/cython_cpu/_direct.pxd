"""How the direct row divides its work: a task's block of outputs, and a call's way to compute."""

from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, RowsCut,
)


#: A task: outputs of image n and group g, out-channels k .. k_end - 1 of the group's, in plane o
#: `rows` from p and `columns` from q on.
cdef struct Block:
    int64_t n, g, k, k_end, o, p, q, rows, columns


#: How a call computes: along channels, 3 x 3 in place, or over copies.
cdef enum Way:
    ALONG_CHANNELS
    IN_PLACE
    COPYING


cdef inline void locate(
    Block* block, const ConvProblem* problem, const RowsCut* cut, int64_t task
) noexcept nogil:
    """The block of a task. Divisions take longer than a look whether there is a choice."""
    cdef int64_t q = 0, p = 0, o = 0, k = 0
    if cut.column_blocks > 1:
        q, task = task % cut.column_blocks, task // cut.column_blocks
    if cut.row_blocks > 1:
        p, task = task % cut.row_blocks, task // cut.row_blocks
    if problem.o > 1:
        o, task = task % problem.o, task // problem.o
    if cut.k_blocks > 1:
        k, task = task % cut.k_blocks, task // cut.k_blocks
    block.n, block.g = 0, task
    if problem.n > 1:
        block.n, block.g = task // problem.g, task % problem.g
    block.o, block.k = o, k * cut.channels
    block.k_end = min(block.k + cut.channels, problem.k)
    block.p, block.q = p * cut.rows, q * cut.columns
    block.rows = min(cut.rows, problem.p - block.p)
    block.columns = min(cut.columns, problem.q - block.q)


cdef inline Way way_of(
    const ConvProblem* problem, const InputStrides* x_strides, const OutputStrides* out_strides,
) noexcept nogil:
    """How a call computes."""
    if problem.c == 1:
        if problem.k == 1 < problem.g and x_strides.c == 1 and out_strides.k == 1:
            return ALONG_CHANNELS
        if (
            x_strides.w == 1 and problem.t == 1 and problem.r == problem.s == 3
            and problem.dilation_h == problem.dilation_w == 1
            and problem.stride_h == problem.stride_w <= 2
        ):
            return IN_PLACE
    return COPYING
