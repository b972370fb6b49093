"""Where cnnfast is on purpose stricter than torch (shapes that hold nothing, windows larger than
the padded input, broadcasting biases) or wider (what its functions take besides torch's arguments).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import cnnfast


class Stricter(NamedTuple):
    """torch takes it, cnnfast raises."""

    why: str
    torch: Callable[[], Any]
    cnnfast: Callable[[], Any]
    error: type[Exception] = ValueError


class Wider(NamedTuple):
    """torch raises, cnnfast gives what torch says to other arguments."""

    why: str
    torch: Callable[[], Any]
    cnnfast: Callable[[], Any]
    expected: Callable[[], Any]


def numbers(*shape: int, dtype: Any = np.float32) -> Any:
    """Small integers, both signs."""
    return np.asarray(np.random.default_rng([1, *shape]).integers(-4, 5, shape), dtype)


def both(name: str, *arguments: Any, **keywords: Any) -> tuple[Any, Any]:
    """The same call of torch and of cnnfast."""
    tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    return (
        partial(getattr(F, name), *tensors, **keywords),
        partial(getattr(cnnfast, name), *arguments, **keywords),
    )


IMAGE, KERNEL = numbers(2, 3, 6, 7), numbers(4, 3, 2, 3)
ROWS, MATRIX = numbers(5, 3), numbers(4, 3)

STRICTER = (
    Stricter("no channels, conv", *both("conv2d", numbers(1, 0, 4, 4), numbers(1, 0, 2, 2))),
    Stricter("no channels, adaptive mean", *both("adaptive_avg_pool2d", numbers(1, 0, 4, 4), 2)),
    Stricter("nothing adaptive", *both("adaptive_avg_pool2d", IMAGE, 0)),
    Stricter("nothing adaptive on an axis", *both("adaptive_max_pool2d", IMAGE, (2, 0))),
    Stricter("partial window alone, max", *both("max_pool2d", IMAGE, 8, 4, ceil_mode=True)),
    Stricter("partial window alone, mean", *both("avg_pool2d", IMAGE, 8, 4, ceil_mode=True)),
    Stricter("partial window alone, power", *both("lp_pool2d", IMAGE, 2, 8, 4, ceil_mode=True)),
    Stricter(
        "empty output of an empty batch",
        *both(
            "conv_transpose2d", numbers(0, 6, 5, 2), numbers(6, 3, 1, 1), padding=(0, 2), stride=3
        ),
    ),
    Stricter("linear without features", *both("linear", numbers(5, 0), numbers(4, 0))),
    Stricter("linear without outputs", *both("linear", ROWS, numbers(0, 3))),
    Stricter("linear with a bias of one", *both("linear", ROWS, MATRIX, numbers(1))),
    Stricter("linear with a scalar bias", *both("linear", ROWS, MATRIX, numbers())),
    Stricter("power of integers", *both("lp_pool2d", IMAGE.astype(np.int64), 2, 2), TypeError),
    Stricter("power of bool", *both("lp_pool2d", IMAGE > 0, 4, 2), TypeError),
    Stricter(
        "maximum of complex moduli",
        *both("lp_pool2d", IMAGE.astype(np.complex64), float("inf"), 2),
        TypeError,
    ),
    Stricter("norm NaN", *both("lp_pool2d", IMAGE, float("nan"), 2)),
)


def _tensor(array: Any, dtype: Any = torch.float32) -> Any:
    return torch.from_numpy(array).to(dtype)


def _padded_conv(pairs: tuple[int, ...], mode: str = "constant", **keywords: Any) -> Any:
    """Torch's convolution of a copy that torch pads; ``pairs`` from the last axis on."""
    padded = F.pad(_tensor(IMAGE), pairs, mode)
    return F.conv2d(padded, _tensor(KERNEL), **keywords)


WIDER = (
    Wider(
        "pairs", *both("conv2d", IMAGE, KERNEL, padding=[(0, 2), (3, 1)]),
        partial(_padded_conv, (3, 1, 0, 2)),
    ),
    Wider(
        "same_upper", *both("conv2d", IMAGE, KERNEL, padding="same_upper", stride=2),
        partial(_padded_conv, (1, 1, 0, 0), stride=2),
    ),
    Wider(
        "same_lower", *both("conv2d", IMAGE, KERNEL, padding="same_lower"),
        partial(_padded_conv, (1, 1, 1, 0)),
    ),
    *(
        Wider(
            mode, *both("conv2d", IMAGE, KERNEL, padding=2, padding_mode=mode),
            partial(_padded_conv, (2, 2, 2, 2), mode),
        )
        for mode in ("reflect", "replicate", "circular")
    ),
    Wider(
        "valid, transposed",
        *both("conv_transpose2d", IMAGE, numbers(3, 4, 2, 3), padding="valid"),
        lambda: F.conv_transpose2d(_tensor(IMAGE), _tensor(numbers(3, 4, 2, 3))),
    ),
    Wider(
        "mixed dtypes", *both("conv2d", IMAGE, KERNEL.astype(np.float64)),
        lambda: F.conv2d(_tensor(IMAGE, torch.float64), _tensor(KERNEL, torch.float64)),
    ),
    Wider(
        "mixed dtypes, linear", *both("linear", ROWS.astype(np.int8), MATRIX),
        lambda: F.linear(_tensor(ROWS), _tensor(MATRIX)),
    ),
    Wider(
        "bias of one neuron, linear", *both("linear", ROWS, numbers(3), numbers()),
        lambda: F.linear(_tensor(ROWS), _tensor(numbers(3))) + _tensor(numbers()),
    ),
    Wider(
        "int8 dilated", *both("conv2d", IMAGE.astype(np.int8), KERNEL.astype(np.int8), dilation=2),
        lambda: F.conv2d(_tensor(IMAGE, torch.int64), _tensor(KERNEL, torch.int64), dilation=2),
    ),
    Wider(
        "pairs, max", *both("max_pool2d", IMAGE, 4, padding=[(0, 1), (2, 0)]),
        lambda: F.max_pool2d(F.pad(_tensor(IMAGE), (2, 0, 0, 1), value=-np.inf), 4),
    ),
    Wider(
        "window above the input without padding, 3d",
        *both("avg_pool3d", numbers(1, 2, 2, 5, 5), (3, 2, 2), padding=(1, 0, 0)),
        lambda: F.avg_pool3d(F.pad(_tensor(numbers(1, 2, 2, 5, 5)), (0, 0, 0, 0, 1, 1)), (3, 2, 2)),
    ),
    Wider(
        "mean of int8", *both("avg_pool2d", IMAGE.astype(np.int8), 2),
        lambda: F.avg_pool2d(_tensor(IMAGE, torch.int64), 2),
    ),
    Wider(
        "mean of complex numbers", *both("avg_pool2d", IMAGE.astype(np.complex64), 2),
        lambda: F.avg_pool2d(_tensor(IMAGE), 2).to(torch.complex64),
    ),
    Wider(
        "sequence of one, power 1d", *both("lp_pool1d", IMAGE[0], 2, (2,)),
        lambda: F.lp_pool1d(_tensor(IMAGE[0]), 2, 2),
    ),
)  # fmt: skip
