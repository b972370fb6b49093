"""The numba_cpu engine: kernels that Numba compiles on first use and caches on disk."""
