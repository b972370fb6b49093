"""Counting: parameters, FLOP, shapes, receptive fields."""
