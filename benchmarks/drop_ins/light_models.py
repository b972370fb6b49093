"""The onnx package's light models, whose weights are one constant, with weights from a seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
    "squeezenet", "vgg19", "zfnet512",
)  # fmt: skip
#: What all of them take.
INPUT_SHAPE = (1, 3, 224, 224)


def load(name: str) -> Any:
    """The model as the package has it."""
    return onnx.load_model(str(FOLDER / f"light_{name}.onnx"))


def stored_output(name: str) -> Any:
    """What it gives, by the package, for inputs of ``stored_input``."""
    tensor = onnx.TensorProto()
    tensor.ParseFromString((FOLDER / f"light_{name}_output_0.pb").read_bytes())
    return numpy_helper.to_array(tensor)


def stored_input() -> Any:
    """What the package's own runner gives these models."""
    size = math.prod(INPUT_SHAPE)
    return (np.arange(size).reshape(INPUT_SHAPE) / size).astype(np.float32)


def seeded(name: str, seed: int = 0) -> Any:
    """The model with random weights of a scale that keeps activations finite, all constants; what
    its softmax reads is a second output, for a softmax of random numbers may hide all but one."""
    model = load(name)
    graph = model.graph
    given = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    shapes = {key: array.shape for key, array in given.items() if array.dtype.kind == "f"}
    filled = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    shapes |= {node.output[0]: tuple(map(int, given[node.input[0]])) for node in filled}
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    roles = _roles(nodes)
    rng = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array(_drawn(rng, shape, *roles[key]), key)
        for key, shape in shapes.items()
        if key in roles
    ]
    kept = [
        value for value in graph.initializer if value.name in roles and value.name not in shapes
    ]
    inputs = [value for value in graph.input if value.name not in given]
    for field, values in (("node", nodes), ("initializer", kept + weights), ("input", inputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    if nodes[-1].op_type == "Softmax":
        graph.output.append(onnx.helper.make_empty_tensor_value_info(nodes[-1].input[0]))
        graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    model.ir_version = 4  # from which on initializers needn't be inputs as well
    return model


def _roles(nodes: list[Any]) -> dict[str, tuple[str, int]]:
    """Name -> the operator that reads it, and as which of its inputs."""
    roles: dict[str, tuple[str, int]] = {}
    for node in reversed(nodes):
        for at, name in enumerate(node.input):
            # Unsqueezed parameters are for what reads those.
            through = node.op_type == "Unsqueeze"
            roles[name] = roles[node.output[0]] if through else (node.op_type, at)
    return roles


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], operator: str, at: int) -> Any:
    drawn = rng.standard_normal(shape, dtype=np.float32)
    if operator in ("Conv", "Gemm") and at == 1:
        return drawn * np.float32(math.sqrt(2 / math.prod(shape[1:])))
    if (operator, at) in (("BatchNormalization", 1), ("BatchNormalization", 4), ("Mul", 1)):
        return np.float32(0.7) + np.float32(0.2) * np.tanh(drawn)
    return drawn * np.float32(0.1)
