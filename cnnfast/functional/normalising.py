"""Softmax, its logarithm and loss, and batch normalisation, in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._core.arguments import INDEX_LIMIT, integer, shown
from .._core.arrays import Array, Dtype, as_array
from .._core.dtypes import KINDS, Arithmetic, converted, kind_of, promote
from .._core.reals import real

FLOATS = ("float",)
REDUCTIONS = ("none", "mean", "sum")


def softmax(input: Any, dim: int | None = None, *, dtype: Any = None) -> Array:
    """``exp(input) / sum(exp(input))`` along axis ``dim``, computed without overflow, as
    ``torch.nn.functional.softmax``.

    Parameters
    ----------
    input : array of any shape and strides, float16, bfloat16, float32 or float64
    dim : int, optional
        The axis, counted from the end if negative; 0 or -1 for an array without axes. Without it
        torch's implicit choice: axis 0 of none, one or three axes, axis 1 of others.
    dtype : float16, bfloat16, float32 or float64, optional
        The input, which may hold integers then, is cast to it first.

    Returns
    -------
    array of the same shape, of the same dtype or ``dtype``, C-contiguous.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([0.0, 0.0, 1000.0]))
    array([0., 0., 1.])
    """
    x, arithmetic, axis = _prepared("softmax", input, dim, dtype)
    result = x.astype(arithmetic.computing(1), order="C")
    _softmax(result, axis)
    return converted(result, arithmetic.common)


def log_softmax(input: Any, dim: int | None = None, *, dtype: Any = None) -> Array:
    """``log(softmax(input, dim))``, computed without overflow or loss of digits, as
    ``torch.nn.functional.log_softmax``.

    Parameters
    ----------
    input : array of any shape and strides, float16, bfloat16, float32 or float64
    dim : int, optional
        The axis, counted from the end if negative; 0 or -1 for an array without axes. Without it
        torch's implicit choice: axis 0 of none, one or three axes, axis 1 of others.
    dtype : float16, bfloat16, float32 or float64, optional
        The input, which may hold integers then, is cast to it first.

    Returns
    -------
    array of the same shape, of the same dtype or ``dtype``, C-contiguous.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 0.0, 1000.0]))
    array([-1000., -1000.,     0.])
    """
    x, arithmetic, axis = _prepared("log_softmax", input, dim, dtype)
    result = x.astype(arithmetic.computing(1), order="C")
    _log_softmax(result, axis)
    return converted(result, arithmetic.common)


def _prepared(name: str, input: Any, dim: Any, dtype: Any) -> tuple[Array, Arithmetic, int]:
    """The input, cast to ``dtype`` if there is one, its arithmetic, and the axis."""
    x = as_array(f"{name}: input", input)
    promote(name, (x,), kinds=FLOATS if dtype is None else ("integer", "float"))
    axis = _axis(name, dim, x)
    if dtype is not None:
        x = converted(x, _float_dtype(name, dtype))
    return x, promote(name, (x,)), axis


def _float_dtype(name: str, dtype: Any) -> Dtype:
    try:
        wanted: Dtype = np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError):
        raise TypeError(f"{name}: dtype must be a dtype, got {shown(dtype)}") from None
    if kind_of(wanted) != "float":
        raise TypeError(f"{name}: dtype must be one of {', '.join(KINDS['float'])}, got {wanted}")
    return wanted


def _axis(name: str, dim: Any, x: Array) -> int:
    if dim is None:
        return 0 if x.ndim in (0, 1, 3) else 1
    axes = max(x.ndim, 1)
    axis = integer(f"{name}: dim", dim, -axes)
    if axis >= axes:
        raise ValueError(f"{name}: dim must be below the number of axes {axes}, got {dim}")
    return axis


@np.errstate(invalid="ignore", under="ignore")
def _softmax(x: Array, axis: int) -> None:
    powers = x.reshape(x.shape or (1,))
    if powers.size:
        powers -= powers.max(axis=axis, keepdims=True)
        np.exp(powers, out=powers)
        powers /= powers.sum(axis=axis, keepdims=True)


@np.errstate(invalid="ignore", under="ignore")
def _log_softmax(x: Array, axis: int) -> None:
    logs = x.reshape(x.shape or (1,))
    if logs.size:
        logs -= logs.max(axis=axis, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=axis, keepdims=True))


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Cross-entropy of the softmax of ``input`` and ``target``, as
    ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    input : (N, C), (C,) or (N, C, d1, ...) array, float16, bfloat16, float32 or float64
        Scores, before the softmax over the C classes.
    target : (N,), () or (N, d1, ...) array of integers, or floats in the shape of ``input``
        Class indices below C, or a probability for each class.
    weight : (C,) array of floats, optional
        Scales each class's part.
    size_average, reduce : None
        Here for torch's order of arguments, which deprecates them in favour of ``reduction``.
    ignore_index : int
        Index of targets that count for nothing; only with indices, negative with probabilities.
    reduction : "mean", "sum" or "none"
        The mean is over targets, each counted with its class's weight where they are indices, and
        NaN where there are none.
    label_smoothing : real number from 0 to 1
        This part of each target is spread evenly over the classes.

    Returns
    -------
    array without axes; with ``reduction="none"`` one of the shape of ``input`` without the axis of
    the classes. Its dtype is the promotion of those of input, weight and probabilities.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log(np.array([[0.25, 0.75], [0.5, 0.5]]))
    >>> cross_entropy(scores, np.array([1, 0]), reduction="none").round(4)
    array([0.2877, 0.6931])
    >>> cross_entropy(scores, np.array([[0.0, 1.0], [1.0, 0.0]])).round(4)
    np.float64(0.4904)
    """
    name = "cross_entropy"
    for which, value in (("size_average", size_average), ("reduce", reduce)):
        if value is not None:
            raise ValueError(f"{name}: {which} must be None, got {shown(value)}: use reduction")
    x, y = as_array(f"{name}: input", input), as_array(f"{name}: target", target)
    w = None if weight is None else as_array(f"{name}: weight", weight)
    indices = y.dtype.kind in "iu"
    if not indices and kind_of(y.dtype) != "float":
        raise TypeError(f"{name}: target must hold integers or floats, got dtype {y.dtype}")
    arithmetic = promote(name, (x, w) if indices else (x, w, y), kinds=FLOATS)
    ignored = integer(f"{name}: ignore_index", ignore_index, -INDEX_LIMIT)
    smoothing = real(f"{name}: label_smoothing", label_smoothing)
    _check_loss(x, y, w, indices, ignored, reduction, smoothing)
    dtype = arithmetic.computing(1)
    result = _loss(x.astype(dtype, order="C"), y, w, ignored, reduction, smoothing)
    return converted(result, arithmetic.common)


