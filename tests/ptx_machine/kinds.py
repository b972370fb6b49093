"""Types and state spaces."""

import numpy as np

#: Bytes of each fundamental type.
SIZES = {
    **{f"{kind}{bits}": bits // 8 for kind in "bsu" for bits in (8, 16, 32, 64)},
    "b128": 16, "f16": 2, "bf16": 2, "f16x2": 4, "bf16x2": 4, "tf32": 4, "f32": 4, "f64": 8,
    "pred": 1,
}  # fmt: skip

SPACES = ("global", "shared", "local", "const", "param")

#: Where shared and local memory begin in their own address spaces, and in the generic one.
SHARED_BASE = 1024
LOCAL_BASE = 64
GENERIC_SHARED = 0x7C0000000000
GENERIC_LOCAL = 0x7D0000000000

DTYPES = {
    **{f"{kind}{bits}": np.dtype(f"{'i' if kind == 's' else 'u'}{bits // 8}")
       for kind in "bsu" for bits in (8, 16, 32, 64)},
    "f16": np.dtype("f2"), "bf16": np.dtype("u2"), "f16x2": np.dtype("u4"),
    "bf16x2": np.dtype("u4"), "tf32": np.dtype("u4"), "f32": np.dtype("f4"),
    "f64": np.dtype("f8"), "pred": np.dtype("?"),
}  # fmt: skip
