"""More of ONNX's operators in its reference evaluator: integers, unpooling, deformed convolutions,
columns; what falls back to onnx's own implementations, and what is refused.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip(
    "onnx", minversion="1.23", reason="onnx isn't here, or stores what later versions corrected"
)

from onnx import helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from cnnfast.onnx import op_runs, operators, ops  # noqa: E402

from onnx_models import Draw, by_onnxruntime, evaluated  # noqa: E402


@pytest.fixture
def fallbacks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operators that ran on onnx's own implementations, while they do."""
    seen: list[str] = []
    run = op_runs._run_onnx_own

    def note(node: Any, *rest: Any) -> Any:
        seen.append(node.op_type)
        return run(node, *rest)

    monkeypatch.setattr(op_runs, "_run_onnx_own", note)
    return seen


def draw_bytes(draw: Draw) -> tuple[Any, Any, dict[str, Any]]:
    """Bytes to convolve, each signed or not."""
    kernel, attributes = draw.window()
    group, per_group = draw.int(1, 2), draw.int(1, 3)
    dtypes = [np.uint8, np.int8]
    x = draw.image(group * per_group, dtypes[draw.int(0, 1)])
    weight_dtype = dtypes[draw.int(0, 1)] if x.dtype == np.uint8 else np.int8
    w = draw.array(group * draw.int(1, 3), per_group, *kernel, dtype=weight_dtype)
    return x, w, attributes | {"group": group}


def plain_products(x: Any, w: Any, x_zero: Any, w_zero: Any, attributes: dict[str, Any]) -> Any:
    """The sums of (x - x zero) (w - w zero), in float64: exact."""
    x = x.astype(float) - float(x_zero)
    w = w.astype(float) - w_zero.astype(float).reshape(-1, *[1] * (w.ndim - 1))
    return operators.conv(x, w, **attributes)


@pytest.mark.parametrize("seed", range(40))
def test_conv_integer(seed: int, fallbacks: list[str]) -> None:
    draw = Draw(seed)
    x, w, attributes = draw_bytes(draw)
    x_zero = draw.array(dtype=x.dtype)
    w_zero = draw.array(*([len(w)] if draw.int(0, 1) else []), dtype=w.dtype)
    given = [np.array(x_zero), np.array(w_zero)][: draw.int(0, 2)]
    (got,) = evaluated("ConvInteger", x, w, *given, opset=10, **attributes)
    zeros = [*given, np.zeros((), x.dtype), np.zeros((), w.dtype)]
    zeros = [zeros[0], zeros[1]] if len(given) != 1 else [zeros[0], zeros[2]]
    wanted = plain_products(x, w, *zeros, attributes)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, wanted)
    assert fallbacks == []


@pytest.mark.parametrize("seed", range(40))
def test_qlinear_conv_as_onnxruntime(seed: int, fallbacks: list[str]) -> None:
    draw = Draw(100 + seed)
    x, w, attributes = draw_bytes(draw)
    each = [len(w)] if draw.int(0, 1) else []
    x_zero = np.array(draw.array(dtype=x.dtype))
    # onnxruntime's weights have one zero point, and signed ones none.
    w_zero = np.full(each, 0 if w.dtype == np.int8 else draw.int(0, 255), w.dtype)
    w_scale = np.array(draw.random.uniform(0.5, 1.5, each), np.float32)
    y_zero = np.array(draw.array(dtype=x.dtype))
    bias = draw.random.integers(-999, 999, len(w)).astype(np.int32) if draw.int(0, 1) else None
    inputs = [x, np.float32(0.02), x_zero, w, w_scale, w_zero, np.float32(1.7), y_zero, bias]
    inputs = [array if array is None else np.array(array) for array in inputs]
    (got,) = evaluated("QLinearConv", *inputs, opset=10, **attributes)
    (wanted,) = by_onnxruntime("QLinearConv", *inputs, opset=10, **attributes)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)
    assert fallbacks == []


