"""What ``benchmarks/gpu.py`` runs on a machine with an NVIDIA GPU: sections, a module each."""
