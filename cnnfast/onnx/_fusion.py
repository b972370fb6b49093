"""Nodes that become one: what follows a convolution goes into its weights and its last store."""

from __future__ import annotations

import math

import numpy as np

from cnnfast._core.arrays import Array

from ._folding import (
    MODERN,
    affine_of_arithmetic,
    affine_of_norm,
    drop_identities,
    find_ranks,
    fold_constants,
    frozen,
    scaled,
)
from ._graph import Graph, Node

#: Whose weights take an affine map of the results.
ABSORBING = ("Conv", "ConvTranspose", "Affine")
#: Whose results an activation can follow in one step.
ACTIVATED = (*ABSORBING, "Gemm", "MatMul", "Add", "Sum")
#: dtypes in which factors and weights are multiplied beforehand: narrower ones would round twice.
FOLDED_DTYPES = (np.float32, np.float64)


def simplify(graph: Graph) -> None:
    """All passes, in order."""
    graph.drop_unread()
    fold_constants(graph)
    drop_identities(graph)
    find_ranks(graph)
    _norms_to_affine(graph)
    _fuse(graph)
    graph.drop_unread()


def _norms_to_affine(graph: Graph) -> None:
    """BatchNormalization with constant parameters becomes a factor and a summand per channel."""
    for node in graph.nodes:
        affine = affine_of_norm(node, graph)
        scale = graph.constant(node.inputs[1]) if affine is not None else None
        if affine is None or scale is None or scale.dtype not in FOLDED_DTYPES:
            continue
        node.kind, node.attributes = "Affine", {}
        _set_weights(node, graph, *(a.astype(scale.dtype) for a in affine))


def _set_weights(node: Node, graph: Graph, weight: Array, bias: Array) -> None:
    names = [f"{node.outputs[0]} (prepared {what})" for what in ("weight", "bias")]
    graph.constants.update(zip(names, map(frozen, (weight, bias)), strict=True))
    node.inputs = [node.inputs[0], *names]


def _fuse(graph: Graph) -> None:
    readers = graph.sole_readers()
    gone: set[Node] = set()
    for node in graph.nodes:
        while node not in gone and node.activation is None and node.kind in ACTIVATED:
            reader = readers.get(node.outputs[0])
            if reader is None or not _takes_over(node, reader, graph):
                break
            node.outputs = list(reader.outputs)
            node.absorbed += [str(reader.operator.op_type), *reader.absorbed]
            gone.add(reader)
    graph.nodes = [node for node in graph.nodes if node not in gone]


def _takes_over(node: Node, reader: Node, graph: Graph) -> bool:
    """Have ``node`` compute what ``reader`` makes of its result, if it can."""
    if node.kind in ABSORBING:
        weight, bias = _weights(node, graph)
        if weight is None:
            return False
        affine = _affine(reader, graph, node.outputs[0], weight, str(node.kind))
        if affine is not None:
            changed = scaled(node.kind, weight, bias, affine)
            # Where the two overflow together, they may not one after the other.
            if not all(np.isfinite(a).all() for a in changed):
                return False
            _set_weights(node, graph, *changed)
            return True
    name = activation_of(reader, graph)
    if name is None or reader.inputs[0] != node.outputs[0]:
        return False
    if node.kind in ("Gemm", "MatMul") and not is_linear(node, graph):
        return False
    if node.kind in ("Add", "Sum") and len(node.inputs) != 2:
        return False
    node.activation = name
    return True


def _weights(node: Node, graph: Graph) -> tuple[Array | None, Array | None]:
    """Weight and bias, where they are constants that a factor may be multiplied into."""
    given = [graph.constant(name) for name in node.inputs[1:3]]
    weight, bias = [*given, None, None][:2]
    if any(a is None for a, name in zip(given, node.inputs[1:3], strict=True) if name):
        return None, None
    if weight is None or weight.dtype not in FOLDED_DTYPES:
        return None, None
    if node.kind != "Affine" and not 3 <= weight.ndim <= 5:
        return None, None
    if node.kind == "ConvTranspose" and node.attributes.get("group", 1) != 1:
        return None, None
    return weight, bias


def _affine(
    reader: Node, graph: Graph, value: str, weight: Array, kind: str
) -> tuple[Array, Array] | None:
    """What ``reader`` does to the result ``value`` of a node with this weight, if it is an affine
    map of its channels."""
    channels = weight.shape[1 if kind == "ConvTranspose" else 0]
    if reader.kind != "Affine":
        return affine_of_arithmetic(reader, graph, value, channels)
    factor, summand = (graph.constant(name) for name in reader.inputs[1:])
    if reader.inputs[0] != value or factor is None or factor.shape != (channels,):
        return None
    assert summand is not None
    return factor.astype(np.float64), summand.astype(np.float64)


def is_linear(node: Node, graph: Graph) -> bool:
    """Whether a Gemm or MatMul is a fully connected layer with constant weights."""
    if graph.opset < MODERN or len(node.inputs) < 2:
        return False
    matrix = graph.constant(node.inputs[1])
    if matrix is None or matrix.ndim != 2 or matrix.dtype not in FOLDED_DTYPES or not matrix.size:
        return False
    if node.kind == "MatMul":
        return True
    if node.attributes.get("transA"):
        return False
    if not any(node.inputs[2:]):
        return True
    bias = graph.constant(node.inputs[2])
    outputs = matrix.shape[0 if node.attributes.get("transB") else 1]
    rows = ((), (1,), (outputs,), (1, 1), (1, outputs))
    return bias is not None and bias.dtype == matrix.dtype and bias.shape in rows


def activation_of(node: Node, graph: Graph) -> str | None:
    """The name of the activation in the kernels' last store that is this node, if there is one."""
    if graph.opset < MODERN:
        return None
    if node.kind == "Relu":
        return "relu"
    if node.kind != "Clip":
        return None
    bounds = _clip_bounds(node, graph)
    return {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}.get(bounds) if bounds else None


def _clip_bounds(node: Node, graph: Graph) -> tuple[float, float] | None:
    """The constant bounds of a Clip of floats, infinite where there are none."""
    if len(node.inputs) == 1:
        least = node.attributes.get("min", -math.inf)
        most = node.attributes.get("max", math.inf)
        return float(least), math.inf if most >= np.finfo(np.float32).max else float(most)
    bounds = [-math.inf, math.inf]
    for at, name in enumerate(node.inputs[1:3]):
        if name:
            constant = graph.constant(name)
            if constant is None or constant.size != 1 or constant.dtype not in FOLDED_DTYPES:
                return None
            bounds[at] = float(constant.reshape(-1)[0])
    return bounds[0], bounds[1]
