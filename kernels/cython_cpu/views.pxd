"""Convolutions and poolings of typed memoryviews, on top of ``conv`` and ``pool``.

They have any strides; extents that don't belong together are a status. ``steps`` come from
``conv_steps`` and ``pool_steps``. ``bias`` is NULL or the address of as many values as there are
out-channels, ``indices`` may be None.
"""

cimport cython
from libc.stdint cimport int64_t

from cnnfast.kernels.cython_cpu.conv cimport ConvShape, conv_arrays
from cnnfast.kernels.cython_cpu.pool cimport PoolShape, pool_arrays


cdef inline int conv1d_float32(
    const float[:, :, :] x, const float[:, :, :] weight, const float* bias,
    float[:, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 1, False, sizeof(float), &x[0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv1d_float64(
    const double[:, :, :] x, const double[:, :, :] weight, const double* bias,
    double[:, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 1, False, sizeof(double), &x[0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv2d_float32(
    const float[:, :, :, :] x, const float[:, :, :, :] weight, const float* bias,
    float[:, :, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 2, False, sizeof(float), &x[0, 0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv2d_float64(
    const double[:, :, :, :] x, const double[:, :, :, :] weight, const double* bias,
    double[:, :, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 2, False, sizeof(double), &x[0, 0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv3d_float32(
    const float[:, :, :, :, :] x, const float[:, :, :, :, :] weight, const float* bias,
    float[:, :, :, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 3, False, sizeof(float), &x[0, 0, 0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv3d_float64(
    const double[:, :, :, :, :] x, const double[:, :, :, :, :] weight, const double* bias,
    double[:, :, :, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 3, False, sizeof(double), &x[0, 0, 0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv_transpose1d_float32(
    const float[:, :, :] x, const float[:, :, :] weight, const float* bias,
    float[:, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 1, True, sizeof(float), &x[0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv_transpose1d_float64(
    const double[:, :, :] x, const double[:, :, :] weight, const double* bias,
    double[:, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 1, True, sizeof(double), &x[0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv_transpose2d_float32(
    const float[:, :, :, :] x, const float[:, :, :, :] weight, const float* bias,
    float[:, :, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 2, True, sizeof(float), &x[0, 0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv_transpose2d_float64(
    const double[:, :, :, :] x, const double[:, :, :, :] weight, const double* bias,
    double[:, :, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 2, True, sizeof(double), &x[0, 0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv_transpose3d_float32(
    const float[:, :, :, :, :] x, const float[:, :, :, :, :] weight, const float* bias,
    float[:, :, :, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 3, True, sizeof(float), &x[0, 0, 0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int conv_transpose3d_float64(
    const double[:, :, :, :, :] x, const double[:, :, :, :, :] weight, const double* bias,
    double[:, :, :, :, :] out, ConvShape steps, int64_t activation=0, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return conv_arrays(
            &steps, 3, True, sizeof(double), &x[0, 0, 0, 0, 0], x.shape, x.strides,
            &weight[0, 0, 0, 0, 0], weight.shape, weight.strides, bias,
            &out[0, 0, 0, 0, 0], out.shape, out.strides, activation, threads,
        )


cdef inline int max_pool1d_float32(
    const float[:, :, :] x, float[:, :, :] out, int64_t[:, :, :] indices,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 1, False, sizeof(float), &x[0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0], out.shape, out.strides,
            &indices[0, 0, 0], indices.shape, indices.strides, threads,
        )


cdef inline int max_pool1d_float64(
    const double[:, :, :] x, double[:, :, :] out, int64_t[:, :, :] indices,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 1, False, sizeof(double), &x[0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0], out.shape, out.strides,
            &indices[0, 0, 0], indices.shape, indices.strides, threads,
        )


cdef inline int max_pool2d_float32(
    const float[:, :, :, :] x, float[:, :, :, :] out, int64_t[:, :, :, :] indices,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 2, False, sizeof(float), &x[0, 0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0, 0], out.shape, out.strides,
            &indices[0, 0, 0, 0], indices.shape, indices.strides, threads,
        )


cdef inline int max_pool2d_float64(
    const double[:, :, :, :] x, double[:, :, :, :] out, int64_t[:, :, :, :] indices,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 2, False, sizeof(double), &x[0, 0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0, 0], out.shape, out.strides,
            &indices[0, 0, 0, 0], indices.shape, indices.strides, threads,
        )


cdef inline int max_pool3d_float32(
    const float[:, :, :, :, :] x, float[:, :, :, :, :] out, int64_t[:, :, :, :, :] indices,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 3, False, sizeof(float), &x[0, 0, 0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0, 0, 0], out.shape, out.strides,
            &indices[0, 0, 0, 0, 0], indices.shape, indices.strides, threads,
        )


cdef inline int max_pool3d_float64(
    const double[:, :, :, :, :] x, double[:, :, :, :, :] out, int64_t[:, :, :, :, :] indices,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 3, False, sizeof(double), &x[0, 0, 0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0, 0, 0], out.shape, out.strides,
            &indices[0, 0, 0, 0, 0], indices.shape, indices.strides, threads,
        )


cdef inline int avg_pool1d_float32(
    const float[:, :, :] x, float[:, :, :] out,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 1, True, sizeof(float), &x[0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0], out.shape, out.strides, NULL, NULL, NULL, threads,
        )


cdef inline int avg_pool1d_float64(
    const double[:, :, :] x, double[:, :, :] out,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 1, True, sizeof(double), &x[0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0], out.shape, out.strides, NULL, NULL, NULL, threads,
        )


cdef inline int avg_pool2d_float32(
    const float[:, :, :, :] x, float[:, :, :, :] out,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 2, True, sizeof(float), &x[0, 0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0, 0], out.shape, out.strides, NULL, NULL, NULL, threads,
        )


cdef inline int avg_pool2d_float64(
    const double[:, :, :, :] x, double[:, :, :, :] out,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 2, True, sizeof(double), &x[0, 0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0, 0], out.shape, out.strides, NULL, NULL, NULL, threads,
        )


cdef inline int avg_pool3d_float32(
    const float[:, :, :, :, :] x, float[:, :, :, :, :] out,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 3, True, sizeof(float), &x[0, 0, 0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0, 0, 0], out.shape, out.strides, NULL, NULL, NULL, threads,
        )


cdef inline int avg_pool3d_float64(
    const double[:, :, :, :, :] x, double[:, :, :, :, :] out,
    PoolShape steps, int64_t threads=1,
) noexcept nogil:
    with cython.boundscheck(False):
        return pool_arrays(
            &steps, 3, True, sizeof(double), &x[0, 0, 0, 0, 0], x.shape, x.strides,
            &out[0, 0, 0, 0, 0], out.shape, out.strides, NULL, NULL, NULL, threads,
        )
