/*
 * Convolution and pooling for C extensions of Python: the functions of cnnfast's Cython modules, by
 * pointers that import_cnnfast() fetches. They need no GIL, raise nothing, and return CNNFAST_OK or
 * a negative status when nothing was computed. docs/cython.md has a complete program.
 */
#ifndef CNNFAST_H
#define CNNFAST_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#define CNNFAST_API_VERSION 1

enum {
    CNNFAST_OK = 0,
    /* An array or a shape is NULL. */
    CNNFAST_NULL_POINTER = -1,
    /* An extent below 1 (a batch below 0), or outputs that would be none. */
    CNNFAST_BAD_EXTENT = -2,
    /* A stride or a dilation below 1. */
    CNNFAST_BAD_STEP = -3,
    /* Padding below 0, or, of a pooling, above half the window; output padding that is neither
     * below the stride nor below the dilation, or that a convolution is given. */
    CNNFAST_BAD_PADDING = -4,
    /* Groups that don't divide both numbers of channels. */
    CNNFAST_BAD_GROUPS = -5,
    /* A kernel larger than the padded input. */
    CNNFAST_BAD_KERNEL = -6,
    /* An activation that is neither a code nor the address of a function. */
    CNNFAST_BAD_ACTIVATION = -7,
    /* Arrays whose extents don't belong together, or whose strides aren't whole elements. */
    CNNFAST_BAD_ARRAY = -8,
    /* More elements or operations than index arithmetic of 64 bits is sure to hold. */
    CNNFAST_TOO_LARGE = -9,
    /* No memory for scratch. */
    CNNFAST_NO_MEMORY = -10,
    /* Fewer threads than 1. */
    CNNFAST_BAD_THREADS = -11
};

/* What a convolution ends with. A greater number is the address of a function
 * void apply(float *values, int64_t count) (or double *) that changes results in place. */
enum { CNNFAST_LINEAR = 0, CNNFAST_RELU = 1, CNNFAST_RELU6 = 2 };

/* A convolution of three spatial axes; those that aren't there have extents, taps and strides of 1.
 * c and k are all channels of the input and of the result; output_padding is for transposed
 * convolutions alone. */
typedef struct {
    int64_t n, c, d, h, w;
    int64_t k, t, r, s;
    int64_t stride_d, stride_h, stride_w;
    int64_t dilation_d, dilation_h, dilation_w;
    int64_t before_d, before_h, before_w;
    int64_t after_d, after_h, after_w;
    int64_t output_padding_d, output_padding_h, output_padding_w;
    int64_t groups;
} cnnfast_conv_shape;

/* Strides in elements, of the arrays' own axes: x (n, c, d, h, w), out (n, k, o, p, q), weight
 * (k, c / groups, t, r, s), or (c, k / groups, t, r, s) of a transposed convolution. */
typedef struct {
    int64_t x[5];
    int64_t weight[5];
    int64_t out[5];
} cnnfast_conv_strides;

/* A pooling. A divisor of 0 is the count of a window's elements, with those of the padding where
 * count_include_pad isn't 0. */
typedef struct {
    int64_t n, c, d, h, w;
    int64_t t, r, s;
    int64_t stride_d, stride_h, stride_w;
    int64_t dilation_d, dilation_h, dilation_w;
    int64_t before_d, before_h, before_w;
    int64_t after_d, after_h, after_w;
    int64_t ceil_mode, count_include_pad, divisor;
} cnnfast_pool_shape;

/* Strides in elements: x (n, c, d, h, w), out and indices (n, c, o, p, q). */
typedef struct {
    int64_t x[5];
    int64_t out[5];
    int64_t indices[5];
} cnnfast_pool_strides;

/* strides may be NULL, for C-contiguous arrays, and so may bias (k values, contiguous). threads: at
 * most so many, 1 for the calling thread alone. scratch: NULL, or at least ..._scratch_bytes that
 * no one else uses meanwhile. out must not overlap the other arrays. */
#define CNNFAST_CONV(REAL)                                                                         \
    (const cnnfast_conv_shape *shape, const cnnfast_conv_strides *strides, const REAL *x,          \
     const REAL *weight, const REAL *bias, REAL *out, int64_t activation, int64_t threads,         \
     void *scratch)
/* indices may be NULL; they are flat ones of the input's d x h x w. */
#define CNNFAST_MAX_POOL(REAL)                                                                     \
    (const cnnfast_pool_shape *shape, const cnnfast_pool_strides *strides, const REAL *x,          \
     REAL *out, int64_t *indices, int64_t threads, void *scratch)
#define CNNFAST_AVG_POOL(REAL)                                                                     \
    (const cnnfast_pool_shape *shape, const cnnfast_pool_strides *strides, const REAL *x,          \
     REAL *out, int64_t threads, void *scratch)
/* Bytes of scratch of a call of itemsize (4 or 8); negative: a status. */
#define CNNFAST_CONV_BYTES                                                                         \
    (const cnnfast_conv_shape *shape, const cnnfast_conv_strides *strides, int64_t itemsize,       \
     int64_t threads)

