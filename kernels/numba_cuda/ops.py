"""GPU operations: inline PTX, or what stands for it in Numba's simulator. One set of names."""

from __future__ import annotations

from importlib import import_module

from numba import config

_chosen = import_module("._simulated" if config.ENABLE_CUDASIM else "._ptx", __package__)

widen_float16 = _chosen.widen_float16
widen_bfloat16 = _chosen.widen_bfloat16
narrow_float16 = _chosen.narrow_float16
narrow_bfloat16 = _chosen.narrow_bfloat16
read4 = _chosen.read4
write4 = _chosen.write4
