"""The numpy_cpu engine: kernels made of NumPy calls alone."""
