"""The cython_cpu engine: kernels in Cython over one C header of micro-kernels."""
