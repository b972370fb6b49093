"""Arrays, chunks and networks that the tests of ``cnnfast.dask`` share; sums are exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

Array = np.ndarray[Any, Any]


def cuts(rng: np.random.Generator, extent: int) -> tuple[int, ...]:
    """Chunks of one to nine elements."""
    found = []
    while extent:
        found.append(int(rng.integers(1, min(extent, 9) + 1)))
        extent -= found[-1]
    return tuple(found) or (0,)


def whole_numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Small integers, of which sums of products are exact in any order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def chunked(rng: np.random.Generator, x: Array) -> Any:
    import dask.array as da

    return da.from_array(x, chunks=tuple(cuts(rng, extent) for extent in x.shape))


def same(expected: Any, lazy: Any, scheduler: str = "synchronous") -> None:
    if isinstance(expected, type) or isinstance(lazy, type):
        assert expected is lazy
        return
    result = lazy.compute(scheduler=scheduler)
    assert result.dtype == expected.dtype == lazy.dtype
    assert result.shape == expected.shape == lazy.shape
    np.testing.assert_array_equal(result, expected)


def network(*, padding: int = 0, layout: str | None = None) -> Sequential:
    """With whole numbers for weights: its sums are exact in any order."""
    net = Sequential(
        Conv2d(2, 4, 3, padding=padding, layout=layout, rng=0), ReLU(),
        MaxPool2d(2, layout=layout),
        Conv2d(4, 3, 3, stride=2, padding=padding, layout=layout, rng=1),
        Flatten(), Linear(3 * 3 * 3 if padding == 0 else 3 * 4 * 4, 5, rng=2),
    )  # fmt: skip
    rng = np.random.default_rng(1)
    for array in net.params.values():
        array[...] = rng.integers(-2, 3, array.shape)
    return net.eval()
