"""What is computed when a model is prepared: constants, and affine maps into weights."""

from __future__ import annotations

import math

import numpy as np

from cnnfast._core.arrays import Array

from ._graph import Graph, Node

#: Operators that give other values each time.
RANDOM = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Dropout",
}  # fmt: skip
#: Whose results have as many axes as their first input.
SAME_RANK = {
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool",
    "GlobalMaxPool", "GlobalLpPool", "BatchNormalization", "InstanceNormalization", "LRN", "Relu",
    "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Dropout", "Identity", "Softmax", "LogSoftmax",
    "Concat", "Transpose", "Pad", "Resize", "Gelu", "Erf", "Softplus", "Elu", "Selu", "PRelu",
    "HardSigmoid", "HardSwish",
}  # fmt: skip
#: Whose results have as many axes as the input with the most.
BROADCAST = {"Add", "Sub", "Mul", "Div", "Sum", "Min", "Max", "Mean"}
#: From this opset on operators broadcast as NumPy does, and tell inference from training.
MODERN = 7


def fold_constants(graph: Graph) -> None:
    """Compute nodes whose inputs are all constants. One that fails is left to fail when it runs."""
    left = []
    for node in graph.nodes:
        known = all(not name or name in graph.constants for name in node.inputs)
        if not known or node.captured or node.kind is None or node.kind in RANDOM | {"If", "Loop"}:
            left.append(node)
            continue
        try:
            results = node.operator.run(*map(graph.constant, node.inputs))
        except Exception:  # whatever the onnx package's operator raises: then it runs, and says so
            left.append(node)
            continue
        if all(isinstance(result, np.ndarray) for result in results):
            named = zip(node.outputs, map(frozen, results), strict=False)
            graph.constants.update((name, result) for name, result in named if name)
        else:
            left.append(node)
    graph.nodes = left


def frozen(array: Array) -> Array:
    """The array, read-only: a constant is shared by all runs."""
    array = array.view()
    array.flags.writeable = False
    return array


def find_ranks(graph: Graph) -> None:
    """Add to ``graph.ranks`` what follows from constants and operators."""
    ranks = graph.ranks
    ranks.update({name: array.ndim for name, array in graph.constants.items()})
    for node in graph.nodes:
        known = [ranks.get(name) for name in node.inputs]
        first = known[0] if known else None
        if node.kind in SAME_RANK and first is not None:
            ranks[node.outputs[0]] = first
        elif node.kind in BROADCAST and graph.opset >= MODERN and None not in known:
            ranks[node.outputs[0]] = max(rank for rank in known if rank is not None)
        elif node.kind in ("Conv", "ConvTranspose") and len(known) > 1 and known[1] is not None:
            ranks[node.outputs[0]] = known[1]
        elif node.kind in ("Flatten", "Gemm"):
            ranks[node.outputs[0]] = 2
        elif node.kind == "Reshape" and (shape := graph.constant(node.inputs[-1])) is not None:
            ranks[node.outputs[0]] = shape.size


def drop_identities(graph: Graph) -> None:
    """Take out Identity and inference's Dropout: their readers read what they read."""
    pinned = graph.pinned()
    names: dict[str, str] = {}
    left = []
    for node in graph.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        if passes_on(node, graph) and node.outputs[0] not in pinned:
            names[node.outputs[0]] = node.inputs[0]
        else:
            left.append(node)
    graph.nodes = left


def passes_on(node: Node, graph: Graph) -> bool:
    """Whether the node's one result that is read is its first input."""
    if node.kind == "Identity":
        return True
    if node.kind != "Dropout" or graph.opset < MODERN:
        return False
    training = node.inputs[2] if len(node.inputs) > 2 else ""
    switch = graph.constant(training)
    inference = not training or (switch is not None and not switch.any())
    return inference and not any(graph.reads()[mask] for mask in node.outputs[1:])


def infers(node: Node, graph: Graph) -> bool:
    """Whether the node is a BatchNormalization in inference, with statistics for each channel."""
    if node.kind != "BatchNormalization" or graph.opset < MODERN or len(node.inputs) != 5:
        return False
    how = node.attributes
    return not how.get("training_mode") and bool(how.get("spatial", 1)) and len(node.outputs) == 1


def affine_of_norm(node: Node, graph: Graph) -> tuple[Array, Array] | None:
    """Factor and summand per channel, in float64, of a BatchNormalization in inference whose
    parameters are constants."""
    if not infers(node, graph):
        return None
    parameters = [graph.constant(name) for name in node.inputs[1:]]
    given = [a.astype(np.float64) for a in parameters if a is not None and a.ndim == 1]
    if len(given) < 4 or len({a.size for a in given}) > 1:
        return None
    scale, shift, mean, variance = given
    spread = variance + node.attributes.get("epsilon", 1e-5)
    if not (spread > 0).all():
        return None
    factor = scale / np.sqrt(spread)
    return factor, shift - mean * factor


def affine_of_arithmetic(
    node: Node, graph: Graph, value: str, channels: int
) -> tuple[Array, Array] | None:
    """The same of an Add, Sub, Mul or Div of ``value`` and a constant that has one number, or one
    for each channel."""
    rank = graph.ranks.get(value)
    if graph.opset < MODERN or rank is None or len(node.inputs) != 2 or node.kind not in BROADCAST:
        return None
    other = node.inputs[1] if node.inputs[0] == value else node.inputs[0]
    constant = graph.constant(other)
    if constant is None or constant.dtype.kind != "f":
        return None
    numbers = _per_channel(constant.astype(np.float64), rank, channels)
    if numbers is None:
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    second = node.inputs[1] == other
    if node.kind in ("Add", "Sum"):
        return one, numbers
    if node.kind == "Mul":
        return numbers, zero
    if node.kind == "Sub":
        return (one, -numbers) if second else (-one, numbers)
    if node.kind == "Div" and second and numbers.all():
        return 1 / numbers, zero
    return None


def _per_channel(constant: Array, rank: int, channels: int) -> Array | None:
    """The constant as one number for each channel of an array of ``rank`` axes, the second being
    the channels'; None if it broadcasts in another way."""
    if constant.ndim > rank:
        return None
    shape = (1,) * (rank - constant.ndim) + constant.shape
    others = [extent for axis, extent in enumerate(shape) if axis != 1]
    if rank < 2 or math.prod(others) != 1 or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(constant.reshape(-1), channels).copy()


def scaled(
    kind: str | None, weight: Array, bias: Array | None, affine: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Weight and bias of a Conv, of a ConvTranspose of one group or of an Affine, whose weight is a
    factor for each channel, with an affine map of the channels behind it."""
    factor, summand = affine
    before = 0 if bias is None else bias.astype(np.float64)
    across = [1] * weight.ndim
    across[1 if kind == "ConvTranspose" else 0] = -1
    with np.errstate(over="ignore", invalid="ignore"):
        product = (weight.astype(np.float64) * factor.reshape(across)).astype(weight.dtype)
        return product, (before * factor + summand).astype(weight.dtype)
