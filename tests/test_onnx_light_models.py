"""The onnx package's light models, by ``cnnfast.onnx.Session``: against their stored outputs, and
with seeded random weights against onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="pip install 'cnnfast[onnx]'")

from cnnfast.benchmarks.drop_ins import light_models
from cnnfast.onnx import Session, ops

#: Of the largest value of a result: float32, sums in another order, up to 121 layers deep.
TOLERANCE = 1e-4


@pytest.fixture
def clock(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Any:
    """Says how long a call took, where that is longer than a second."""

    def timed(what: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
        if seconds > 1:
            with capsys.disabled():
                print(f"\n{request.node.name}: {what} took {seconds:.1f} s", end="")
        return result

    return timed


@pytest.mark.parametrize("name", light_models.NAMES)
def test_stored_outputs(name: str, clock: Any) -> None:
    """To 1e-4 of each value. All weights are one constant, so most are 1000 equal probabilities."""
    session = clock("preparing", lambda: Session(light_models.load(name)))
    result = clock("running", lambda: session.run([light_models.stored_input()])[0])
    np.testing.assert_allclose(result, light_models.stored_output(name), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", light_models.NAMES)
def test_seeded_weights(name: str, clock: Any) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="what results are compared with")
    model = clock("drawing weights", lambda: light_models.seeded(name))
    image = np.random.default_rng(1).standard_normal(light_models.INPUT_SHAPE, dtype=np.float32)
    session = clock("preparing", lambda: Session(model))
    feeds = {session.inputs[0]: image}
    peer = clock("onnxruntime's preparing", lambda: runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]))  # fmt: skip
    first = clock("the first run", lambda: session.run(feeds))
    for ours, theirs in zip(first, peer.run(None, feeds), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert np.ptp(theirs) > 0.1 * np.abs(theirs).max()
        bound = TOLERANCE * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)
    # From the second run on results go where Concat wants them.
    for ours, again in zip(first, session.run(feeds), strict=True):
        np.testing.assert_array_equal(ours, again)


@pytest.mark.parametrize("name", ["densenet121", "squeezenet"])
def test_a_batch_is_its_images(name: str) -> None:
    """Of models that have no Reshape for one image."""
    model = light_models.seeded(name)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    images = np.random.default_rng(2).standard_normal((2, 3, 224, 224), dtype=np.float32)
    session = Session(model)
    together = session.run([images])[-1]
    for at in range(2):
        alone = session.run([images[at : at + 1]])[-1][0]
        bound = TOLERANCE * np.abs(alone).max()
        np.testing.assert_allclose(together[at], alone, rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("densenet121", 246), ("inception_v2", 95), ("shufflenet", 124), ("squeezenet", 39)],
)
def test_every_step_is_computed_here(name: str, steps: int) -> None:
    times = Session(light_models.seeded(name)).profile([light_models.stored_input()])
    assert {time.by for time in times} == {"cnnfast"}
    assert len(times) == steps


def test_the_evaluator_with_our_operators() -> None:
    """The same model by ``onnx.reference`` with ``ops``, to what its softmax reads."""
    from onnx.reference import ReferenceEvaluator

    model = light_models.seeded("squeezenet")
    image = light_models.stored_input()
    expected = ReferenceEvaluator(model, new_ops=ops).run(None, {"data_0": image})[1]
    ours = Session(model).run([image])[1]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