def test_qlinear_conv_rounds_half_to_even_before_the_zero_point() -> None:
    x, one, zero = np.array([[[1, 3, 5, 7]]], np.uint8), np.float32(1), np.uint8(0)
    w = np.ones((1, 1, 1), np.uint8)
    for y_zero in (0, 1):
        got = operators.qlinear_conv(x, one, zero, w, one, zero, np.float32(2), np.uint8(y_zero))
        np.testing.assert_array_equal(got, np.array([[[0, 2, 2, 4]]]) + y_zero)


def test_max_unpool_undoes_max_pool(fallbacks: list[str]) -> None:
    for seed in range(6):
        draw = Draw(seed)
        x = draw.array(2, 3, *(2 * extent for extent in draw.ints(1, 4)))
        window: dict[str, Any] = {"kernel_shape": [2] * draw.rank, "strides": [2] * draw.rank}
        maxima, places = evaluated("MaxPool", x, outputs=2, **window)
        (got,) = evaluated("MaxUnpool", maxima, places, **window)
        (wanted,) = by_onnxruntime("MaxUnpool", maxima, places, opset=21, **window)
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(got[got != 0], x[got != 0])
        wider = np.array([2, 3, *(extent + 3 for extent in x.shape[2:])])
        (more,) = evaluated("MaxUnpool", maxima, places, wider, **window)
        assert more.shape == tuple(wider)
        np.testing.assert_array_equal(more[tuple(map(slice, x.shape))], got)
        assert np.count_nonzero(more) == np.count_nonzero(got)
    assert fallbacks == []


def deformed(x: Any, w: Any, offset: Any, mask: Any, attributes: dict[str, Any]) -> Any:
    """DeformConv tap by tap, in any rank."""
    rank, group = x.ndim - 2, attributes.get("group", 1)
    parts, pads = attributes.get("offset_group", 1), attributes["pads"]
    taps, outputs = w.shape[2:], offset.shape[2:]
    offset = offset.reshape(len(x), parts, *taps, rank, *outputs)
    mask = np.ones_like(offset[(slice(None),) * (2 + rank) + (0,)]) if mask is None else mask
    mask = mask.reshape(len(x), parts, *taps, *outputs)
    result = np.zeros((len(x), len(w), *outputs))
    for n, k in np.ndindex(*result.shape[:2]):
        for c in range(w.shape[1]):
            channel = k // (len(w) // group) * w.shape[1] + c
            part = channel // (x.shape[1] // parts)
            for tap in np.ndindex(*taps):
                for at in np.ndindex(*outputs):
                    place = [
                        at[i] * attributes["strides"][i]
                        - pads[i]
                        + tap[i] * attributes["dilations"][i]
                        + offset[(n, part, *tap, i, *at)]
                        for i in range(rank)
                    ]
                    value = interpolated(x[n, channel], place)
                    result[(n, k, *at)] += value * w[(k, c, *tap)] * mask[(n, part, *tap, *at)]
    return result


def interpolated(plane: Any, place: list[float]) -> float:
    low = np.floor(place).astype(int)
    total = 0.0
    for corner in np.ndindex(*[2] * plane.ndim):
        at = low + corner
        if (at >= 0).all() and (at < plane.shape).all():
            total += plane[tuple(at)] * np.prod(1 - abs(np.array(place) - at))
    return float(total)


