"""What this processor can do: its instruction set, and the FMA peak the benchmarks divide by."""

from libc.stdint cimport int64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from cnnfast.kernels.cython_cpu._microkernel cimport INSTRUCTION_SET, MOST_PIXELS, largest_tile

#: Reduction steps of the tile measured with: 192 x 128 bytes of weights (24 KiB) stay in L1.
cdef enum:
    DEPTH = 192
    REPEATS = 1000


def instruction_set() -> str:
    """The instruction set that the vector loops were chosen for: ``avx512``, ``avx2`` or
    ``baseline``."""
    return INSTRUCTION_SET.decode()


cdef double now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec + 1e-9 * time.tv_nsec


def fma_peak(int dtype_itemsize, double seconds) -> float:
    """FLOP/s of the micro-kernel on one core, operands in L1: the best of many runs."""
    cdef char[DEPTH * 2 * 64] weights
    cdef char[MOST_PIXELS * 8] pixels
    cdef char[MOST_PIXELS * 2 * 64] tile
    cdef double start, elapsed, best = 0, begin = now()
    cdef int64_t[MOST_PIXELS] pixel
    cdef int64_t i, sums = 0
    for i in range(MOST_PIXELS):
        pixel[i] = i
    memset(weights, 0, sizeof(weights))
    memset(pixels, 0, sizeof(pixels))
    with nogil:
        while True:
            start = now()
            for i in range(REPEATS):
                if dtype_itemsize == 4:
                    sums = largest_tile(
                        <float*> tile, <float*> pixels, pixel, DEPTH, <float*> weights
                    )
                else:
                    sums = largest_tile(
                        <double*> tile, <double*> pixels, pixel, DEPTH, <double*> weights
                    )
            elapsed = now() - start
            best = max(best, 2 * REPEATS * DEPTH * sums / elapsed)
            if start - begin >= seconds:
                break
    return best
