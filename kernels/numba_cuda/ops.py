"""GPU operations: inline PTX, or what stands for it in Numba's simulator. One set of names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numba import config

_kind = "_simulated" if config.ENABLE_CUDASIM else "_ptx"
_chosen: Any = import_module(f".{_kind}", __package__)
_memory = import_module(f".{_kind}_memory", __package__)
_wide: Any = import_module(f".{_kind}_wgmma", __package__)

widen_float16 = _chosen.widen_float16
widen_bfloat16 = _chosen.widen_bfloat16
narrow_float16 = _chosen.narrow_float16
narrow_bfloat16 = _chosen.narrow_bfloat16
round_tf32 = _chosen.round_tf32
pair = _chosen.pair
store_words = _chosen.store_words
store_floats = _chosen.store_floats
load_shared = _chosen.load_shared
load_shared_integers = _chosen.load_shared_integers
store_shared_integers = _chosen.store_shared_integers
copy_async = _chosen.copy_async
commit = _chosen.commit
wait = _chosen.wait
zeros = _chosen.zeros
matrices = _chosen.matrices
multiply = _chosen.multiply
step = _chosen.step
turned_step = _chosen.turned_step
keep = _chosen.keep
read_if = _memory.read_if
read4_if = _memory.read4_if
read4 = _memory.read4
write4 = _memory.write4
until_swizzle = _wide.until_swizzle
publish = _wide.publish
wide_step = _wide.wide_step
wide_wait = _wide.wide_wait
