"""numba.cuda: kernels for NVIDIA GPUs."""
