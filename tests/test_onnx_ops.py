"""ONNX's operators: the onnx package's own cases, and random ones beside onnxruntime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx isn't installed")

from onnx import helper, numpy_helper  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from cnnfast.onnx import op_runs, ops  # noqa: E402

#: Operator -> how many cases the onnx package has at least: those of the node tests, those that
#: were converted from PyTorch (opset 6 and 12).
OWN_CASES = {
    "AveragePool": (20, 7),
    "Col2Im": (5, 0),
    "Conv": (19, 27),
    "ConvInteger": (2, 0),
    "ConvTranspose": (11, 3),
    "DeformConv": (4, 0),
    "GlobalAveragePool": (2, 0),
    "GlobalLpPool": (0, 0),
    "GlobalMaxPool": (2, 0),
    "LpPool": (8, 0),
    "MaxPool": (19, 9),
    "MaxUnpool": (2, 0),
    "QLinearConv": (1, 0),
}


@pytest.fixture(scope="module")
def own_cases() -> dict[str, list[Any]]:
    """The onnx package's cases, by the operators of ours that are in their models."""
    found: dict[str, list[Any]] = {op_type: [] for op_type in OWN_CASES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases divides by zero
        for kind in ("node", "pytorch-converted", "pytorch-operator"):
            for case in load_model_tests(kind=kind):
                if case.model is None:
                    case.model = onnx.load(f"{case.model_dir}/model.onnx")
                for op_type in {node.op_type for node in case.model.graph.node} & found.keys():
                    found[op_type].append(case)
    return found


def data_sets(case: Any) -> list[tuple[list[Any], list[Any]]]:
    """Inputs and outputs of a case's runs."""
    if case.data_sets is not None:
        return list(case.data_sets)
    return [
        (read(folder, "input"), read(folder, "output"))
        for folder in sorted(Path(case.model_dir).glob("test_data_set_*"))
    ]


def read(folder: Path, what: str) -> list[Any]:
    count = len(list(folder.glob(f"{what}_*.pb")))
    files = [folder / f"{what}_{i}.pb" for i in range(count)]
    return [numpy_helper.to_array(onnx.load_tensor(str(file))) for file in files]


@pytest.fixture
def never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(node: Any, *_: Any) -> None:
        raise AssertionError(f"{node.op_type} ran on onnx's own implementation")

    monkeypatch.setattr(op_runs, "_run_onnx_own", fail)


def test_every_operator_has_one_class_and_its_cases(own_cases: dict[str, list[Any]]) -> None:
    assert [op.__name__ for op in ops] == sorted(OWN_CASES)
    for op_type, least in OWN_CASES.items():
        kinds = [case.kind for case in own_cases[op_type]]
        assert kinds.count("node") >= least[0], op_type
        assert len(kinds) - kinds.count("node") >= least[1], op_type
    names = {case.name for cases in own_cases.values() for case in cases}
    print(f"{len(names)} of the onnx package's own cases")
    assert len(names) >= 140


@pytest.mark.usefixtures("never_falls_back")
@pytest.mark.parametrize("op_type", [name for name, counts in OWN_CASES.items() if sum(counts)])
def test_onnx_own_cases(op_type: str, own_cases: dict[str, list[Any]]) -> None:
    for case in own_cases[op_type]:
        evaluator = ReferenceEvaluator(case.model, new_ops=ops)
        running = [type(node) for node in evaluator.rt_nodes_ if node.op_type == op_type]
        assert running, case.name
        assert set(running) < set(ops), case.name
        sets = data_sets(case)
        assert sets, case.name
        for inputs, outputs in sets:
            feeds = dict(zip(evaluator.input_names, inputs, strict=False))
            for wanted, got in zip(outputs, evaluator.run(None, feeds), strict=True):
                assert got.dtype == wanted.dtype, case.name
                assert got.shape == wanted.shape, case.name
                exact = got.dtype.kind in "iu" and op_type != "QLinearConv"
                rtol, atol = (0, 0) if exact else (case.rtol, 2e-6)
                np.testing.assert_allclose(got, wanted, rtol, atol, err_msg=case.name)


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


def known(op_type: str, opset: int, attributes: dict[str, Any]) -> dict[str, Any]:
    """Those of the attributes that the operator has in this opset."""
    schema = onnx.defs.get_schema(op_type, opset)
    return {name: value for name, value in attributes.items() if name in schema.attributes}


def draw_conv(draw: Draw, transposed: bool) -> tuple[list[Any], dict[str, Any], int]:
    kernel, attributes = draw.window()
    group, per_group, more = draw.int(1, 2), draw.int(1, 3), draw.int(1, 3)
    x, channels = draw.image(group * per_group), group * more
    if not transposed:
        weight = draw.array(channels, per_group, *kernel)
    else:
        weight = draw.array(group * per_group, more, *kernel)
        steps, gaps = attributes["strides"], attributes["dilations"]
        kind = draw.int(0, 2)
        if kind == 0:
            attributes["output_padding"] = [draw.int(0, step - 1) for step in steps]
        if kind == 1 and attributes.get("auto_pad") != "VALID":
            attributes.pop("pads", None)
            axes = zip(x.shape[2:], kernel, steps, gaps, strict=True)
            attributes["output_shape"] = [
                (size - 1) * step + gap * (taps - 1) + 1 - draw.int(0, 3)
                for size, taps, step, gap in axes
            ]
    bias = draw.array(channels) if draw.int(0, 1) else None
    return [x, weight, bias], attributes | {"group": group}, 1


def draw_pool(draw: Draw, op_type: str) -> tuple[list[Any], dict[str, Any], int]:
    kernel, attributes = draw.window()
    attributes |= {"kernel_shape": kernel, "p": draw.int(1, 3)}
    attributes |= {"count_include_pad": draw.int(0, 1), "storage_order": draw.int(0, 1)}
    if "pads" in attributes:
        attributes["ceil_mode"] = draw.int(0, 1)
    bytes_too = [np.float32, np.float32, np.int8, np.uint8]
    dtype = bytes_too[draw.int(0, 3)] if op_type == "MaxPool" else np.float32
    return [draw.image(draw.int(1, 3), dtype)], attributes, 1 + (op_type == "MaxPool")


OPSETS = (7, 8, 10, 11, 12, 18, 19, 21, 22)


@pytest.mark.usefixtures("never_falls_back")
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"])
def test_random_calls_as_onnxruntime(op_type: str, seed: int) -> None:
    draw = Draw(seed)
    if op_type.startswith("Conv"):
        inputs, attributes, outputs = draw_conv(draw, op_type == "ConvTranspose")
    else:
        inputs, attributes, outputs = draw_pool(draw, op_type)
    # Bytes came with the eighth, in maxima; the second output of older ones is another's.
    opset = OPSETS[draw.int(0, len(OPSETS) - 1)]
    opset = max(opset, 12) if op_type == "MaxPool" else opset
    attributes = known(op_type, opset, attributes)
    got = evaluated(op_type, *inputs, opset=opset, outputs=outputs, **attributes)
    wanted = by_onnxruntime(op_type, *inputs, opset=opset, outputs=outputs, **attributes)
    for mine, theirs in zip(got, wanted, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, 1e-5, 1e-5)
