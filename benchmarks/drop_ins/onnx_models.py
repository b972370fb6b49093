"""Whole ONNX models: ``cnnfast.onnx.Session`` beside onnxruntime, and once the plain evaluator."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from cnnfast import onnx
from cnnfast.benchmarks.drop_ins import light_models
from cnnfast.benchmarks.drop_ins.row import DropInRow
from cnnfast.benchmarks.timing import Call, measure

#: Of onnxruntime's speed.
ASKED = 0.5
#: The one that the plain evaluator computes as well: without normalisations, which it takes to be
#: in training in that opset. Its softmax is that of later opsets, so what goes in is compared.
EVALUATED = "squeezenet"
#: Of the largest value of a result: float32, sums in another order, up to 121 layers deep.
TOLERANCE = 1e-4


def rows(seconds: float, threads: int) -> list[DropInRow]:
    """A row for each light model, with seeded weights, on one image."""
    return [row for name in light_models.NAMES for row in _rows(name, seconds, threads)]


def _rows(name: str, seconds: float, threads: int) -> list[DropInRow]:
    model = light_models.seeded(name)
    image = np.random.default_rng(1).standard_normal(light_models.INPUT_SHAPE, dtype=np.float32)
    session = onnx.Session(model)
    feeds = {session.inputs[0]: image}
    peer = _runtime(model, threads)
    calls: dict[str, Call] = {
        "cnnfast": lambda: session.run(feeds),
        "onnxruntime": lambda: peer.run(None, feeds),
    }
    asked: dict[str, float | None] = {"onnxruntime": ASKED}
    if name == EVALUATED:
        evaluator = import_module("onnx.reference").ReferenceEvaluator(model)
        calls["onnx.reference"] = lambda: evaluator.run(None, feeds)
        asked["onnx.reference"] = None
    del model
    for contender in asked:
        first = 1 if contender == "onnx.reference" else 0
        _check_equal(name, session.run(feeds)[first:], calls[contender]()[first:])
    timings = measure(calls, seconds)
    return [
        DropInRow(name, contender, timings["cnnfast"], timings[contender], wanted)
        for contender, wanted in asked.items()
    ]


def _runtime(model: Any, threads: int) -> Any:
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)


def _check_equal(name: str, ours: list[Any], theirs: list[Any]) -> None:
    for own, other in zip(ours, theirs, strict=True):
        error = np.abs(own - other).max() / np.abs(other).max()
        if not error <= TOLERANCE:
            raise AssertionError(f"{name}: results differ by {error:.1e} of the largest value")
