"""``cnnfast.onnx.Session`` on small graphs: what becomes one step, and what mustn't."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="pip install 'cnnfast[onnx]'")
pytest.importorskip("onnxruntime", reason="what results are compared with")

from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

import cnnfast
from cnnfast.onnx import Session

from onnx_graphs import (
    SHAPE,
    TOLERANCE,
    assert_like_runtime,
    drawn,
    feeds_of,
    model_of,
    node,
    positive,
    steps_of,
)

CONV = {"w": drawn(6, 4, 3, 3), "b": drawn(6)}
NORM = {"s": drawn(6, seed=1), "h": drawn(6, seed=2), "m": drawn(6, seed=3), "v": positive(6)}


@pytest.mark.parametrize(
    ("after", "constants"),
    [
        ([node("Relu", "c", "y")], {}),
        ([node("Clip", "c lo hi", "y")], {"lo": np.float32(0), "hi": np.float32(6)}),
        ([node("Clip", "c lo", "y")], {"lo": np.float32(0)}),
        ([node("BatchNormalization", "c s h m v", "y")], NORM),
        ([node("BatchNormalization", "c s h m v", "n", epsilon=0.1), node("Relu", "n", "y")], NORM),
        ([node("Mul", "c f", "y")], {"f": drawn(6, 1, 1)}),
        ([node("Mul", "f c", "p"), node("Add", "p s", "y")],
         {"f": drawn(1, 6, 1, 1), "s": np.float32(2)}),
        ([node("Sub", "c f", "y")], {"f": drawn(6, 1, 1)}),
        ([node("Sub", "f c", "y")], {"f": drawn(6, 1, 1)}),
        ([node("Div", "c f", "y")], {"f": positive(6, 1, 1)}),
        ([node("BatchNormalization", "c s h m v", "n"), node("Identity", "n", "i"),
          node("Dropout", "i", "d"), node("Relu", "d", "y")], NORM),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bias", [True, False])
def test_what_follows_a_convolution_is_its_own_step(after: Any, constants: Any, bias: bool) -> None:
    first = node("Conv", "x w b" if bias else "x w", "c", pads=[1, 0, 1, 2], strides=[2, 1])
    model = model_of([first, *after], ["y"], {**CONV, **constants})
    assert_like_runtime(model)
    taken = [n.op_type for n in after if n.op_type not in ("Identity", "Dropout")]
    assert steps_of(model) == [" + ".join(["Conv", *taken])]


@pytest.mark.parametrize(
    ("after", "outputs", "constants"),
    [
        # Read twice, or an output: the convolution's own result is wanted as well.
        ([node("Relu", "c", "r"), node("Add", "r c", "y")], ["y"], {}),
        ([node("Relu", "c", "y")], ["y", "c"], {}),
        ([node("BatchNormalization", "c s h m v", "n"), node("Mul", "n c", "y")], ["y"], NORM),
        # Other bounds, or bounds that come with the inputs.
        ([node("Clip", "c lo hi", "y")], ["y"], {"lo": np.float32(0), "hi": np.float32(5)}),
        ([node("Clip", "c lo hi", "y")], ["y"], {"lo": np.float32(-1), "hi": np.float32(6)}),
        ([node("Clip", "c _ hi", "y")], ["y"], {"hi": np.float32(6)}),
        ([node("LeakyRelu", "c", "y", alpha=0.2)], ["y"], {}),
        # Constants that broadcast along another axis than the channels', or make the result larger.
        ([node("Mul", "c f", "y")], ["y"], {"f": drawn(6)}),
        ([node("Add", "c f", "y")], ["y"], {"f": drawn(2, 1, 1, 1)}),
        ([node("Add", "c f", "y")], ["y"], {"f": drawn(3, 1, 1, 1, 1)}),
        ([node("Div", "f c", "y")], ["y"], {"f": drawn(6, 1, 1)}),
        # An activation first: what follows isn't the convolution's.
        ([node("Relu", "c", "r"), node("Mul", "r f", "y")], ["y"], {"f": drawn(6, 1, 1)}),
    ],
)  # fmt: skip
def test_what_must_not_be_fused(after: Any, outputs: Any, constants: Any) -> None:
    first = node("Conv", "x w b", "c", kernel_shape=[3, 3])
    model = model_of([first, *after], outputs, {**CONV, **constants})
    assert_like_runtime(model)
    assert len(steps_of(model)) == 1 + len(after) - ("Relu" in after[0].op_type and len(after) == 2
                                                      and "f" in constants)  # fmt: skip


def test_bounds_and_weights_that_come_with_the_inputs() -> None:
    nodes = [node("Conv", "x w b", "c"), node("Clip", "c lo hi", "y")]
    inputs = {"x": SHAPE, "w": (6, 4, 3, 3), "b": (6,), "lo": (), "hi": ()}
    model = model_of(nodes, ["y"], inputs=inputs)
    feeds = {**feeds_of(model), "lo": np.float32(0), "hi": np.float32(6)}
    feeds = {name: np.asarray(array) for name, array in feeds.items()}
    assert_like_runtime(model, feeds)
    assert len(steps_of(model, feeds)) == 2


def test_normalisation_with_parameters_from_inputs() -> None:
    nodes = [node("Conv", "x w b", "c"), node("BatchNormalization", "c s h m v", "y")]
    sizes = {"x": SHAPE, "s": (6,), "h": (6,), "m": (6,), "v": (6,)}
    for opset in (9, 13, 17):
        model = model_of(nodes, ["y"], CONV, sizes, opset)
        feeds = feeds_of(model)
        feeds["v"] = np.abs(feeds["v"]) + 1
        assert_like_runtime(model, feeds)


def test_normalisation_in_training_is_left_alone() -> None:
    nodes = [
        node("Conv", "x w b", "c"),
        node("BatchNormalization", "c s h m v", "y m1 v1", training_mode=1),
    ]
    model = model_of(nodes, ["y", "m1", "v1"], {**CONV, **NORM})
    y, mean, _ = Session(model).run(feeds_of(model))
    conv = cnnfast.conv2d(feeds_of(model)["x"], CONV["w"], CONV["b"])
    expected = 0.9 * NORM["m"] + 0.1 * conv.mean(axis=(0, 2, 3))
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-5)
    shift = NORM["h"].reshape(-1, 1, 1)
    np.testing.assert_allclose((y - shift).mean(axis=(0, 2, 3)), 0, atol=1e-5)


def test_normalisation_whose_factor_is_not_finite_is_left_alone() -> None:
    constants = {**CONV, **NORM, "v": np.zeros(6, np.float32)}
    nodes = [node("Conv", "x w b", "c"),
             node("BatchNormalization", "c s h m v", "y", epsilon=0.0)]  # fmt: skip
    model = model_of(nodes, ["y"], constants)
    with np.errstate(all="ignore"):
        assert not np.isfinite(Session(model).run(feeds_of(model))[0]).any()
    assert len(steps_of(model_of(nodes, ["y"], {**CONV, **NORM}))) == 1


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_every_rank(kind: str, rank: int) -> None:
    shape, taps = (2, 4, 7, 6, 5)[: 2 + rank], (3, 2, 2)[:rank]
    weight = drawn(6, 4, *taps) if kind == "Conv" else drawn(4, 6, *taps)
    nodes = [node(kind, "x w", "c"), node("BatchNormalization", "c s h m v", "n"),
             node("Relu", "n", "y")]  # fmt: skip
    model = model_of(nodes, ["y"], {"w": weight, **NORM}, {"x": shape})
    assert_like_runtime(model)
    assert len(steps_of(model)) == 1


@pytest.mark.parametrize("group", [1, 2])
def test_grouped(group: int) -> None:
    nodes = [
        node("Conv", "x w", "c", group=group),
        node("BatchNormalization", "c s h m v", "n"),
        node("ConvTranspose", "n t", "u", group=group),
        node("Mul", "u f", "y"),
    ]
    constants = {"w": drawn(6, 4 // group, 3, 3), "t": drawn(6, 4 // group, 2, 2),
                 "f": drawn(4, 1, 1), **NORM}  # fmt: skip
    assert_like_runtime(model_of(nodes, ["y"], constants))


def test_normalisation_before_an_activation_alone() -> None:
    """As in networks that normalise before they convolve: a factor and a summand per channel."""
    constants = {"s": drawn(4), "h": drawn(4), "m": drawn(4), "v": positive(4)}
    nodes = [node("BatchNormalization", "x s h m v", "n"), node("Mul", "n f", "p"),
             node("Add", "p f", "a"), node("Relu", "a", "y")]  # fmt: skip
    for shape in (SHAPE, (2, 4, 5), (2, 4, 3, 4, 5)):
        numbers = {"f": drawn(4, *[1] * (len(shape) - 2))}
        model = model_of(nodes, ["y"], constants | numbers, {"x": shape})
        assert_like_runtime(model)
        assert len(steps_of(model)) == 1
    flat = model_of([nodes[0], node("Relu", "n", "y")], ["y"], constants, {"x": (3, 4)})
    assert_like_runtime(flat)


def test_residual_sums() -> None:
    """In place of what nobody else reads; never of what somebody does."""
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r w2 b", "d", pads=[1, 1, 1, 1]),
        node("Add", "d r", "a"),
        node("Relu", "a", "t"),
        node("Sum", "t r", "u"),
        node("Clip", "u lo hi", "k"),
        node("Add", "k k", "y"),
    ]
    constants = {**CONV, "w2": drawn(6, 6, 3, 3), "lo": np.float32(0), "hi": np.float32(6)}
    model = model_of(nodes, ["y", "r"], constants)
    assert_like_runtime(model)
    assert steps_of(model) == ["Conv + Relu", "Conv", "Add + Relu", "Sum + Clip", "Add"]
    broadcast = model_of([node("Add", "x o", "a"), node("Relu", "a", "y")], ["y"],
                         inputs={"x": SHAPE, "o": (4, 1, 8)})  # fmt: skip
    assert_like_runtime(broadcast)


@pytest.mark.parametrize("kind", ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish"])
@pytest.mark.parametrize("batch", [1, 3])
def test_activations_in_place_and_not(kind: str, batch: int) -> None:
    nodes = [
        node(kind, "x", "a"),  # of an input
        node("Conv", "a w b", "c"),
        node("BatchNormalization", "c s h m v", "n"),
        node("Add", "n n", "d"),
        node("Mul", "d f", "e"),
        node("Mul", "e f", "g"),
        node(kind, "g", "i"),  # of what nobody else reads
        node(kind, "i", "j"),  # of what somebody does
        node("Transpose", "i", "t", perm=[0, 1, 3, 2]),
        node(kind, "t", "u"),  # of a view
        node("Concat", "i j", "y", axis=1),
    ]
    constants = {**CONV, **NORM, "f": np.float32(0.3) * drawn(1, 1, 79, 1)}
    model = model_of(nodes, ["y", "u", "a"], constants, {"x": (batch, 4, 81, 90)})
    feeds = {"x": 40 * drawn(batch, 4, 81, 90)}
    assert_like_runtime(model, feeds)
    steps = Session(model).profile(feeds)
    assert {step.by for step in steps if step.step.startswith(kind)} == {"cnnfast"}


def test_activations_of_other_dtypes() -> None:
    model = model_of([node("Relu", "x", "r"), node("Concat", "r x", "y", axis=0)], ["y"])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.INT32
    x = np.arange(-288, 288, dtype=np.int32).reshape(SHAPE)
    session = Session(model)
    for _ in range(2):
        expected = np.concatenate([np.maximum(x, 0), x])
        np.testing.assert_array_equal(session.run([x])[0], expected)


def test_large_sums_are_added_in_stretches() -> None:
    nodes = [node("Conv", "x w b", "c"), node("Add", "c o", "a"), node("Relu", "a", "y")]
    inputs = {"x": (1, 4, 83, 91), "o": (1, 6, 81, 89)}
    assert_like_runtime(model_of(nodes, ["y"], CONV, inputs))


@pytest.mark.parametrize("batch", [1, 2])
def test_branches_are_computed_into_their_concat(batch: int) -> None:
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Concat", "x r k", "first", axis=1),  # an input and a constant among the parts
        node("Conv", "first w2", "d", pads=[1, 1, 1, 1]),
        node("Conv", "x w b", "c2", pads=[1, 1, 1, 1]),
        node("Relu", "c2", "r2"),
        node("MaxPool", "first", "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Concat", "first d p d", "second", axis=-3),  # one within another, one part twice
        node("Relu", "second", "y"),
        node("Concat", "d r", "third", axis=1),
        node("Clip", "third lo hi", "z"),
        node("Concat", "p c2 r2", "fourth", axis=1),
        node("Relu", "fourth", "u"),
        node("Add", "c2 c2", "t"),  # after the Relu: it must not have been in c2's place
    ]
    constants = {**CONV, "k": drawn(batch, 1, 9, 8), "w2": drawn(5, 11, 3, 3),
                 "lo": np.float32(-1), "hi": np.float32(1)}  # fmt: skip
    model = model_of(nodes, ["y", "z", "u", "t"], constants, {"x": (batch, 4, 9, 8)})
    results = assert_like_runtime(model)
    results[0][...] = 0
    assert results[1].any()


def test_concat_along_other_axes() -> None:
    nodes = [node("Relu", "x", "r"), node("Add", "x x", "a"), node("Concat", "r a", "c", axis=2),
             node("Mul", "c c", "m"), node("Concat", "m c", "y", axis=0)]  # fmt: skip
    assert_like_runtime(model_of(nodes, ["y"]))
    assert_like_runtime(model_of(nodes, ["y", "r"], inputs={"x": (1, 1, 9, 8)}))


def test_shapes_may_change_between_runs() -> None:
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "r"), node("Concat", "c r", "y", axis=1)]
    model = model_of(nodes, ["y"], CONV, {"x": ("N", 4, "H", "W")})
    session = Session(model)
    for shape in [(1, 4, 5, 5), (1, 4, 9, 6), (2, 4, 5, 5), (1, 4, 5, 5)] * 2:
        x = drawn(*shape)
        conv = cnnfast.conv2d(x, CONV["w"], CONV["b"])
        expected = np.concatenate([conv, np.maximum(conv, 0)], axis=1)
        np.testing.assert_array_equal(session.run([x])[0], expected)


@pytest.mark.parametrize(("opset", "axis"), [(9, 1), (11, 2), (11, -1), (13, 1), (17, -1)])
def test_softmax_of_every_opset(opset: int, axis: int) -> None:
    model = model_of([node("Softmax", "x", "y", axis=axis)], ["y"], opset=opset)
    assert_like_runtime(model)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_local_response_normalisation(size: int, beta: float) -> None:
    """Against the operator's definition: onnxruntime has no even sizes, and onnx's evaluator counts
    the images of the batch as channels."""
    how = {"size": size, "beta": beta, "alpha": 0.3, "bias": 2.0}
    model = model_of([node("LRN", "x", "y", **how)], ["y"], inputs={"x": (2, 7, 5, 3)})
    x = feeds_of(model)["x"].astype(np.float64)
    for c in range(7):
        near = x[:, max(0, c - (size - 1) // 2) : c + math.ceil((size - 1) / 2) + 1]
        expected = x[:, c] / (2 + 0.3 / size * (near**2).sum(axis=1)) ** beta
        ours = Session(model).run(feeds_of(model))[0][:, c]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)
    if size % 2:
        assert_like_runtime(model)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    "coordinates",
    ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric"],
)
@pytest.mark.parametrize(
    "sizes", [{"s": np.float32([1, 1, 2, 1.7])}, {"s": np.float32([1, 1, 0.6, 0.4])},
              {"z": np.array([2, 4, 1, 20])}],
)  # fmt: skip
def test_resizing(mode: str, coordinates: str, sizes: Any) -> None:
    reason = "earlier evaluators take seconds for a Resize"
    pytest.importorskip("onnx", minversion="1.23", reason=reason)
    how = {"mode": mode, "coordinate_transformation_mode": coordinates}
    by = "x _ s" if "s" in sizes else "x _ _ z"
    roundings = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
    for rounding in roundings if mode == "nearest" else roundings[:1]:
        resize = node("Resize", by, "y", nearest_mode=rounding, **how)
        model = model_of([resize], ["y"], sizes)
        if coordinates == "align_corners":  # the evaluator does with sizes before rounding
            assert_like_runtime(model)
            continue
        expected = ReferenceEvaluator(model).run(None, feeds_of(model))[0]
        result = Session(model).run(feeds_of(model))[0]
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)
        assert Session(model).profile(feeds_of(model))[0].by == "cnnfast"


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu(form: str) -> None:
    assert_like_runtime(model_of([node("Gelu", "x", "y", approximate=form)], ["y"], opset=20))


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (), (3, 5)])
def test_dense_layers(transposed: int, bias: Any) -> None:
    constants = {"w": drawn(5, 6) if transposed else drawn(6, 5)}
    if bias is not None:
        constants["b"] = np.asarray(drawn(*bias))
    gemm = node("Gemm", "x w b" if bias is not None else "x w", "g", transB=transposed, alpha=0.5,
                beta=2.0)  # fmt: skip
    model = model_of([gemm, node("Relu", "g", "y")], ["y"], constants, {"x": (3, 6)})
    assert_like_runtime(model)
    assert len(steps_of(model)) == 1 + (bias == (3, 5))


def test_products_of_matrices() -> None:
    nodes = [node("MatMul", "x w", "m"), node("Relu", "m", "r"), node("MatMul", "r o", "y")]
    model = model_of(nodes, ["y"], {"w": drawn(8, 5)}, {"x": SHAPE, "o": (5, 3)})
    assert_like_runtime(model)


def test_reshaping() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1, 3]),
        node("Reshape", "t shape", "r"),
        node("Flatten", "r", "f", axis=-1),
        node("Unsqueeze", "f axes", "u"),
        node("Squeeze", "u axes", "s"),
        node("Transpose", "s", "y"),
    ]
    constants = {"shape": np.array([0, -1, 12]), "axes": np.array([0])}
    results = assert_like_runtime(model_of(nodes, ["y"], constants))
    assert results[0].flags.writeable


def test_constants_are_computed_beforehand() -> None:
    nodes = [
        node("ConstantOfShape", "n", "one", value=numpy_helper.from_array(np.ones(1, np.float32))),
        node("Shape", "w", "kernel"),
        node("Gather", "kernel zero", "k", axis=0),
        node("ConstantOfShape", "kernel", "w1"),
        node("Add", "w1 w", "w2"),
        node("Conv", "x w2 one", "c"),
        node("Relu", "c", "y"),
    ]
    model = model_of(nodes, ["y"], {"n": np.array([6]), "w": CONV["w"], "zero": np.array(0)})
    assert_like_runtime(model)
    assert steps_of(model) == ["Conv + Relu"]
    constant = model_of([node("Add", "w w", "y")], ["y", "x"], {"w": CONV["w"]})
    results = assert_like_runtime(constant)
    results[0][...] = 0  # memory of its own, not the session's constant


def test_random_operators_are_not_constants() -> None:
    model = model_of([node("RandomNormal", "", "r", shape=[3]), node("Add", "x r", "y")], ["y"],
                     inputs={"x": (3,)})  # fmt: skip
    del model.graph.node[0].input[:]
    session = Session(model)
    x = np.zeros(3, np.float32)
    assert (session.run([x])[0] != session.run([x])[0]).any()
