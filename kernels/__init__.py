"""The kernels: one table, a folder per engine, a file per algorithm."""
