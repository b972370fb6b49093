"""Models of one node, what runs them, and seeded arguments: for the tests of ONNX's operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from cnnfast.onnx import ops


def model_of(
    op_type: str, inputs: list[Any], opset: int, outputs: int, attributes: dict[str, Any]
) -> Any:
    """A model of one node; an input of None is left out."""
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, results, **attributes)
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, inputs, strict=True)
        if array is not None
    ]
    graph = helper.make_graph(
        [node], "one", given, [helper.make_empty_tensor_value_info(name) for name in results]
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def feeds_of(inputs: list[Any]) -> dict[str, Any]:
    return {f"x{i}": array for i, array in enumerate(inputs) if array is not None}


def evaluated(
    op_type: str, *inputs: Any, opset: int = 22, outputs: int = 1, new_ops: Any = ops,
    **attributes: Any,
) -> list[Any]:  # fmt: skip
    """What the reference evaluator gives for a model of one node."""
    model = model_of(op_type, list(inputs), opset, outputs, attributes)
    results: list[Any] = ReferenceEvaluator(model, new_ops=new_ops).run(
        None, feeds_of(list(inputs))
    )
    return results


def by_onnxruntime(
    op_type: str, *inputs: Any, opset: int = 22, outputs: int = 1, **attributes: Any
) -> list[Any]:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed")
    runtime.set_default_logger_severity(4)
    model = onnx.shape_inference.infer_shapes(
        model_of(op_type, list(inputs), opset, outputs, attributes)
    )
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    results: list[Any] = session.run(None, feeds_of(list(inputs)))
    return results


class Draw:
    """Seeded arguments; the same for an operator and its peer."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.rank = self.int(1, 3)

    def int(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def ints(self, low: int, high: int) -> list[int]:
        return [self.int(low, high) for _ in range(self.rank)]

    def array(self, *shape: int, dtype: Any = np.float32) -> Any:
        if np.dtype(dtype).kind in "iu":
            limits = np.iinfo(dtype)
            return self.random.integers(limits.min, limits.max + 1, shape, dtype)
        return self.random.standard_normal(shape).astype(dtype)

    def image(self, channels: int, dtype: Any = np.float32) -> Any:
        return self.array(self.int(1, 2), channels, *self.ints(5, 8), dtype=dtype)

    def window(self) -> tuple[list[int], dict[str, Any]]:
        """A kernel and attributes. onnxruntime doesn't dilate under an ``auto_pad``, and doesn't do
        as ONNX says where the stride passes the kernel there."""
        kernel, auto = self.ints(1, 3), self.int(0, 4)
        attributes: dict[str, Any] = {"strides": self.ints(1, 3), "dilations": self.ints(1, 2)}
        if auto < 2:
            attributes["pads"] = [self.int(0, k - 1) for k in kernel * 2]
        else:
            attributes["auto_pad"] = ["VALID", "SAME_UPPER", "SAME_LOWER"][auto - 2]
            attributes["dilations"] = [1] * self.rank
            kernel = [max(*pair) for pair in zip(kernel, attributes["strides"], strict=True)]
        return kernel, attributes
