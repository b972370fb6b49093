"""What the functions of ``conv`` and ``pool`` return: 0, or why nothing was computed."""


cdef enum:
    CNNFAST_OK = 0
    #: An array or a shape is NULL.
    CNNFAST_NULL_POINTER = -1
    #: An extent below 1 (a batch below 0), or outputs that would be none.
    CNNFAST_BAD_EXTENT = -2
    #: A stride or a dilation below 1.
    CNNFAST_BAD_STEP = -3
    #: Padding below 0, or, of a pooling, above half the window; output padding that is neither
    #: below the stride nor below the dilation, or that a convolution is given.
    CNNFAST_BAD_PADDING = -4
    #: Groups that don't divide both numbers of channels.
    CNNFAST_BAD_GROUPS = -5
    #: A kernel larger than the padded input.
    CNNFAST_BAD_KERNEL = -6
    #: An activation that is neither a code nor the address of a function.
    CNNFAST_BAD_ACTIVATION = -7
    #: Arrays whose extents don't belong together, or whose strides aren't whole elements.
    CNNFAST_BAD_ARRAY = -8
    #: More elements or operations than index arithmetic of 64 bits is sure to hold.
    CNNFAST_TOO_LARGE = -9
    #: No memory for scratch.
    CNNFAST_NO_MEMORY = -10
    #: Fewer threads than 1.
    CNNFAST_BAD_THREADS = -11


#: What a convolution ends with. A greater number is the address of a function
#: ``void apply(float* values, int64_t count)`` (or ``double*``) that changes results in place.
cdef enum:
    CNNFAST_LINEAR = 0
    CNNFAST_RELU = 1
    CNNFAST_RELU6 = 2


#: Of the structs and functions, as in ``cnnfast.h``.
cdef enum:
    CNNFAST_API_VERSION = 1
