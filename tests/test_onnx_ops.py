"""ONNX's operators in its reference evaluator: the onnx package's own cases, convolutions and pools
beside onnxruntime and by ONNX's formulas."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip(
    "onnx", minversion="1.23", reason="onnx isn't here, or stores what later versions corrected"
)

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from cnnfast.onnx import op_runs, ops  # noqa: E402

from onnx_models import Draw, by_onnxruntime, evaluated  # noqa: E402

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


def same_pads(size: int, kernel: int, stride: int, dilation: int, auto_pad: str) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def pooled(op_type: str, x: Any, attributes: dict[str, Any]) -> Any:
    """A pooling by ONNX's formulas, window by window."""
    rank, kernel = x.ndim - 2, attributes["kernel_shape"]
    steps, gaps, auto = attributes["strides"], attributes["dilations"], attributes.get("auto_pad")
    pads = attributes.get("pads", [0] * 2 * rank)
    ceil, taps, padded = attributes.get("ceil_mode", 0), [], []
    for i, (size, k, step, gap) in enumerate(zip(x.shape[2:], kernel, steps, gaps, strict=True)):
        before, after = pads[i], pads[rank + i]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            before, after = same_pads(size, k, step, gap, auto)
        places = (size + before + after - gap * (k - 1) - 1) / step + 1
        count = math.ceil(places) if ceil else math.floor(places)
        count -= ceil and (count - 1) * step >= size + before
        taps.append([[o * step - before + j * gap for j in range(k)] for o in range(count)])
        padded.append(size + after)
    result = np.zeros((*x.shape[:2], *map(len, taps)))
    for at in np.ndindex(*result.shape[2:]):
        window = [axis[o] for axis, o in zip(taps, at, strict=True)]
        inside = [
            [t for t in axis if 0 <= t < n] for axis, n in zip(window, x.shape[2:], strict=True)
        ]
        values = x[np.ix_(range(len(x)), range(x.shape[1]), *inside)].astype(float)
        values = values.reshape(*x.shape[:2], -1)
        counted = [[t for t in axis if t < n] for axis, n in zip(window, padded, strict=True)]
        divisor = math.prod(map(len, counted if attributes["count_include_pad"] else inside))
        place = (..., *at)
        if op_type == "MaxPool":
            result[place] = values.max(-1)
        elif op_type == "AveragePool":
            result[place] = values.sum(-1) / divisor
        else:
            result[place] = (abs(values) ** attributes["p"]).sum(-1) ** (1 / attributes["p"])
    return result


@pytest.mark.usefixtures("never_falls_back")
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_by_onnx_formulas(op_type: str, seed: int) -> None:
    """Also where onnxruntime does otherwise: dilation and strides past the kernel under an
    ``auto_pad``, padding as wide as dilated windows."""
    draw = Draw(1000 + seed)
    kernel, steps, gaps = draw.ints(1, 4), draw.ints(1, 4), draw.ints(1, 3)
    x = draw.array(draw.int(1, 2), draw.int(1, 3), *draw.ints(9, 11), dtype=np.float64)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": steps, "dilations": gaps}
    attributes |= {"count_include_pad": draw.int(0, 1), "p": draw.int(1, 3)}
    if draw.int(0, 1):
        attributes["auto_pad"] = ["SAME_UPPER", "SAME_LOWER"][draw.int(0, 1)]
    else:
        attributes["ceil_mode"] = draw.int(0, 1)
        limits = [(k - 1) * gap for k, gap in zip(kernel, gaps, strict=True)] * 2
        attributes["pads"] = [draw.int(0, limit) for limit in limits]
    wanted = pooled(op_type, x, attributes)
    (got,) = evaluated(op_type, x, **known(op_type, 22, attributes))
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, 1e-12, 1e-12)


def test_a_partial_window_may_be_the_only_one() -> None:
    x = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)
    attributes: dict[str, Any] = {"kernel_shape": [7, 7], "strides": [2, 2], "ceil_mode": 1}
    for op_type in ("MaxPool", "AveragePool", "LpPool"):
        (got,) = evaluated(op_type, x, **attributes)
        assert got.shape == (1, 1, 1, 1)
        np.testing.assert_allclose(got, by_onnxruntime(op_type, x, **attributes)[0], 1e-6)


@pytest.mark.usefixtures("never_falls_back")
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools_as_onnxruntime(op_type: str, rank: int) -> None:
    x = Draw(rank).array(2, 3, *[5, 4, 3][:rank])
    attributes: dict[str, Any] = {"opset": 21}  # onnxruntime has no GlobalLpPool of the next one
    if op_type == "GlobalLpPool":
        attributes["p"] = 3
    (got,), (wanted,) = (
        evaluated(op_type, x, **attributes),
        by_onnxruntime(op_type, x, **attributes),
    )
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, 1e-6)


@pytest.mark.usefixtures("never_falls_back")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Conv", {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("ConvTranspose", {"pads": [1, 0, 1, 0], "strides": [2, 1]}),
        ("MaxPool", {"kernel_shape": [3, 3], "ceil_mode": 1, "strides": [2, 2]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        ("LpPool", {"kernel_shape": [3, 3], "p": 3}),
        ("GlobalAveragePool", {}),
        ("GlobalMaxPool", {}),
        ("GlobalLpPool", {"p": 2}),
        ("DeformConv", {"pads": [1, 1, 1, 1]}),
    ],
)
def test_dtypes(op_type: str, attributes: dict[str, Any], dtype: str) -> None:
    """Half floats are rounded once, at the end; the result's dtype is the input's."""
    number = helper.tensor_dtype_to_np_dtype(
        getattr(TensorProto, dtype.replace("float64", "DOUBLE").upper())
    )
    draw = Draw(3)
    inputs = [draw.array(2, 4, 7, 7, dtype=np.float64)]
    if "Conv" in op_type:
        inputs.append(draw.array(4, 4, 3, 3, dtype=np.float64))
    if op_type == "DeformConv":
        inputs.append(draw.array(2, 18, 7, 7, dtype=np.float64))
    inputs = [array.astype(number) for array in inputs]
    (got,) = evaluated(op_type, *inputs, **attributes)
    (wanted,) = evaluated(op_type, *[array.astype(np.float64) for array in inputs], **attributes)
    assert got.dtype == number
    bound = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float64": 0}[dtype]
    np.testing.assert_allclose(got.astype(float), wanted, bound * 1.01, 2e-5 if bound else 0)
