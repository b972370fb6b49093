"""Operators that a prepared model computes itself; the reference evaluator's do the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arrays import Array
from cnnfast._core.packed import pack_weight

from . import operators
from ._attributes import check_kernel_shape, window
from ._convolutions import CONVS
from ._elementwise import UNARY, activate, arithmetic, empty, joined, mapped
from ._folding import MODERN, infers, passes_on
from ._fusion import FOLDED_DTYPES, is_linear
from ._graph import Graph, Node
from ._resize import Resizing


@dataclass(frozen=True)
class Native:
    """``call(*inputs)`` gives the one result of a node; with ``takes_out`` also
    ``call(*inputs, out)``, which writes it there."""

    inputs: list[str]
    call: Callable[..., Any]
    takes_out: bool = False
    #: Whether the result is memory of its own, not a view of an input.
    owns: bool = True


#: What makes a node's Native, or None where the reference evaluator has to serve; the last argument
#: says whether a value's memory may be written to by its reader.
Maker = Callable[[Node, Graph, Callable[[str], bool]], Native | None]
MAKERS: dict[str, Maker] = {}


def native_of(node: Node, graph: Graph, spare: Callable[[str], bool]) -> Native | None:
    """How the node is computed here, if it is."""
    maker = MAKERS.get(str(node.kind))
    if maker is None or graph.opset < MODERN or any(node.outputs[1:]):
        return None
    return maker(node, graph, spare)


def _makes(*kinds: str) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        MAKERS.update(dict.fromkeys(kinds, maker))
        return maker

    return register


@_makes("Conv")
def _conv(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    weight = graph.constant(node.inputs[1])
    if weight is None or not 3 <= weight.ndim <= 5 or weight.dtype not in FOLDED_DTYPES:
        return None
    rank, known = weight.ndim - 2, dict(node.attributes)
    check_kernel_shape(node.label, known.pop("kernel_shape", None), weight)
    group = known.pop("group", 1)
    places = {name: known.pop(name, None) for name in ("auto_pad", "dilations", "pads", "strides")}
    if known:
        raise ValueError(f"{node.label}: Conv has no attributes {sorted(known)}")
    how = window(node.label, rank, **places)
    convolve, activation = CONVS[rank - 1], node.activation
    packed = pack_weight(weight, groups=group)
    bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
    bias = graph.constant(bias_name)
    if bias_name and bias is None:
        return Native(
            [node.inputs[0], bias_name],
            lambda x, b: convolve(x, packed, b, groups=group, activation=activation, **how),
        )
    stride, padding, dilation = how["stride"], how["padding"], how["dilation"]

    def call(x: Array, out: Array | None = None) -> Array:
        return convolve(
            x, packed, bias, stride, padding, dilation, group, activation=activation, out=out
        )

    return Native(node.inputs[:1], call, takes_out=True)


@_makes("ConvTranspose")
def _conv_transpose(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    weight = graph.constant(node.inputs[1])
    if weight is None or not 3 <= weight.ndim <= 5 or weight.dtype not in FOLDED_DTYPES:
        return None
    how = node.attributes | {"activation": node.activation}
    biased = len(node.inputs) > 2 and node.inputs[2]

    def call(x: Array, b: Array | None = None) -> Array:
        return operators.conv_transpose(x, weight, b, **how)

    return Native([node.inputs[0], *node.inputs[2:3]] if biased else node.inputs[:1], call)


@_makes("Affine")
def _affine(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native:
    """A factor and a summand per channel: a depthwise convolution of one tap."""
    factor, summand = (graph.constants[name] for name in node.inputs[1:])
    channels, activation = factor.size, node.activation
    weights = [factor.reshape(-1, 1, *[1] * rank) for rank in (1, 2, 3)]

    def call(x: Array, out: Array | None = None) -> Array:
        if x.dtype == factor.dtype and 3 <= x.ndim <= 5:
            rank = x.ndim - 2
            return CONVS[rank - 1](
                x, weights[rank - 1], summand, groups=channels, activation=activation, out=out
            )
        across = [1] * x.ndim
        across[1] = -1
        result = x * factor.reshape(across) + summand.reshape(across)
        return activate(activation, result).astype(x.dtype, copy=False)

    return Native(node.inputs[:1], call, takes_out=graph.ranks.get(node.inputs[0]) in (3, 4, 5))


@_makes("BatchNormalization")
def _batch_norm(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    if not infers(node, graph):
        return None
    eps = float(node.attributes.get("epsilon", 1e-5))

    def call(x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        return functional.batch_norm(x, mean, variance, scale, bias, eps=eps)

    return Native(node.inputs, call)


@_makes("Gemm", "MatMul")
def _linear(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    if not is_linear(node, graph):
        return None
    matrix, bias = graph.constants[node.inputs[1]], None
    if not node.attributes.get("transB"):
        matrix = matrix.T
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if alpha != 1:
        matrix = (matrix * np.float64(alpha)).astype(matrix.dtype)
    if any(node.inputs[2:]):
        given = graph.constants[node.inputs[2]] * np.float64(beta)
        bias = np.broadcast_to(given.reshape(-1), matrix.shape[:1]).astype(matrix.dtype)
    packed, activation = pack_weight(matrix), node.activation
    rank = 2 if node.kind == "Gemm" else None

    def call(x: Array) -> Array:
        if rank is not None and x.ndim != rank:
            raise ValueError(f"{node.label}: A must have two axes, got shape {x.shape}")
        return functional.linear(x, packed, bias, activation=activation)

    return Native(node.inputs[:1], call)


POOLS: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "MaxPool": (operators.max_pool, {"storage_order"}),
    "AveragePool": (operators.average_pool, {"count_include_pad"}),
    "GlobalAveragePool": (operators.global_average_pool, set()),
    "GlobalMaxPool": (operators.global_max_pool, set()),
}
WINDOW = {"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"}


@_makes(*POOLS)
def _pool(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    pool, more = POOLS[str(node.kind)]
    how = node.attributes
    if graph.ranks.get(node.inputs[0]) not in (3, 4, 5) or not set(how) <= WINDOW | more:
        return None
    return Native(node.inputs, lambda x: pool(x, **how))


@_makes("Add", "Sum", "Mul")
def _arithmetic(node: Node, graph: Graph, spare: Callable[[str], bool]) -> Native | None:
    """Two arrays of one dtype, in place of one that nobody else reads."""
    if len(node.inputs) != 2:
        return None
    free = tuple(spare(name) for name in node.inputs)
    function = np.multiply if node.kind == "Mul" else np.add
    call = arithmetic(function, node.activation, free, node.operator.run)
    return Native(node.inputs, call, takes_out=True)


@_makes(*UNARY)
def _unary(node: Node, graph: Graph, spare: Callable[[str], bool]) -> Native:
    free = spare(node.inputs[0])
    call = mapped(str(node.kind), node.attributes, free, node.operator.run)
    return Native(node.inputs, call, takes_out=True)


@_makes("Gelu")
def _gelu(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native:
    form = node.attributes.get("approximate", "none")
    return Native(node.inputs, lambda x: functional.gelu(x, form))


@_makes("Resize")
def _resize(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    if graph.opset < 11:
        return None
    given = [*node.inputs[2:], "", ""][:2]
    scales, sizes = (graph.constant(name) if name else None for name in given)
    if any(name and a is None for name, a in zip(given, (scales, sizes), strict=True)):
        return None
    empty_scales = scales is not None and not scales.size
    resizing = Resizing.of(node.attributes, None if empty_scales else scales, sizes)
    return None if resizing is None else Native(node.inputs[:1], resizing)


def _as_rows(x: Array, axis: int) -> Array:
    """A matrix: the axes before this one make its rows, and those from it on its columns."""
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"axis must be from {-x.ndim} to {x.ndim}, got {axis}")
    first = axis if axis >= 0 else x.ndim + axis
    return x.reshape(math.prod(x.shape[:first]), math.prod(x.shape[first:]))


@_makes("Softmax")
def _softmax(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native:
    flat = graph.opset < 13
    axis = node.attributes.get("axis", 1 if flat else -1)

    def call(x: Array) -> Array:
        if not flat:
            return functional.softmax(x, axis)
        # All axes from this one on are summed together.
        return functional.softmax(_as_rows(x, axis), 1).reshape(x.shape)

    return Native(node.inputs, call)


@_makes("LRN")
def _local_response(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native:
    size, beta = node.attributes["size"], node.attributes.get("beta", 0.75)
    alpha, bias = node.attributes.get("alpha", 1e-4), node.attributes.get("bias", 1.0)
    before = (size - 1) // 2

    def call(x: Array) -> Array:
        if x.ndim < 3 or x.dtype.kind != "f" or 0 in x.shape[1:]:
            raise ValueError(
                f"{node.label}: X must hold floats and have spatial axes, got {x.dtype} of shape "
                f"{x.shape}"
            )
        if x.dtype not in FOLDED_DTYPES:
            return call(x.astype(np.float32)).astype(x.dtype)
        planes = x.reshape(x.shape[0], 1, x.shape[1], math.prod(x.shape[2:]))
        squares = np.multiply(planes, planes, out=empty(planes.shape, x.dtype))
        # A window that slides over the channels is a convolution with one tap beside the other.
        taps = np.full((1, 1, size, 1), alpha / size, x.dtype)
        pads = ((before, size - 1 - before), (0, 0))
        sums = functional.conv2d(squares, taps, np.full(1, bias, x.dtype), 1, pads)
        if beta == 0.75:
            np.sqrt(sums, out=sums)
            np.sqrt(sums, out=squares)
            np.multiply(sums, squares, out=sums)
        else:
            np.power(sums, x.dtype.type(beta), out=sums)
        return np.divide(planes, sums, out=sums).reshape(x.shape)

    return Native(node.inputs, call)


@_makes("Concat")
def _concat(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    axis = node.attributes.get("axis", 1)
    ranks = {graph.ranks.get(name) for name in node.inputs}
    if len(ranks) != 1 or None in ranks:
        return None

    def call(*parts: Array, out: Array | None = None) -> Array:
        if out is None:
            result: Array = node.operator.run(*parts)[0]
            return result
        return joined(parts, axis % out.ndim, out)

    return Native(node.inputs, call, takes_out=True)


@_makes("Reshape")
def _reshape(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    shape = graph.constant(node.inputs[1]) if len(node.inputs) == 2 else None
    if shape is None:
        return None
    wanted, keep = [int(extent) for extent in shape], not node.attributes.get("allowzero")

    def call(x: Array) -> Array:
        if keep and 0 in wanted:
            if 0 in wanted[x.ndim :]:
                raise ValueError(
                    f"Reshape: a 0 keeps an axis that the input has, got {wanted} for shape "
                    f"{x.shape}"
                )
            return x.reshape([n if n else x.shape[i] for i, n in enumerate(wanted)])
        return x.reshape(wanted)

    return Native(node.inputs[:1], call, owns=False)


@_makes("Flatten")
def _flatten(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native:
    axis = node.attributes.get("axis", 1)
    return Native(node.inputs, lambda x: _as_rows(x, axis), owns=False)


@_makes("Transpose")
def _transpose(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native:
    order = node.attributes.get("perm")
    return Native(node.inputs, lambda x: x.transpose(order), owns=False)


@_makes("Identity", "Dropout")
def _same(node: Node, graph: Graph, _: Callable[[str], bool]) -> Native | None:
    if not passes_on(node, graph):
        return None
    return Native(node.inputs[:1], lambda x: x, owns=False)