@pytest.mark.parametrize("seed", range(12))
def test_deform_conv(seed: int, fallbacks: list[str]) -> None:
    draw = Draw(seed)
    draw.rank = 1 + seed % 3
    sizes, kernel = draw.ints(3, 4), draw.ints(1, 2)
    group, parts = draw.int(1, 2), draw.int(1, 2)
    attributes: dict[str, Any] = {
        "group": group, "offset_group": parts, "strides": draw.ints(1, 2),
        "dilations": draw.ints(1, 2), "pads": draw.ints(0, 1) * 2,
    }  # fmt: skip
    x = draw.array(2, 4, *sizes, dtype=np.float64)
    w = draw.array(2 * group, 4 // group, *kernel, dtype=np.float64)
    outputs = operators.conv(
        x[:, : w.shape[1]], w, **{n: attributes[n] for n in ("strides", "dilations", "pads")}
    ).shape[2:]
    many = parts * int(np.prod(kernel))
    offset = 2 * draw.array(2, many * draw.rank, *outputs, dtype=np.float64)
    mask = draw.array(2, many, *outputs, dtype=np.float64) if draw.int(0, 1) else None
    bias = draw.array(len(w), dtype=np.float64) if draw.int(0, 1) else None
    wanted = deformed(x, w, offset, mask, attributes)
    if bias is not None:
        wanted += bias.reshape(-1, *[1] * draw.rank)
    inputs = [x, w, offset, bias, mask]
    (got,) = evaluated("DeformConv", *inputs, **attributes)
    np.testing.assert_allclose(got, wanted, 1e-10, 1e-10)
    assert fallbacks == []
    if draw.rank == 2:  # the only one that onnx has, and in float32 in part
        (theirs,) = evaluated("DeformConv", *inputs, new_ops=None, **attributes)
        np.testing.assert_allclose(got, theirs, 1e-5, 5e-6)


def test_deform_conv_of_offsets_that_are_no_numbers() -> None:
    """Taps far away are zeros, NaN stays, and nothing is indexed by either."""
    x, w = np.ones((1, 1, 4)), np.ones((1, 1, 1))
    offset = np.array([[[np.inf, -np.inf, np.nan, 1e300]]])
    got = operators.deform_conv(x, w, offset)
    np.testing.assert_array_equal(got, [[[0, 0, np.nan, 0]]])


@pytest.mark.parametrize("seed", range(15))
def test_col2im_as_onnx(seed: int, fallbacks: list[str]) -> None:
    draw = Draw(seed)
    sizes, block = draw.ints(5, 7), draw.ints(1, 3)
    steps, gaps, pads = draw.ints(1, 2), draw.ints(1, 2), draw.ints(0, 1) * 2
    axes = zip(sizes, block, steps, gaps, pads, strict=False)
    windows = [
        (size + 2 * pad - gap * (taps - 1) - 1) // step + 1 for size, taps, step, gap, pad in axes
    ]
    dtype = [np.float32, np.int32, np.complex64][draw.int(0, 2)]
    x = draw.array(2, 2 * int(np.prod(block)), int(np.prod(windows)), dtype=np.float32)
    x = (8 * x).astype(dtype)
    inputs = [x, np.array(sizes), np.array(block)]
    attributes = {"strides": steps, "dilations": gaps, "pads": pads}
    (got,) = evaluated("Col2Im", *inputs, **attributes)
    (wanted,) = evaluated("Col2Im", *inputs, new_ops=None, **attributes)
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, 1e-5, 1e-5)
    assert fallbacks == []


def test_what_kernels_do_not_take_runs_on_onnx_own_implementation(fallbacks: list[str]) -> None:
    draw = Draw(5)
    four, w = draw.array(1, 2, 3, 4, 3, 4), draw.array(2, 2, 2, 2, 2, 2)
    whole = (8 * draw.array(1, 2, 5, 5)).astype(np.int32)
    calls: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("Conv", [four, w], {}),
        ("AveragePool", [four], {"kernel_shape": [2] * 4}),
        ("AveragePool", [four], {"kernel_shape": [2] * 4, "opset": 7}),
        ("LpPool", [four], {"kernel_shape": [2] * 4}),
        ("MaxPool", [four], {"kernel_shape": [2] * 4}),
        ("ConvTranspose", [four, w], {}),
        ("Conv", [whole, whole[:, :, :2, :2]], {}),
        ("GlobalMaxPool", [whole], {}),
        ("Col2Im", [whole.reshape(1, 2, 25).astype(np.uint16), np.array([25]), np.array([1])], {}),
    ]
    for op_type, inputs, attributes in calls:
        (got,) = evaluated(op_type, *inputs, **attributes)
        (wanted,) = evaluated(op_type, *inputs, new_ops=None, **attributes)
        assert got.dtype == wanted.dtype, op_type
        np.testing.assert_array_equal(got, wanted)
        assert fallbacks.pop() == op_type
    (got,) = evaluated("GlobalAveragePool", four)
    np.testing.assert_allclose(got, four.mean((2, 3, 4, 5), keepdims=True), 1e-5)
    assert fallbacks == []


