"""Col2Im."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast._core.arrays import Array
from cnnfast.functional.unfolding import fold_named

from ._attributes import MOST_AXES, extents, window


def col2im(
    x: Any,
    image_shape: Any,
    block_shape: Any,
    *,
    dilations: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Array:
    """ONNX's Col2Im: images as sums of windows, which are columns.

    Parameters
    ----------
    x : (N, C * taps, windows) array, of the dtypes that ``cnnfast.fold`` takes
    image_shape, block_shape : one to three integers
        The spatial shapes of the images and of a window.
    dilations, pads, strides
        The operator's attributes, as for ``conv``.

    Returns
    -------
    (N, C, ...) array of the dtype of ``x``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> col2im(np.array([[[1, 2, 3], [10, 20, 30]]]), [4], [2])
    array([[[ 1, 12, 23, 30]]])
    """
    name = "Col2Im"
    if np.ndim(x) != 3 or np.ndim(image_shape) != 1 or not 1 <= len(image_shape) <= MOST_AXES:
        raise ValueError(
            f"{name}: the input must have three axes and image_shape one to {MOST_AXES} integers, "
            f"got shape {np.shape(x)} and {image_shape!r}"
        )
    rank = len(image_shape)
    sizes = extents(name, "image_shape", image_shape, rank)
    taps = extents(name, "block_shape", block_shape, rank)
    return fold_named(
        name, x, sizes, taps, **window(name, rank, None, dilations, pads, strides), rank=rank
    )