def _check_loss(
    x: Array, y: Array, w: Array | None, indices: bool, ignored: int, reduction: Any, smooth: float
) -> None:
    """Errors for shapes and values that ``cross_entropy`` doesn't take."""
    name = "cross_entropy"
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(
            f"{name}: reduction must be 'none', 'mean' or 'sum', got {shown(reduction)}"
        )
    if not 0 <= smooth <= 1:
        raise ValueError(f"{name}: label_smoothing must be from 0 to 1, got {smooth}")
    if not x.ndim:
        raise ValueError(f"{name}: input must have an axis of classes, got shape {x.shape}")
    axis = min(x.ndim - 1, 1)
    classes = x.shape[axis]
    if not classes:
        raise ValueError(f"{name}: input must have at least one class, got shape {x.shape}")
    if w is not None and w.shape != (classes,):
        raise ValueError(
            f"{name}: weight must have shape ({classes},), one value per class, got {w.shape}"
        )
    if not indices:
        if y.shape != x.shape:
            raise ValueError(
                f"{name}: a target of probabilities must have the input's shape {x.shape}, "
                f"got {y.shape}"
            )
        if ignored >= 0:
            raise ValueError(
                f"{name}: ignore_index must be negative for a target of probabilities, "
                f"got {ignored}"
            )
        return
    expected = x.shape[:axis] + x.shape[axis + 1 :]
    if y.shape != expected:
        raise ValueError(
            f"{name}: a target of class indices must have the input's shape without the classes "
            f"{expected}, got {y.shape} for an input of shape {x.shape}"
        )
    wrong = y[(y != ignored) & ((y < 0) | (y >= classes))]
    if wrong.size:
        raise ValueError(
            f"{name}: a target must be a class from 0 to {classes - 1} or ignore_index {ignored}, "
            f"got {wrong.flat[0]}"
        )


