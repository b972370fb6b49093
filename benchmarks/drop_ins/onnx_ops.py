"""ONNX's reference evaluator with ``cnnfast.onnx.ops``, without them, and onnxruntime: models of
one node, float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cnnfast.benchmarks import machine
from cnnfast.benchmarks.drop_ins.row import DropInRow
from cnnfast.benchmarks.timing import measure

PLAIN, RUNTIME = "onnx.reference", "onnxruntime"


class Case(NamedTuple):
    """A node, its input's and its weight's shape, and how many times the plain evaluator's speed is
    asked."""

    name: str
    op_type: str
    x: tuple[int, ...]
    w: tuple[int, ...] | None
    attributes: dict[str, Any]
    asked: float | None = None


IMAGE, HALVES = (1, 64, 112, 112), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
CASES = (
    Case("MaxPool 3x3/2, 1x64x112x112", "MaxPool", IMAGE, None, HALVES, 100),
    Case("AveragePool 3x3/2, 1x64x112x112", "AveragePool", IMAGE, None, HALVES, 100),
    Case(
        "ConvTranspose 32->32, 4x4/2, 56x56", "ConvTranspose", (1, 32, 56, 56), (32, 32, 4, 4),
        {"strides": [2, 2], "pads": [1] * 4}, 100,
    ),
    Case(
        "Conv 64->64, 3x3, 56x56", "Conv", (1, 64, 56, 56), (64, 64, 3, 3), {"pads": [1] * 4}, 10
    ),
    Case(
        "Conv 128 depthwise, 3x3, 56x56", "Conv", (1, 128, 56, 56), (128, 1, 3, 3),
        {"pads": [1] * 4, "group": 128},
    ),
    Case("GlobalAveragePool, 1x2048x7x7", "GlobalAveragePool", (1, 2048, 7, 7), None, {}),
)  # fmt: skip


def rows(seconds: float, threads: int) -> list[DropInRow]:
    """Two rows for each case: beside the plain evaluator, and beside onnxruntime."""
    machine.pin_blas(threads)
    return [row for case in CASES for row in _rows(case, seconds, threads)]


def _rows(case: Case, seconds: float, threads: int) -> list[DropInRow]:
    calls = _calls(case, threads)
    wanted, scale = calls[RUNTIME](), 1e-5 * np.sqrt(np.prod((case.w or (1, 9))[1:]))
    for name, call in calls.items():
        error = np.abs(call() - wanted).max()
        if not error <= scale:
            raise AssertionError(f"{case.name}: {name} differs from onnxruntime by {error:.1e}")
    timings = measure(calls, seconds)
    # The figures are asked of a whole machine. On one core the plain Conv, a product of BLAS behind
    # an im2col, takes 7 to 10 times as long as the multiply-adds do at the core's peak.
    asked = case.asked if threads > 1 else None
    return [
        DropInRow(case.name, contender, timings["cnnfast"], timings[contender], bar)
        for contender, bar in ((PLAIN, asked), (RUNTIME, None))
    ]


def _calls(case: Case, threads: int) -> dict[str, Callable[[], Any]]:
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    from cnnfast.onnx import ops

    random = np.random.default_rng(0)
    feeds = {"x": random.standard_normal(case.x, dtype=np.float32)}
    model = _model(case, random)
    ours, plain = ReferenceEvaluator(model, new_ops=ops), ReferenceEvaluator(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return {
        "cnnfast": lambda: ours.run(None, feeds)[0],
        PLAIN: lambda: plain.run(None, feeds)[0],
        RUNTIME: lambda: session.run(None, feeds)[0],
    }


def _model(case: Case, random: Any) -> Any:
    """A model of the node; its weight is constant."""
    from onnx import TensorProto, helper, numpy_helper

    weights = []
    if case.w is not None:
        weight = random.standard_normal(case.w, dtype=np.float32)
        weights.append(numpy_helper.from_array(weight, "w"))
    names = ["x", *(weight.name for weight in weights)]
    node = helper.make_node(case.op_type, names, ["y"], **case.attributes)
    graph = helper.make_graph(
        [node], "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, case.x)],
        [helper.make_empty_tensor_value_info("y")], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
