"""A whole network over a dask array, a block of its outputs at a time."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from cnnfast._core.arguments import shown
from cnnfast._core.arrays import Array
from cnnfast.analysis import receptive_field
from cnnfast.layers import Layer

from .blocks import Span, blockwise, edges_of, fields_of, whole
from .calls import dask_array

#: Their padding at a cut could not be told from what the image has there.
REFUSED_PADDING = ("reflect", "circular")


def slide(model: Layer, image: Any) -> Any:
    """What ``model`` gives for the whole of a dask array, block after block.

    Every block of the result is a pass over what lies in its receptive fields, padding that layers
    do at the image's borders included, and none of what they would do at a cut.

    Parameters
    ----------
    model : Layer
        In evaluation mode, made of layers that take any extents: convolutions, pools,
        normalisations, activations; ``transform.to_fully_convolutional`` makes it of a classifier.
    image : dask array, (N, C, H, W) or the model's other layout
        Chunked in any way; its channels become one chunk.

    Returns
    -------
    dask array
        Chunked where the image is: an output belongs to the chunk that the middle of its receptive
        field lies in. Its channels are one chunk.

    Raises
    ------
    ValueError, TypeError
        For a model in training, and for layers whose outputs have no fixed field that moves with
        them: dense ones, adaptive pools, transposed convolutions, padding by reflection.

    Examples
    --------
    >>> import dask.array as da
    >>> from cnnfast.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
    >>> from cnnfast.transform import to_fully_convolutional
    >>> net = Sequential(Conv2d(1, 4, 5), ReLU(), MaxPool2d(2), Flatten(), Linear(4 * 36, 3))
    >>> sliding = to_fully_convolutional(net.eval(), (1, 1, 16, 16))
    >>> image = da.zeros((1, 1, 400, 300), chunks=(1, 1, 128, 128), dtype="float32")
    >>> scores = slide(sliding, image)
    >>> scores.shape
    (1, 3, 193, 143)
    >>> scores.chunks[2:]
    ((60, 64, 64, 5), (60, 64, 19))
    """
    if not isinstance(model, Layer):
        raise TypeError(f"slide: model must be a layer, got {type(model).__qualname__}")
    if any(layer.training for _, layer in model.walk()):
        raise ValueError("slide: the model must be in evaluation mode: model.eval() sets it")
    x = dask_array("slide", "image", image)
    _check_padding(model)
    letters = _letters(model, x)
    channels = letters.index("C")
    spatial = [axis for axis, letter in enumerate(letters) if letter not in "NC"]
    x = x.rechunk({channels: -1})
    shape = tuple(map(int, x.shape))
    spans = _spans(model, x.chunks, shape, spatial)
    sample = [0 if axis == 0 else extent for axis, extent in enumerate(shape)]
    for axis in spatial:
        sample[axis] = spans[axis][0].stop - spans[axis][0].start
    found = model(np.empty(sample, x.dtype))  # prepares the weights as well, once
    counts = [tuple(span.kept for span in axis) for axis in spans]
    counts[channels] = (found.shape[channels],)
    return blockwise(
        "slide", x, spans, _Pass(model), (), spatial=spatial, pads=False,
        out_chunks=tuple(counts), dtype=found.dtype,
    )  # fmt: skip


def _spans(
    model: Layer, chunks: Any, shape: tuple[int, ...], spatial: list[int]
) -> list[list[Span]]:
    """Blocks of every axis, with the network's receptive field as the halo."""
    outputs = model.output_shape(shape)
    fields = receptive_field(model, shape)
    if len(outputs) != len(shape) or len(fields[""]) != len(spatial):
        raise ValueError(
            f"slide: the model must give a map, got shape {tuple(outputs)} for {shape}; "
            "transform.to_fully_convolutional turns dense layers into convolutions"
        )
    spans: list[list[Span]] = [whole(axis) for axis in chunks]
    for axis, field in zip(spatial, fields[""], strict=True):
        if len(field.windows) != 1 or not field.step:
            raise ValueError(
                "slide: every output's receptive field must be the one before it moved on by a "
                f"whole number of pixels, got a stride of {shown(field.stride)}"
            )
        edges = edges_of(chunks[axis])
        spans[axis] = fields_of(edges, outputs[axis], field.size, field.step, field.offset)
    _check_cuts(model, shape, spatial, spans, fields)
    return spans


class _Pass:
    """The model as a function that dask names by its layers and their arrays."""

    def __init__(self, model: Layer) -> None:
        # A copy: the caller may train on before anything is computed.
        self.model = copy.deepcopy(model)

    def __call__(self, x: Array) -> Array:
        result: Array = self.model(x)
        return result

    def __dask_tokenize__(self) -> Any:
        return repr(self.model), {
            name: array.copy() for name, array in self.model.state_dict().items()
        }


def _letters(model: Layer, x: Any) -> str:
    """What the image's axes are, as the first layer with windows says."""
    if x.ndim not in (3, 4, 5):
        raise ValueError(f"slide: image must have a batch, channels and space, got shape {x.shape}")
    geometries = (layer.geometry(tuple(map(int, x.shape))) for _, layer in model.walk())
    found = next((geometry for geometry in geometries if geometry is not None), None)
    return "NCDHW"[: x.ndim] if found is None else found.input.layout


def _check_padding(model: Layer) -> None:
    for path, layer in model.walk():
        mode = getattr(layer, "padding_mode", None)
        if mode in REFUSED_PADDING:
            raise ValueError(f"slide: layer {path!r} must not have padding_mode {mode!r}")


def _check_cuts(
    model: Layer, shape: tuple[int, ...], spatial: list[int], spans: list[list[Span]], fields: Any
) -> None:
    """ValueError where a part's windows would lie otherwise than the whole image's, as those of
    named paddings can.
    """
    for axis in spatial:
        for extent in {span.stop - span.start for span in spans[axis]}:
            part = (*shape[:axis], extent, *shape[axis + 1 :])
            if receptive_field(model, part) != fields:
                raise ValueError(
                    f"slide: padding must not depend on the image's extent, but it differs for "
                    f"{part} and {shape}"
                )