def test_attributes_may_be_those_of_a_function() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"])
    node.attribute.add(name="kernel_shape", type=onnx.AttributeProto.INTS, ref_attr_name="taps")
    opset = helper.make_opsetid("", 22)
    function = helper.make_function("own", "pool", ["x"], ["y"], [node], [opset], ["taps"])
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    evaluator = ReferenceEvaluator(function, new_ops=ops)
    got = evaluator.run(None, {"x": x}, attributes={"taps": [3, 3]})
    np.testing.assert_array_equal(got[0], [[[[10, 11], [14, 15]]]])


X, W = np.ones((1, 2, 6, 6), np.float32), np.ones((2, 2, 3, 3), np.float32)
BYTES, ZERO = np.ones((1, 2, 6, 6), np.uint8), np.uint8(0)
PLACES = np.arange(4).reshape(1, 1, 2, 2)
#: Function, arguments, attributes, what the error says.
WRONG: list[tuple[Any, list[Any], dict[str, Any], str]] = [
    (operators.conv, [X, W], {"auto_pad": "SAME"}, "auto_pad must be 'NOTSET'"),
    (operators.conv, [X, W], {"strides": [1]}, "strides must be 2 integers"),
    (operators.conv, [X, W], {"strides": [0, 1]}, "strides must be positive"),
    (operators.conv, [X, W], {"strides": [1.0, 1]}, "strides must be an integer"),
    (operators.conv, [X, W], {"pads": [1, 1]}, "pads must be 4 integers"),
    (operators.conv, [X, W], {"pads": [0, 0, 0, -1]}, "pads must be non-negative"),
    (operators.conv, [X, W], {"dilations": 1}, "dilations must be 2 integers"),
    (operators.conv, [X, W], {"kernel_shape": [2, 3]}, "kernel_shape must be that of W"),
    (operators.conv, [X, W], {"group": 2}, "the weight must have in-channels / groups"),
    (operators.conv, [X[0], W], {}, "W must have as many axes as X"),
    (operators.conv, [X[0, 0], W], {}, "one to 3 spatial axes"),
    (operators.conv_transpose, [X, W], {"output_shape": [9]}, "output_shape must be 2 integers"),
    (operators.conv_transpose, [X, W], {"output_padding": [1, 1]}, "output_padding"),
    (operators.max_pool, [X], {"kernel_shape": [3]}, "kernel_shape must be 2 integers"),
    (operators.max_pool, [X], {"kernel_shape": [7, 3]}, "kernel must fit the padded input"),
    (operators.max_pool, [X], {"kernel_shape": [2, 2], "pads": [2, 0, 0, 0]}, "less than the wi"),
    (operators.max_pool, [X], {"kernel_shape": [2, 2], "ceil_mode": 2}, "ceil_mode must be 0 or"),
    (operators.max_pool, [X], {"kernel_shape": [2, 2], "storage_order": 3}, "storage_order must"),
    (operators.average_pool, [X], {"kernel_shape": [2, 2], "count_include_pad": -1}, "count_incl"),
    (operators.lp_pool, [X], {"kernel_shape": [2, 2], "p": 0}, "p must be positive"),
    (operators.lp_pool, [BYTES], {"kernel_shape": [2, 2]}, "takes float16"),
    (operators.global_lp_pool, [X], {"p": float("nan")}, "p must be"),
    (operators.global_average_pool, [X[:, :, :0]], {}, "none but the first empty"),
    (operators.global_max_pool, [X[0, 0]], {}, "batch, channels and spatial axes"),
    (operators.max_unpool, [X, PLACES], {"kernel_shape": [2, 2]}, "in the shape of X"),
    (operators.max_unpool, [PLACES, PLACES + 6], {"kernel_shape": [2, 2]}, "from 0 to 8, got 9"),
    (operators.max_unpool, [PLACES, PLACES - 1], {"kernel_shape": [2, 2]}, "from 0 to 8, got -1"),
    (operators.max_unpool, [PLACES, PLACES, [1, 1, 2, 2]], {"kernel_shape": [2, 2]}, "at least"),
    (operators.conv_integer, [X, BYTES], {}, "X must be int8 or uint8"),
    (operators.conv_integer, [BYTES, BYTES, np.int8(0)], {}, "must have the dtype uint8"),
    (operators.conv_integer, [BYTES, BYTES, np.zeros(3, np.uint8)], {}, "must be a scalar"),
    (
        operators.qlinear_conv,
        [BYTES, 1.0, ZERO, BYTES, 1.0, ZERO, 0.0, ZERO],
        {},
        "must be finite",
    ),
    (
        operators.qlinear_conv,
        [BYTES, 1.0, ZERO, BYTES, 1.0, ZERO, 1.0, ZERO, X[0, 0, 0]],
        {},
        "B must be int32",
    ),
    (operators.deform_conv, [X, W, X], {}, "offset must have shape (1, 18, 4, 4)"),
    (
        operators.deform_conv,
        [X, W, np.zeros((1, 18, 4, 4)), None, X],
        {},
        "mask must have shape (1, 9, 4, 4)",
    ),
    (
        operators.deform_conv,
        [X, W, np.zeros((1, 54, 4, 4))],
        {"offset_group": 3},
        "offset_group must divide the 2 channels",
    ),
    (operators.col2im, [X, [6, 6], [3, 3]], {}, "three axes"),
    (operators.col2im, [X[0], [7], [5]], {}, "multiple of the 5 taps"),
    (operators.col2im, [X[0], [7], [3]], {}, "5 = 5 windows"),
]


