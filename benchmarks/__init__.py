"""Workloads as data, everything that can run them, and fair clocks: the benchmarks.

``cnnfast bench`` compares contenders in turn within one process; with ``--peers`` it sets the
default backend beside the best other library, judges the bars and writes README's tables.
``pytest --benchmark-only`` times every layer on every contender, case by case.
"""
