"""Dtypes that rows read as they are stored, and what they compute them in."""

from libc.stdint cimport int8_t, int64_t, uint8_t


cdef extern from "stored.h":
    ctypedef struct float16:
        pass
    ctypedef struct bfloat16:
        pass


#: float16 and bfloat16 are computed in float, pairs of channels of int8 and uint8 in int32.
ctypedef fused stored:
    float
    double
    float16
    bfloat16
    int8_t
    uint8_t


cdef inline int64_t computing_size(const stored* array) noexcept nogil:
    """Bytes of an element as it is computed with."""
    return sizeof(double) if stored is double else sizeof(float)


cdef inline int64_t result_size(const stored* array) noexcept nogil:
    """Bytes of an element of the result."""
    return 2 if stored is float16 or stored is bfloat16 else computing_size(array)


cdef inline int64_t channels_each(const stored* array) noexcept nogil:
    """Channels of an element as it is computed with."""
    return 2 if stored is int8_t or stored is uint8_t else 1
