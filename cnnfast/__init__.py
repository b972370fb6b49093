"""Convolution and pooling kernels for NumPy."""
