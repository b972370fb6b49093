"""The named tuples of ``problem`` and ``blocking`` as C structs, and memory strides.

Every struct lists the fields of its tuple in the same order, all int64, so that ``read_fields``
copies any of them (a test compares the names). Strides are counted in elements, in the letters of
the array they belong to.
"""

from libc.stdint cimport int64_t


#: What the loop and pooling rows take.
ctypedef fused number:
    float
    double
    int64_t


cdef struct ConvProblem:
    int64_t n, g, c, k
    int64_t d, h, w
    int64_t t, r, s
    int64_t o, p, q
    int64_t stride_d, stride_h, stride_w
    int64_t dilation_d, dilation_h, dilation_w
    int64_t pad_d, pad_h, pad_w


cdef struct PoolProblem:
    int64_t n, c
    int64_t d, h, w
    int64_t o, p, q
    int64_t dilation_d, dilation_h, dilation_w
    int64_t divisor


cdef struct GemmCut:
    int64_t width, panels, k_blocks
    int64_t pixels, pixel_blocks, strip, depth
    int64_t tasks, weight_panels, shared_elements, local_elements


cdef struct TiledCut:
    int64_t width, panels, k_blocks
    int64_t rows, row_blocks
    int64_t columns, column_blocks
    int64_t halo_rows, halo_columns, halo_channels, halo_elements
    int64_t tasks, weight_panels, shared_elements, local_elements


cdef struct RowsCut:
    int64_t channels, k_blocks
    int64_t rows, row_blocks
    int64_t columns, column_blocks
    int64_t phases_h, phases_w, pitch, plane, rest
    int64_t step_elements, weight_elements, zero_elements
    int64_t tasks, shared_elements, local_elements


cdef struct DgradCut:
    int64_t channels, channel_blocks
    int64_t rows, row_blocks
    int64_t tasks


cdef struct WgradCut:
    int64_t width, panels, k_blocks
    int64_t channels, channel_blocks
    int64_t together, tile_channels, tile_weights
    int64_t rows, row_blocks
    int64_t columns, column_blocks
    int64_t pixels
    int64_t halo_rows, halo_columns, halo_elements
    int64_t units, slices, slice_units
    int64_t tasks, weight_panels, shared_elements, local_elements


cdef struct WgradDirectCut:
    int64_t filters, k_blocks
    int64_t row_step, row_spread
    int64_t rows, row_blocks
    int64_t units, slices, slice_units
    int64_t tasks, weight_panels, shared_elements, local_elements


cdef struct InputStrides:
    int64_t n, c, d, h, w


cdef struct WeightStrides:
    int64_t k, c, t, r, s


cdef struct OutputStrides:
    int64_t n, k, o, p, q


cdef struct Range:
    int64_t begin, end


cdef inline Range inside(int64_t first, int64_t step, int64_t size, int64_t count) noexcept nogil:
    """Which of the positions ``first, first + step, ...``, ``count`` of them, are 0 .. size-1."""
    cdef Range found
    found.begin = min(max((-first + step - 1) // step, 0), count)
    found.end = min(max((size - first + step - 1) // step, found.begin), count)
    return found


cdef extern from *:
    """
    /* Lets go of the tasks before, and gives the next ones; 0 when there are none. */
    static inline int next_tasks(int64_t *queue, int64_t *begin, int64_t *end)
    {
        if (*begin < *end)
            __atomic_fetch_add(&queue[3], 1, __ATOMIC_RELEASE);
        const int64_t chunk = __atomic_fetch_add(&queue[0], 1, __ATOMIC_RELAXED);
        const int64_t chunks = queue[1], tasks = queue[2];
        if (chunk >= chunks)
            return 0;
        *begin = chunk * tasks / chunks;
        *end = (chunk + 1) * tasks / chunks;
        return 1;
    }
    """
    #: Takes the next tasks ``begin .. end-1`` of a queue (``parallel.queue_of``) until there are
    #: none; ``begin`` and ``end`` are equal at first.
    bint next_tasks(int64_t* queue, int64_t* begin, int64_t* end) noexcept nogil


cdef inline int read_fields(values, void* fields) except -1:
    """Copy a named tuple of ints into the struct of its name."""
    cdef Py_ssize_t i
    for i, value in enumerate(values):
        (<int64_t*> fields)[i] = value
    return 0