@pytest.mark.parametrize(("function", "inputs", "attributes", "message"), WRONG)
def test_wrong_arguments(
    function: Any, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        function(*inputs, **attributes)
    assert message in str(caught.value)


def test_the_evaluator_raises_as_well() -> None:
    with pytest.raises(ValueError, match="MaxPool: padding must be less than the window spans"):
        evaluated("MaxPool", X, kernel_shape=[2, 2], pads=[2, 0, 0, 0])


def test_inputs_stay_as_they_are() -> None:
    x, w = X.copy(), W.copy()
    x.flags.writeable = w.flags.writeable = False
    reversed_rows = x[:, :, ::-1]
    for op_type, inputs, attributes in [
        ("Conv", [reversed_rows, w], {}),
        ("LpPool", [reversed_rows], {"kernel_shape": [2, 2]}),
        ("MaxPool", [reversed_rows], {"kernel_shape": [2, 2]}),
        ("GlobalLpPool", [reversed_rows], {}),
    ]:
        evaluated(op_type, *inputs, **attributes)
    np.testing.assert_array_equal(x, X)


def test_functions_need_no_onnx_and_the_classes_say_what_installs_it(tmp_path: Path) -> None:
    program = """if True:
        import sys
        class Away:
            def find_spec(name, *_):
                if name == "onnx":
                    raise ModuleNotFoundError("taken away", name="onnx")
        sys.meta_path.insert(0, Away)
        import numpy as np, cnnfast
        x = np.ones((1, 1, 4, 4), np.float32)
        print(cnnfast.onnx.operators.max_pool(x, kernel_shape=[2, 2]).shape)
        try:
            cnnfast.onnx.ops
        except ModuleNotFoundError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "(1, 1, 3, 3)", "cnnfast.onnx needs onnx: pip install 'cnnfast[onnx]'",
    ]  # fmt: skip
