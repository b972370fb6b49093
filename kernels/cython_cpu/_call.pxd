"""A call of a row as its loop body reads it: pointers, element strides, the problem and the cut.

A row gives a function per dtype that takes tasks from a queue until there are none. It is called by
its address (``address``): by ``_launch`` with a struct that was filled when the call was prepared,
by drivers with one that ``_team`` fills.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu._problem cimport (
    ConvProblem, InputStrides, OutputStrides, PoolProblem, WeightStrides,
)


cdef struct ConvCall:
    #: ``weight`` is the panels where the row packs them; ``bias`` is NULL for none; ``cut`` is the
    #: row's own struct; ``shared`` is scratch. Families besides fprop have their own arrays, and
    #: their strides, in the places of fprop's: the first, the second and the result.
    const void* x
    const void* weight
    const void* bias
    void* out
    const int64_t* taps
    const void* cut
    int64_t activation
    InputStrides x_strides
    WeightStrides weight_strides
    OutputStrides out_strides
    ConvProblem problem
    void* shared


cdef struct PoolCall:
    #: ``indices`` is NULL where no one wants them; the forward pooling's input where they are sought.
    const void* x
    void* out
    int64_t* indices
    const int64_t* windows
    int64_t reduction
    InputStrides x_strides
    OutputStrides out_strides
    OutputStrides indices_strides
    PoolProblem problem
    int64_t block


#: Runs the tasks of a queue, with scratch of its own.
ctypedef void (*RunConv)(const ConvCall* call, void* local, int64_t* queue) noexcept nogil
#: Packs the panels of a queue, of ``width`` out-channels each, or finishes what tasks left there.
ctypedef void (*RunPanels)(
    const ConvCall* call, void* shared, int64_t width, int64_t* queue
) noexcept nogil
#: ``x`` is the call's, of the function's dtype.
ctypedef void (*RunPool)(const PoolCall* call, const void* x, int64_t* queue) noexcept nogil


cdef inline object address(void* function):
    """A function's address as an object, for ``_launch``."""
    return PyCapsule_New(function, NULL, NULL)