@np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore")
def _loss(
    logs: Array, y: Array, w: Array | None, ignored: int, reduction: str, smoothing: float
) -> Array:
    """The loss of scores ``logs``, which are changed; in their dtype."""
    axis = min(logs.ndim - 1, 1)
    _log_softmax(logs, axis)
    scale = None
    if w is not None:
        across = [1] * logs.ndim
        across[axis] = -1
        scale = w.astype(logs.dtype).reshape(across)
    if y.dtype.kind in "iu":
        loss = _index_loss(logs, y, scale, axis, ignored, reduction, smoothing)
    else:
        loss = _probability_loss(logs, y, scale, axis, reduction, smoothing)
    return np.asarray(loss, order="C")


def _index_loss(
    logs: Array,
    y: Array,
    scale: Array | None,
    axis: int,
    ignored: int,
    reduction: str,
    smoothing: float,
) -> Array:
    kept = y != ignored
    chosen = np.expand_dims(np.where(kept, y, 0).astype(np.intp), axis)
    parts = -np.take_along_axis(logs, chosen, axis).squeeze(axis)
    counts = np.ones(y.shape, logs.dtype)
    if scale is not None:
        counts = scale.reshape(-1)[chosen.squeeze(axis)]
        parts = parts * counts
        logs *= scale
    if smoothing:
        spread = -logs.sum(axis=axis)
        parts = (1 - smoothing) * parts + (smoothing / logs.shape[axis]) * spread
    parts = np.where(kept, parts, 0)
    if reduction == "none":
        return parts
    total: Array = parts.sum()
    if reduction == "sum":
        return total
    share = np.where(kept, counts, 0).sum()
    # Smoothing may leave a loss where no weight is: a mean of nothing all the same.
    return np.asarray(total / share if share else np.nan, total.dtype)


def _probability_loss(
    logs: Array, y: Array, scale: Array | None, axis: int, reduction: str, smoothing: float
) -> Array:
    shares = y.astype(logs.dtype)
    if smoothing:
        shares *= 1 - smoothing
        shares += smoothing / logs.shape[axis]
    logs *= shares
    if scale is not None:
        logs *= scale
    parts: Array = -logs.sum(axis=axis)
    if reduction == "none":
        return parts
    total: Array = parts.sum()
    return total if reduction == "sum" else total / logs.dtype.type(parts.size)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str | None = None,
) -> Array:
    """``(input - mean) / sqrt(var + eps) * weight + bias`` for each channel, as
    ``torch.nn.functional.batch_norm``.

    Parameters
    ----------
    input : (N, C) or (N, C, d1, ...) array, float16, bfloat16, float32 or float64
        With ``layout`` "NWC", "NHWC" or "NDHWC" the channels are the last axis.
    running_mean, running_var : (C,) arrays of floats
        The mean and variance, in inference. In training those of the batch serve, and these are
        moved towards them in place (the variance is the unbiased one there); both may be None.
    weight, bias : (C,) arrays of floats, optional
    training : bool
    momentum : real number
        Share of the batch in the running statistics.
    eps : real number
        Not negative; positive in training.

    Returns
    -------
    array of the input's shape and dtype, C-contiguous. Statistics are computed in float64. A batch
    of no images leaves the running statistics alone.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed or changed; among them an array
        without channels, and training on one value per channel.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 10.0], [3.0, 50.0]])
    >>> mean, var = np.zeros(2), np.ones(2)
    >>> batch_norm(x, mean, var, training=True).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> mean, var
    (array([0.2, 3. ]), array([ 1.1, 80.9]))
    """
    from .._core.statistics import BatchNorm

    norm = BatchNorm.of(
        input, running_mean, running_var, weight, bias, training, momentum, eps, layout
    )
    return norm.train() if norm.training else norm.infer()
