"""What this processor can do: its instruction set, and the FMA peak the benchmarks divide by."""

from libc.stdint cimport int64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from cnnfast.kernels.cython_cpu._microkernel cimport (
    INSTRUCTION_SET, TILE_PIXELS, micro_kernel_panel,
)

#: Reduction steps of the panel measured with: 64 x 88 bytes of operands stay in L1.
cdef enum:
    DEPTH = 64
    REPEATS = 1000


def instruction_set() -> str:
    """The instruction set that the vector loops were chosen for: ``avx2`` or ``baseline``."""
    return INSTRUCTION_SET.decode()


cdef double now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec + 1e-9 * time.tv_nsec


def fma_peak(int dtype_itemsize, double seconds) -> float:
    """FLOP/s of the micro-kernel on one core, operands in L1: the best of many runs."""
    cdef char[DEPTH * 64] weights
    cdef char[DEPTH * TILE_PIXELS * 8] pixels
    cdef char[TILE_PIXELS * 64] tile
    cdef double start, elapsed, best = 0, begin = now()
    cdef int64_t i, flops = 2 * REPEATS * DEPTH * TILE_PIXELS * (64 // dtype_itemsize)
    memset(weights, 0, sizeof(weights))
    memset(pixels, 0, sizeof(pixels))
    with nogil:
        while True:
            start = now()
            for i in range(REPEATS):
                if dtype_itemsize == 4:
                    micro_kernel_panel(
                        <float*> tile, <float*> pixels, DEPTH, <float*> weights, False
                    )
                else:
                    micro_kernel_panel(
                        <double*> tile, <double*> pixels, DEPTH, <double*> weights, False
                    )
            elapsed = now() - start
            best = max(best, flops / elapsed)
            if start - begin >= seconds:
                break
    return best
