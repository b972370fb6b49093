from libc.stdint cimport int64_t


#: A task: outputs of image n and group g, out-channels k .. k_end - 1 of the group's, in plane o
#: `rows` from p and `columns` from q on.
cdef struct Block:
    int64_t n, g, k, k_end, o, p, q, rows, columns


#: How a call computes: along channels, 3 x 3 in place, or over copies.
cdef enum Way:
    ALONG_CHANNELS
    IN_PLACE
    COPYING
