"""Workloads as data, everything that can run them, and fair clocks: the benchmarks.

``pytest --benchmark-only`` times every layer on every contender, ``python -m
cnnfast.benchmarks.report`` turns its JSON into README's table, and ``cnnfast bench`` compares
contenders in turn within one process.
"""
