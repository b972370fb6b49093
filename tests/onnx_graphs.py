"""Small ONNX graphs, and their results beside onnxruntime's: for the tests of whole models."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnxruntime as runtime
from onnx import TensorProto, helper, numpy_helper

from cnnfast.onnx import Session

#: Of the largest value of a result: float32, and sums in another order.
TOLERANCE = 1e-5
SHAPE = (2, 4, 9, 8)


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def positive(*shape: int) -> Any:
    return np.abs(drawn(*shape)) + np.float32(0.5)


def model_of(
    nodes: list[Any],
    outputs: list[str],
    constants: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    opset: int = 17,
    **more: Any,
) -> Any:
    """A model whose inputs have these shapes; ``x`` of ``SHAPE`` if nothing is said."""
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (inputs or {"x": SHAPE}).items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    weights = [numpy_helper.from_array(np.asarray(a), key) for key, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", given, results, weights)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **more)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node; names in one string, "_" for one that is left out."""
    names = [name.replace("_", "") for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), name=f"to {outputs}", **attributes)


def feeds_of(model: Any) -> dict[str, Any]:
    known = {value.name for value in model.graph.initializer}
    return {
        value.name: drawn(*[dim.dim_value for dim in value.type.tensor_type.shape.dim], seed=7)
        for value in model.graph.input
        if value.name not in known
    }


def steps_of(model: Any, feeds: Any = None) -> list[str]:
    """The operators of each step, without the nodes' names."""
    times = Session(model).profile(feeds or feeds_of(model))
    return [re.sub(" '[^']*'", "", time.step) for time in times]


def assert_like_runtime(model: Any, feeds: Any = None) -> list[Any]:
    """Run twice, for then results go where they are wanted, and compare with onnxruntime."""
    feeds = feeds or feeds_of(model)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    peer = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    session = Session(model)
    kept = {name: array.copy() for name, array in feeds.items()}
    for _ in range(2):
        results = session.run(feeds)
        for ours, theirs in zip(results, peer.run(None, feeds), strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape
            bound = TOLERANCE * max(np.abs(theirs).max(initial=0), 1e-30)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)
    for name, array in kept.items():
        np.testing.assert_array_equal(feeds[name], array)
    return results
