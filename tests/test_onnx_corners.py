"""``cnnfast.onnx`` in corners: empty batches, names left out, attributes that don't exist."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="pip install 'cnnfast[onnx]'")
pytest.importorskip("onnxruntime", reason="what results are compared with")

from onnx import ModelProto, helper

from cnnfast.onnx import Session, operators

from onnx_graphs import SHAPE, assert_like_runtime, drawn, model_of, node


@pytest.mark.parametrize("operands", ["x", "x z x"])
def test_an_activation_behind_a_sum_of_any_number(operands: str) -> None:
    nodes = [node("Sum", operands, "s"), node("Relu", "s", "y")]
    assert_like_runtime(model_of(nodes, ["y"], inputs={"x": SHAPE, "z": SHAPE}))


def test_results_without_a_name_are_nothing_that_is_read() -> None:
    """An input that is left out has the same empty name."""
    constants = {
        "c": drawn(9),
        "two": np.array([2]),
        "most": np.float32(0.5),
        "rate": np.float32(0.5),
    }
    nodes = [
        helper.make_node("TopK", ["c", "two"], ["", "places"]),  # of constants
        helper.make_node("Relu", ["x"], [""]),
        helper.make_node("Dropout", ["x", "rate"], ["", "mask"]),  # which would pass x on
        node("Clip", "x _ most", "y"),
    ]
    x = drawn(*SHAPE)
    clipped, places = Session(model_of(nodes, ["y", "places"], constants)).run([x])
    np.testing.assert_array_equal(clipped, np.minimum(x, 0.5))
    np.testing.assert_array_equal(places, np.argsort(-constants["c"])[:2])


@pytest.mark.parametrize(
    ("operator", "opset", "shape"),
    [
        (node("Flatten", "x", "y"), 17, (0, 12)),
        (node("Flatten", "x", "y", axis=2), 17, (0, 4)),
        (node("Softmax", "x", "y"), 9, (0, 3, 4)),
        (node("LRN", "x", "y", size=3), 17, (0, 3, 4)),
    ],
)
def test_an_empty_batch(operator: Any, opset: int, shape: tuple[int, ...]) -> None:
    model = model_of([operator], ["y"], inputs={"x": ("N", 3, 4)}, opset=opset)
    (result,) = Session(model).run({"x": np.zeros((0, 3, 4), np.float32)})
    assert result.shape == shape


def test_an_empty_batch_in_operators() -> None:
    x, w = np.zeros((0, 4, 5, 5), np.uint8), np.ones((6, 2, 3, 3), np.uint8)
    one = np.uint8(1)
    assert operators.conv_integer(x, w, one, one, group=2).shape == (0, 6, 3, 3)
    quantized = operators.qlinear_conv(x, 1.0, one, w, 1.0, one, 1.0, one, group=2)
    assert quantized.shape == (0, 6, 3, 3)
    floats = [a.astype(np.float32) for a in (x, w, np.zeros((0, 36, 3, 3)))]
    assert operators.deform_conv(*floats, group=2, offset_group=2).shape == (0, 6, 3, 3)


def test_sizes_below_zero_are_any() -> None:
    model = model_of([node("Relu", "x", "y")], ["y"], inputs={"x": (-1, 3)})
    assert Session(model).run([drawn(5, 3)])[0].shape == (5, 3)
    with pytest.raises(ValueError, match=r"x must have shape \(any, 3\), got \(5, 4\)"):
        Session(model).run([drawn(5, 4)])


def test_a_convolution_with_an_attribute_that_does_not_exist() -> None:
    nodes = [node("Conv", "x w", "c", consumed=1), node("Relu", "c", "y")]
    with pytest.raises(ValueError, match=r"Conv has no attributes \['consumed'\]"):
        Session(model_of(nodes, ["y"], {"w": drawn(6, 4, 3, 3)}))


@pytest.mark.parametrize(
    ("operator", "opset", "text"),
    [
        (node("Conv", "x", "y"), 17, r"Conv 'to y' must have 2 inputs, got \['x'\]"),
        (node("Add", "x _", "y"), 17, r"Add 'to y' must have 2 inputs, got \['x', ''\]"),
        (node("Flatten", "x", "y", axis=5), 17, "axis must be from -4 to 4, got 5"),
        (node("Softmax", "x", "y", axis=-5), 9, "axis must be from -4 to 4, got -5"),
        (node("Reshape", "x shape", "y"), 17, r"Reshape: a 0 keeps .* \[0, 0, 0, 0, 0, -1\]"),
        (node("Resize", "x _ zero", "y"), 17, "Resize: scales must be positive"),
        (node("Resize", "x _ _ shape", "y"), 17, "Resize: sizes must be positive"),
    ],
)
def test_nodes_that_can_not_be_computed(operator: Any, opset: int, text: str) -> None:
    constants = {"shape": np.array([0, 0, 0, 0, 0, -1]), "zero": np.float32([1, 1, 0, 2])}
    model = model_of([operator], ["y"], constants, opset=opset)
    with pytest.raises(ValueError, match=text):
        Session(model).run([drawn(*SHAPE)])


def test_sizes_that_nothing_can_be_resized_to() -> None:
    nodes = [node("Resize", "x _ _ sizes", "y")]
    model = model_of(nodes, ["y"], {"sizes": np.array([1, 2])}, {"x": (1, "N")})
    with pytest.raises(ValueError, match=r"no axis of X may be empty, got shape \(1, 0\)"):
        Session(model).run([drawn(1, 0)])


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7, 1.3])
def test_scaled_sizes_are_rounded_as_in_shape_inference(scale: float) -> None:
    constants = {"scales": np.float32([1, 1, scale, 2 * scale])}
    nodes = [node("Resize", "x _ scales", "y", mode="linear")]
    assert_like_runtime(model_of(nodes, ["y"], constants, {"x": (1, 2, 10, 20)}))


def test_a_model_without_a_graph() -> None:
    with pytest.raises(ValueError, match="model must have a graph"):
        Session(ModelProto())


def test_sequences_hold_arrays_of_their_own() -> None:
    nodes = [
        node("SequenceConstruct", "x c", "s"),
        node("Identity", "given", "same"),
    ]
    model = model_of(nodes, [], {"c": np.ones(2, np.float32)})
    model.graph.input.append(helper.make_tensor_sequence_value_info("given", 1, None))
    for name in ("s", "same"):
        model.graph.output.append(helper.make_tensor_sequence_value_info(name, 1, None))
    session, x, given = Session(model), drawn(*SHAPE), [drawn(3)]
    kept = x.copy(), given[0].copy()
    for _ in range(2):
        (of_x, of_c), (same,) = session.run({"x": x, "given": given})
        np.testing.assert_array_equal(of_x, kept[0])
        np.testing.assert_array_equal(of_c, [1, 1])
        np.testing.assert_array_equal(same, kept[1])
        for result in (of_x, of_c, same):
            result[...] = 7
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(given[0], kept[1])


def test_an_initializer_that_can_not_be_read() -> None:
    """Its values lie in a file, and a model in memory doesn't tell where."""
    model = model_of([node("Add", "x w", "y")], ["y"], {"w": drawn(8)})
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = weight.EXTERNAL
    weight.external_data.add(key="location", value="nowhere.bin")
    with pytest.raises(ValueError, match="the initializer 'w' can't be read: .*nowhere.bin"):
        Session(model)


def test_both_names_of_the_default_domain() -> None:
    inner = helper.make_graph(
        [node("Relu", "r", "i")], "inner", [], [helper.make_empty_tensor_value_info("i")]
    )
    nodes = [node("Relu", "x", "r"), node("If", "c", "y", then_branch=inner, else_branch=inner)]
    model = model_of(nodes, ["y"], {"c": np.array(True)})
    model.opset_import[0].domain = "ai.onnx"
    for each in (*model.graph.node, *model.graph.node[1].attribute[0].g.node):
        each.domain = "ai.onnx"
    kept = model.SerializeToString()
    x = drawn(*SHAPE)
    np.testing.assert_array_equal(Session(model).run([x])[0], np.maximum(x, 0))
    assert model.SerializeToString() == kept
