"""What a call is remembered by, as bytes: two calls have the same if they are planned the same way.

Numbers are written as bytes of seven bits, low ones first, an eighth bit saying that more follow;
tags and counts in front of what varies make every sequence of bytes readable in one way only.
Why: to build and to look up a tuple of shapes, strides and arguments takes longer than a small call.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.contextvars cimport get_value
from cpython.ref cimport PyObject
from cpython.float cimport PyFloat_AS_DOUBLE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport getenv
from libc.string cimport memcpy, strlen

cimport numpy as cnp

cnp.import_array()


cdef extern from "Python.h":
    object PyObject_Call(object function, tuple arguments, PyObject* keywords)
    int PyType_HasFeature(type kind, unsigned long feature)
    unsigned long Py_TPFLAGS_HEAPTYPE
    int PyType_IsSubtype(type kind, type other)
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    bint PyUnicode_IS_ASCII(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)


cdef enum:
    #: No signature is longer: whatever has one that would be isn't remembered.
    MOST = 1024
    #: Sequences inside of sequences.
    DEEPEST = 2
    #: NumPy's own types of numbers, float16, and types that were registered, as bfloat16 is;
    #: strings of variable length are above all others.
    LAST_NUMBER = 16
    HALF = 23
    FIRST_USER_TYPE = 256
    VARIABLE_STRING = 2056


cdef enum Tag:
    NONE = 1
    INTEGER
    TRUE
    FALSE
    FLOAT
    TEXT
    TUPLE
    LIST
    DTYPE
    TYPE
    ARRAY
    OBJECT


cdef struct Text:
    int64_t size
    unsigned char bytes[MOST]


cdef bint put(Text* text, int64_t number) noexcept:
    """Append a number; False if there is no room."""
    cdef uint64_t left = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    if text.size > MOST - 10:
        return False
    while left > 127:
        text.bytes[text.size] = <unsigned char>(left & 127 | 128)
        text.size += 1
        left >>= 7
    text.bytes[text.size] = <unsigned char>left
    text.size += 1
    return True


cdef bint put_raw(Text* text, const void* data, int64_t size) noexcept:
    """Append a count and that many bytes."""
    if size > MOST - 10 or not put(text, size) or text.size > MOST - size:
        return False
    memcpy(text.bytes + text.size, data, size)
    text.size += size
    return True


cdef bint put_dtype(Text* text, cnp.dtype dtype) noexcept:
    """Append a dtype that its number and byte order describe; False for others."""
    cdef int number = dtype.type_num
    if number > LAST_NUMBER and number != HALF:
        if number < FIRST_USER_TYPE or number == VARIABLE_STRING:
            return False
    return put(text, number) and put(text, dtype.byteorder)


cdef bint put_array(Text* text, cnp.ndarray array) noexcept:
    cdef int axis
    cdef int flags = cnp.PyArray_FLAGS(array) & (cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE)
    if not put(text, ARRAY) or not put_dtype(text, array.descr):
        return False
    if not put(text, flags) or not put(text, cnp.PyArray_NDIM(array)):
        return False
    for axis in range(cnp.PyArray_NDIM(array)):
        if not put(text, cnp.PyArray_DIM(array, axis)):
            return False
        if not put(text, cnp.PyArray_STRIDE(array, axis)):
            return False
    return True


cdef bint put_argument(Text* text, object value, int depth) except -1:
    """Append an argument with its exact type (1, True and 1.0 differ); False if there is no way."""
    cdef type kind = type(value)
    cdef int overflow = 0
    cdef long long number
    cdef double real
    if value is None:
        return put(text, NONE)
    if kind is int:
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        return not overflow and put(text, INTEGER) and put(text, number)
    if kind is str:
        if not PyUnicode_IS_ASCII(value) or not put(text, TEXT):
            return False
        return put_raw(text, PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value))
    if kind is bool:
        return put(text, TRUE if value is True else FALSE)
    if kind is float:
        real = PyFloat_AS_DOUBLE(value)
        return put(text, FLOAT) and put_raw(text, &real, sizeof(double))
    if kind is tuple or kind is list:
        if depth == 0 or not put(text, TUPLE if kind is tuple else LIST):
            return False
        if not put(text, len(value)):
            return False
        for item in value:
            if not put_argument(text, item, depth - 1):
                return False
        return True
    if isinstance(value, cnp.dtype):
        return put(text, DTYPE) and put_dtype(text, value)
    if kind is type and PyType_IsSubtype(value, cnp.generic) and not PyType_HasFeature(
        value, Py_TPFLAGS_HEAPTYPE
    ):
        # A type of NumPy's own, which is where it is for ever.
        return put(text, TYPE) and put(text, <int64_t><void*>value)
    return False


cdef object signature_of(
    make, str name, tuple arrays, tuple arguments, backend, int64_t limit, by_identity
):
    cdef Text text
    cdef tuple objects = None
    cdef bytes described
    cdef const char* variable
    text.size = 0
    if not put(&text, <int64_t><void*>make) or not put_argument(&text, name, 0):
        return None
    for array in arrays:
        if array is None:
            if not put(&text, NONE):
                return None
        elif not cnp.PyArray_CheckExact(array) or not put_array(&text, array):
            return None
    for value in arguments:
        if not put_argument(&text, value, DEEPEST):
            if not by_identity(value) or not put(&text, OBJECT):
                return None
            objects = (value,) if objects is None else (*objects, value)
    if backend is None:
        variable = getenv("CNNFAST_BACKEND")
        if not put(&text, NONE) or (variable and not put_raw(&text, variable, strlen(variable))):
            return None
    else:
        for part in <tuple>backend:
            if not put_argument(&text, part, 0):
                return None
    if not put(&text, limit):
        return None
    described = PyBytes_FromStringAndSize(<const char*>text.bytes, text.size)
    return described if objects is None else (described, *objects)


cdef class Finder:
    """``find(make, name, arrays, arguments)``: what a dictionary has under the call's signature.

    ``make`` is the function that prepares the call, and lives as long as the process. ``place`` is
    the dictionary's name among ``names``, ``limit`` the workspace limit's among ``settings``;
    nothing is found while the context variable ``recorder`` has a value. ``backend`` has the
    request in force, or None for that of the environment. ``by_identity`` says which arguments are
    themselves part of a signature, and kept alive by it.
    """

    cdef dict names, settings
    cdef str place, limit
    cdef object recorder, backend, by_identity

    def __init__(
        self, dict names, str place, dict settings, str limit, recorder, backend, by_identity
    ):
        self.names, self.place, self.settings, self.limit = names, place, settings, limit
        self.recorder, self.backend, self.by_identity = recorder, backend, by_identity

    def signature(self, make, str name, tuple arrays, tuple arguments):
        """What a call is remembered by; None if it can't be."""
        return signature_of(
            make, name, arrays, arguments, get_value(self.backend), self.settings[self.limit],
            self.by_identity,
        )

    cdef object find(self, make, str name, tuple arrays, tuple arguments):
        if get_value(self.recorder) is not None:
            return None
        key = signature_of(
            make, name, arrays, arguments, get_value(self.backend), self.settings[self.limit],
            self.by_identity,
        )
        return None if key is None else (<dict>self.names[self.place]).get(key)

    def __call__(self, make, str name, tuple arrays, tuple arguments):
        """What an earlier, equal call prepared, or None."""
        return self.find(make, name, arrays, arguments)

    def again(self, make, str name, tuple arrays, tuple arguments):
        """What that gives for the arrays; None if there is none."""
        call = self.find(make, name, arrays, arguments)
        return None if call is None else PyObject_Call(call, arrays, NULL)
