"""Arrays as launchers see them: what they must be like, where they lie, whether they are finite."""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp

cimport numpy as cnp


cdef enum:
    #: Axes of an array that a launcher takes.
    MOST_AXES = 8


#: What arrays must be like: their dtype's number, shape and strides in bytes; the bytes before and
#: behind the first element that they span; and where the first element of the five-axis view is.
cdef struct Like:
    int axes, number
    cnp.npy_intp shape[MOST_AXES]
    cnp.npy_intp strides[MOST_AXES]
    int64_t before, behind, start


cdef inline bint read_like(Like* like, cnp.ndarray array) except -1:
    """Note what an array is like; False if it isn't one for launchers."""
    cdef int axis
    cdef int64_t reach
    like.axes, like.number = cnp.PyArray_NDIM(array), cnp.PyArray_TYPE(array)
    like.before, like.behind, like.start = 0, cnp.PyArray_ITEMSIZE(array), 0
    if like.axes > MOST_AXES or not cnp.PyArray_CheckExact(array):
        return False
    for axis in range(like.axes):
        like.shape[axis] = cnp.PyArray_DIM(array, axis)
        like.strides[axis] = cnp.PyArray_STRIDE(array, axis)
        reach = (like.shape[axis] - 1) * like.strides[axis]
        if reach < 0:
            like.before -= reach
        else:
            like.behind += reach
    return alike(like, array)


cdef inline bint read_view(Like* like, cnp.ndarray array, cnp.ndarray view, void* strides) except -1:
    """Note what an array is like, and where its view begins and how it strides."""
    cdef bint good = read_like(like, array)
    cdef int axis
    like.start = <char*>cnp.PyArray_DATA(view) - <char*>cnp.PyArray_DATA(array)
    for axis in range(cnp.PyArray_NDIM(view)):
        (<int64_t*>strides)[axis] = (
            cnp.PyArray_STRIDE(view, axis) // cnp.PyArray_ITEMSIZE(array)
        )
    return good


cdef inline bint alike(const Like* like, object given) noexcept:
    """Whether an array is what a launcher was made for."""
    cdef cnp.ndarray array
    if not cnp.PyArray_CheckExact(given):
        return False
    array = <cnp.ndarray>given
    return (
        cnp.PyArray_TYPE(array) == like.number and cnp.PyArray_NDIM(array) == like.axes
        and memcmp(cnp.PyArray_DIMS(array), like.shape, like.axes * sizeof(cnp.npy_intp)) == 0
        and memcmp(cnp.PyArray_STRIDES(array), like.strides, like.axes * sizeof(cnp.npy_intp)) == 0
        and cnp.PyArray_ISALIGNED(array) and cnp.PyArray_ISNOTSWAPPED(array)
    )


cdef inline bint apart(const Like* one, object first, const Like* two, object second) noexcept:
    """Whether the bytes that two arrays span are apart."""
    cdef uintptr_t a = <uintptr_t>cnp.PyArray_DATA(<cnp.ndarray>first)
    cdef uintptr_t b = <uintptr_t>cnp.PyArray_DATA(<cnp.ndarray>second)
    return a + one.behind <= b - two.before or b + two.behind <= a - one.before


cdef inline char* data_of(const Like* like, object array) noexcept:
    """The address of the view's first element."""
    return <char*>cnp.PyArray_DATA(<cnp.ndarray>array) + like.start


cdef inline bint row_finite(const char* values, int itemsize, int64_t stride, int64_t count) noexcept nogil:
    """Whether none of a row of floats is infinite or NaN: has all bits of the exponent set."""
    cdef int64_t i
    cdef uint32_t narrow = 0
    cdef uint64_t wide = 0
    cdef const uint32_t* singles = <const uint32_t*>values
    cdef const uint64_t* doubles = <const uint64_t*>values
    if itemsize == 4:
        for i in range(count):
            narrow |= (singles[i * stride] & 0x7f800000u) == 0x7f800000u
        return narrow == 0
    for i in range(count):
        wide |= (doubles[i * stride] & 0x7ff0000000000000u) == 0x7ff0000000000000u
    return wide == 0


cdef inline bint all_finite(
    const char* values, int itemsize, const int64_t* shape, const int64_t* strides
) noexcept nogil:
    """The same of a five-axis array."""
    cdef int64_t a, b, c, d
    for a in range(shape[0]):
        for b in range(shape[1]):
            for c in range(shape[2]):
                for d in range(shape[3]):
                    if not row_finite(
                        values + itemsize * (
                            a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3]
                        ),
                        itemsize, strides[4], shape[4],
                    ):
                        return False
    return True


cdef inline int read_rows(cnp.ndarray array, int itemsize, int64_t* shape, int64_t* strides) except -1:
    """Shape and element strides of five axes; a contiguous array is one long row."""
    cdef int axis
    for axis in range(5):
        shape[axis] = cnp.PyArray_DIM(array, axis)
        strides[axis] = cnp.PyArray_STRIDE(array, axis) // itemsize
    if cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS):
        shape[0] = shape[1] = shape[2] = shape[3] = strides[4] = 1
        shape[4] = cnp.PyArray_SIZE(array)
    return 0