/* Every function: what it returns, its name, its parameters, and the module that it comes from. The
 * outputs are the result's five extents, status_text a status in words. */
#define CNNFAST_FUNCTIONS(FUNCTION)                                                                \
    FUNCTION(int, conv_float32, CNNFAST_CONV(float), conv)                                         \
    FUNCTION(int, conv_float64, CNNFAST_CONV(double), conv)                                        \
    FUNCTION(int, conv_transpose_float32, CNNFAST_CONV(float), conv)                               \
    FUNCTION(int, conv_transpose_float64, CNNFAST_CONV(double), conv)                              \
    FUNCTION(int, conv_output, (const cnnfast_conv_shape *shape, int64_t *extents), conv)          \
    FUNCTION(int, conv_transpose_output, (const cnnfast_conv_shape *shape, int64_t *extents), conv)\
    FUNCTION(int64_t, conv_scratch_bytes, CNNFAST_CONV_BYTES, conv)                                \
    FUNCTION(int64_t, conv_transpose_scratch_bytes, CNNFAST_CONV_BYTES, conv)                      \
    FUNCTION(const char *, status_text, (int status), conv)                                        \
    FUNCTION(int, max_pool_float32, CNNFAST_MAX_POOL(float), pool)                                 \
    FUNCTION(int, max_pool_float64, CNNFAST_MAX_POOL(double), pool)                                \
    FUNCTION(int, avg_pool_float32, CNNFAST_AVG_POOL(float), pool)                                 \
    FUNCTION(int, avg_pool_float64, CNNFAST_AVG_POOL(double), pool)                                \
    FUNCTION(int, pool_output, (const cnnfast_pool_shape *shape, int64_t *extents), pool)          \
    FUNCTION(int64_t, pool_scratch_bytes, (const cnnfast_pool_shape *shape), pool)

/* The pointers, as members of `cnnfast`: cnnfast.conv_float32(&shape, NULL, x, ...). Each C file
 * that includes this has its own, and calls import_cnnfast() before it uses them. */
#define CNNFAST_MEMBER(RESULT, NAME, PARAMETERS, MODULE) RESULT(*NAME) PARAMETERS;
static struct {
    CNNFAST_FUNCTIONS(CNNFAST_MEMBER)
} cnnfast;
#undef CNNFAST_MEMBER

/* A shape to fill in: no padding, everything else 1. */
static inline cnnfast_conv_shape cnnfast_conv_shape_of_ones(void)
{
    const cnnfast_conv_shape shape = {
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    };
    return shape;
}

/* The same of a pooling; padding counts in means. */
static inline cnnfast_pool_shape cnnfast_pool_shape_of_ones(void)
{
    const cnnfast_pool_shape shape = {
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0,
    };
    return shape;
}

/* Writes a function's address in a module's __pyx_capi__ to a pointer; 0, or -1 with an exception. */
static inline int cnnfast_fetch(PyObject *functions, const char *name, void *to)
{
    PyObject *capsule = PyMapping_GetItemString(functions, name);
    if (capsule == NULL)
        return -1;
    void *address = PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule));
    Py_DECREF(capsule);
    /* ISO C has no cast between pointers to objects and to functions. */
    memcpy(to, &address, sizeof address);
    return address == NULL ? -1 : 0;
}

/* The __pyx_capi__ of a module; NULL with an exception. */
static inline PyObject *cnnfast_module(const char *name)
{
    PyObject *module = PyImport_ImportModule(name);
    if (module == NULL)
        return NULL;
    PyObject *functions = PyObject_GetAttrString(module, "__pyx_capi__");
    Py_DECREF(module);
    return functions;
}

/* Fetches the pointers; 0, or -1 with an exception. Needs the GIL: call it in the module's init. */
static inline int import_cnnfast(void)
{
    int result = -1;
    int (*version)(void);
    PyObject *conv = cnnfast_module("cnnfast.kernels.cython_cpu.conv");
    PyObject *pool = conv == NULL ? NULL : cnnfast_module("cnnfast.kernels.cython_cpu.pool");
    if (pool == NULL)
        goto done;
    if (cnnfast_fetch(conv, "api_version", &version) < 0)
        goto done;
    if (version() != CNNFAST_API_VERSION) {
        PyErr_Format(PyExc_ImportError,
                     "compiled against version %d of cnnfast's C functions, but those installed "
                     "are version %d: compile again",
                     CNNFAST_API_VERSION, version());
        goto done;
    }
#define CNNFAST_FETCH(RESULT, NAME, PARAMETERS, MODULE)                                            \
    if (cnnfast_fetch(MODULE, #NAME, &cnnfast.NAME) < 0)                                           \
        goto done;
    CNNFAST_FUNCTIONS(CNNFAST_FETCH)
#undef CNNFAST_FETCH
    result = 0;
done:
    Py_XDECREF(conv);
    Py_XDECREF(pool);
    return result;
}

#endif
