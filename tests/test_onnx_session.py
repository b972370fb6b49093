"""What ``cnnfast.onnx.run`` takes, refuses and remembers; what onnx's evaluator computes."""

from __future__ import annotations

import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="pip install 'cnnfast[onnx]'")
pytest.importorskip("onnxruntime", reason="what results are compared with")

from onnx import TensorProto, helper, numpy_helper, parser  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from cnnfast.onnx import Session, run  # noqa: E402

from onnx_graphs import (  # noqa: E402
    SHAPE,
    assert_like_runtime,
    drawn,
    feeds_of,
    model_of,
    node,
)

TWO_INPUTS = parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3] a, int64[2] b) => (float[N, 3] c, float[N, 3] d)
<float[3] w = {1, 2, 3}> { c = Mul(a, w)
    f = Cast <to = 1> (b)
    s = ReduceSum <keepdims = 0> (f)
    d = Add(c, s) }""")
A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([4, 5])
#: Its weights are inputs as well, as all were before ONNX's IR version 4.
OVERRIDABLE = parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
g (float[1, 1, 3, 3] x, float[1, 1, 2, 2] w, float[1] b) => (float[1, 1, 2, 2] y)
<float[1, 1, 2, 2] w = {1, 1, 1, 1}, float[1] b = {0}> { c = Conv(x, w, b)
    y = Relu(c) }""")


def test_inputs_by_name_and_in_order() -> None:
    for inputs in ({"b": B, "a": A}, [A, B], (A, B)):
        c, d = run(TWO_INPUTS, inputs)
        np.testing.assert_array_equal(c, A * [1, 2, 3])
        np.testing.assert_array_equal(d, A * [1, 2, 3] + 9)
    session = Session(TWO_INPUTS)
    assert session.inputs == ("a", "b")
    assert session.outputs == ("c", "d")


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        ({"a": A}, ValueError, r"inputs \['b'\] are missing, got \['a'\]"),
        ({"a": A, "b": B, "z": B}, ValueError, r"'z' is no input of the model, .*\['a', 'b'\]"),
        ({"a": A, "b": B, 3: B}, ValueError, "3 is no input of the model"),
        ({"a": A, "b": B, "c": A}, ValueError, "'c' is no input"),
        ([A], ValueError, r"the model has 2 inputs, \['a', 'b'\], got 1"),
        ([A, B, B], ValueError, "2 inputs.*got 3"),
        (A, TypeError, "must be a mapping from names to arrays, or a list or tuple.*ndarray"),
        (None, TypeError, "must be a mapping.*NoneType"),
        ([A.astype(np.float64), B], TypeError, "a must have dtype float32, got float64"),
        ([A, B.astype(np.int32)], TypeError, "b must have dtype int64, got int32"),
        ([A[:, :2], B], ValueError, r"a must have shape \(N, 3\), got \(2, 2\)"),
        ([A[0], B], ValueError, r"a must have shape \(N, 3\), got \(3,\)"),
        ([A, B[:1]], ValueError, r"b must have shape \(2\), got \(1,\)"),
        ([np.ma.masked_array(A), B], TypeError, "a must not be a masked array"),
        ([[[1, 2], [3]], B], ValueError, "a must be an array of one shape"),
    ],
)
def test_wrong_inputs(inputs: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        run(TWO_INPUTS, inputs)


def test_inputs_of_any_strides_and_byte_order() -> None:
    model = model_of([node("Conv", "x w", "c"), node("Relu", "c", "y")], ["y"],
                     {"w": drawn(6, 4, 3, 3)})  # fmt: skip
    x = drawn(*SHAPE)
    expected = run(model, [x])[0]
    wide = np.zeros((2, 4, 18, 8), np.float32)
    wide[:, :, ::2] = x
    x.flags.writeable = False
    for other in (wide[:, :, ::2], np.asfortranarray(x), x.astype(">f4"), x):
        np.testing.assert_array_equal(run(model, [other])[0], expected)


def test_results_are_memory_of_their_own() -> None:
    nodes = [
        node("Identity", "x", "same"),
        node("Reshape", "x shape", "flat"),
        node("Identity", "k", "constant"),
        node("Relu", "x", "r"),
        node("Flatten", "r", "f"),
    ]
    constants = {"shape": np.array([-1]), "k": drawn(3)}
    model = model_of(nodes, ["same", "flat", "constant", "x", "r", "f", "r"], constants)
    feeds = feeds_of(model)
    results = Session(model).run(feeds)
    for at, result in enumerate(results):
        others = [*results[:at], *results[at + 1 :], feeds["x"]]
        assert not any(np.may_share_memory(result, other) for other in others)
        assert result.flags.writeable


def test_initializers_that_are_inputs_may_be_replaced() -> None:
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    w, b = np.full((1, 1, 2, 2), 2, np.float32), np.array([-20], np.float32)
    session = Session(OVERRIDABLE)
    assert session.inputs == ("x",)
    plain = np.array([[[[8, 12], [20, 24]]]], np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(session.run([x])[0], plain)
        np.testing.assert_array_equal(session.run({"x": x, "w": w})[0], 2 * plain)
        np.testing.assert_array_equal(
            session.run({"x": x, "w": w, "b": b})[0], np.maximum(2 * plain - 20, 0)
        )
    with pytest.raises(ValueError, match=r"w must have shape \(1, 1, 2, 2\), got \(1, 1, 3, 3\)"):
        session.run({"x": x, "w": x})


def test_models_as_bytes_and_files(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(TWO_INPUTS, str(path))
    for model in (TWO_INPUTS, TWO_INPUTS.SerializeToString(), path, str(path)):
        np.testing.assert_array_equal(run(model, [A, B])[0], A * [1, 2, 3])
    onnx.save_model(model_of([node("Neg", "x", "y")], ["y"], inputs={"x": (2,)}), str(path))
    np.testing.assert_array_equal(run(path, [A[0, :2]])[0], -A[0, :2])


def test_weights_beside_the_file(tmp_path: Path) -> None:
    model = model_of([node("Conv", "x w", "y")], ["y"], {"w": drawn(64, 4, 3, 3)})
    expected = run(model, feeds_of(model))[0]
    path = tmp_path / "model.onnx"
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    onnx.save_model(kept, str(path), save_as_external_data=True, location="w", size_threshold=0)
    np.testing.assert_array_equal(run(path, feeds_of(model))[0], expected)


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        (3, TypeError, "model must be an onnx.ModelProto, bytes or a path, got builtins.int"),
        (b"", ValueError, "bytes can't be read as an ONNX model: there is no graph in it"),
        (b"no model", ValueError, "bytes can't be read as an ONNX model"),
        ("no/such/file.onnx", FileNotFoundError, "no/such/file.onnx"),
    ],
)
def test_wrong_models(model: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        run(model, [])


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs onnx: pip install 'cnnfast\[onnx\]'"):
        Session(b"")


def test_a_graph_with_loose_ends() -> None:
    with pytest.raises(ValueError, match=r"Add 'to y' reads 'z', which is no input or initializer"):
        Session(model_of([node("Add", "x z", "y")], ["y"]))
    with pytest.raises(ValueError, match="no node gives the graph's output 'q'"):
        Session(model_of([node("Relu", "x", "y")], ["q"]))
    late = model_of([node("Relu", "a", "y"), node("Relu", "x", "a")], ["y"])
    with pytest.raises(ValueError, match="reads 'a', which is no input"):
        Session(late)


def test_a_step_that_fails_says_which() -> None:
    model = model_of([node("Conv", "x w", "y")], ["y"], {"w": drawn(6, 3, 3, 3)})
    with pytest.raises(ValueError, match="groups") as caught:
        run(model, feeds_of(model))
    assert caught.value.__notes__ == ["while computing Conv 'to y'"]


def test_models_that_ran_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnfast.onnx import _session

    prepared: list[Any] = []
    real = _session._loaded
    monkeypatch.setattr(_session, "_loaded", lambda model: prepared.append(model) or real(model))
    monkeypatch.setattr(_session, "_sessions", [])
    models = [model_of([node("Relu", "x", "y")], ["y"], inputs={"x": (n,)}) for n in range(1, 6)]
    for n, model in enumerate(models[:4], 1):
        for _ in range(3):
            run(model, [drawn(n)])
    assert len(prepared) == 4
    run(models[0], [drawn(1)])
    run(models[4], [drawn(5)])  # takes the place of the one that was not used for longest
    run(models[0], [drawn(1)])
    assert len(prepared) == 5
    run(models[1], [drawn(2)])
    assert len(prepared) == 6


def test_threads_share_a_session() -> None:
    nodes = [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "r"),
             node("Concat", "c r x", "y", axis=1)]  # fmt: skip
    model = model_of(nodes, ["y"], {"w": drawn(6, 4, 3, 3)}, {"x": (1, 4, 30, 30)})
    session, images = Session(model), [drawn(1, 4, 30, 30, seed=n) for n in range(4)]
    expected = [Session(model).run([image])[0] for image in images]
    wrong: list[int] = []

    def work(at: int) -> None:
        results = [session.run([images[at]])[0] for _ in range(30)]
        wrong.extend(at for result in results if not np.array_equal(result, expected[at]))

    threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_branches_and_loops_read_the_graph_around_them() -> None:
    """The result that an inner graph reads is neither overwritten nor fused away."""
    model = parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
    g (float[1, 1, 4, 4] x, bool up, int64 n) => (float[1, 1, 3, 3] y, float[1, 1, 3, 3] z)
    <float[1, 1, 2, 2] w = {1, -2, 3, -4}> {
        c = Conv(x, w)
        r = Relu(c)
        y = If (up) <then_branch = more () => (float[1, 1, 3, 3] t) { t = Add(c, r) },
                     else_branch = less () => (float[1, 1, 3, 3] e) { e = Sub(c, r) }>
        yes = Constant <value = bool {1}> ()
        z = Loop (n, yes, r) <body = twice (int64 i, bool go, float[1, 1, 3, 3] before)
            => (bool on, float[1, 1, 3, 3] after) { on = Identity(go)
                after = Add(before, c) }>
    }""")
    x = drawn(1, 1, 4, 4)
    for up in (True, False):
        assert_like_runtime(model, {"x": x, "up": np.array(up), "n": np.array(3)})
    by = {time.step.split()[0]: time.by for time in
          Session(model).profile({"x": x, "up": np.array(True), "n": np.array(2)})}  # fmt: skip
    assert by == {"Conv": "cnnfast", "Relu": "cnnfast", "If": "onnx.reference",
                  "Loop": "onnx.reference"}  # fmt: skip


def test_operators_of_onnx_own_evaluator() -> None:
    nodes = [
        node("Conv", "x w", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("InstanceNormalization", "c s h", "i"),
        node("HardSwish", "i", "k"),
        node("ReduceMean", "k", "m", axes=[2, 3]),
        node("TopK", "m n", "top which", axis=1),
    ]
    constants = {"w": drawn(6, 4, 3, 3), "s": drawn(6), "h": drawn(6), "n": np.array([2])}
    model = model_of(nodes, ["top", "which"], constants)
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    assert_like_runtime(model)


def test_functions_of_the_model_are_written_out() -> None:
    model = parser.parse_model("""<ir_version: 8, opset_import: ["": 17, "own": 1]>
    g (float[1, 1, 4, 4] x) => (float[1, 1, 1, 1] y)
    <float[1, 1, 2, 2] w = {1, -2, 3, -4}, float[1, 1, 3, 3] t = {1, 2, 3, 4, 5, 6, 7, 8, 9}> {
        t__1 = own.layer <size = 1> (x, w)
        y = own.layer <size = 1> (t__1, t) }
    <domain: "own", opset_import: ["": 17]> layer <size> (p, k) => (q) {
        t = Conv <group: int = @size> (p, k)
        q = Relu(t) }""")
    assert_like_runtime(model, {"x": drawn(1, 1, 4, 4)})
    assert len(Session(model).profile({"x": drawn(1, 1, 4, 4)})) == 2


def test_functions_of_the_model() -> None:
    model = parser.parse_model("""<ir_version: 8, opset_import: ["": 17, "own": 1]>
    g (float[N] x) => (float[N] y) { a = own.double(x)
        y = Relu(a) }
    <domain: "own", opset_import: ["": 17]> double (p) => (q) { q = Add(p, p) }""")
    np.testing.assert_array_equal(run(model, [np.float32([-1, 2])])[0], np.float32([0, 4]))


def test_sequences_and_strings() -> None:
    strings = parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
    g (string[N] x, string[N] z) => (string[N] y) { y = StringConcat(x, z) }""")
    assert run(strings, [np.array(["a", "b"]), np.array(["c", "d"])])[0].tolist() == ["ac", "bd"]
    sequence = parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
    g (seq(float[2]) s) => (float[2] y, seq(float[2]) t) { one = Constant <value = int64 {1}> ()
        t = Identity(s)
        y = SequenceAt(t, one) }""")
    y, t = run(sequence, [[np.float32([1, 2]), np.float32([3, 4])]])
    np.testing.assert_array_equal(y, np.float32([3, 4]))
    assert len(t) == 2


def test_half_precision_and_double() -> None:
    for dtype, bound in ((np.float16, 2e-3), (np.float64, 1e-12)):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        nodes = [node("Conv", "x w b", "c"), node("BatchNormalization", "c b b b v", "n"),
                 node("Relu", "n", "y"), node("LRN", "y", "l", size=3)]  # fmt: skip
        given = {"w": drawn(6, 4, 3, 3), "b": drawn(6), "v": np.ones(6)}
        model = model_of(nodes, ["y", "l"], {k: a.astype(dtype) for k, a in given.items()})
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = kind
        x = drawn(*SHAPE).astype(dtype)
        nodes[1].attribute.append(helper.make_attribute("training_mode", 0))
        y, local = run(model, [x])
        wide = {k: a.astype(np.float64) for k, a in given.items()}
        plain = model_of(nodes[:3], ["y"], wide)
        plain.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
        expected = ReferenceEvaluator(plain).run(None, {"x": x.astype(np.float64)})[0]
        assert y.dtype == dtype
        assert local.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=0, atol=bound * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["node", "simple", "pytorch-converted", "pytorch-operator"])
def test_whatever_onnx_evaluator_computes(kind: str) -> None:
    """The onnx package's own test cases: where its evaluator gives what they say, so does a
    session, to the precision of the dtype."""
    pytest.importorskip("onnx", minversion="1.23", reason="earlier versions store wrong means")
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx's own, while it makes and computes the cases
        cases = [
            case
            for test in load_model_tests(kind=kind)
            if "bernoulli" not in test.name
            for case in _cases(test)
        ]
        failed = [name for name, *case in cases if _evaluated(*case) and not _computed(*case)]
    assert len(cases) > 20
    assert not failed


def _cases(test: Any) -> list[Any]:
    """(name, model, inputs, outputs) of each data set."""
    if test.model_dir is None:
        return [
            (test.name, test.model, dict(zip(_names(test.model), a, strict=False)), b)
            for a, b in test.data_sets
        ]
    folder = Path(test.model_dir)
    model = onnx.load_model(str(folder / "model.onnx"))
    return [
        (test.name, model, dict(_stored(data, "input", model.graph.input)),
         [value for _, value in _stored(data, "output", model.graph.output)])
        for data in sorted(folder.glob("test_data_set_*"))
    ]  # fmt: skip


def _names(model: Any) -> list[str]:
    return [value.name for value in model.graph.input]


def _stored(folder: Path, what: str, values: Any) -> list[tuple[str, Any]]:
    found = []
    for at, value in enumerate(values):
        path = folder / f"{what}_{at}.pb"
        if path.exists():
            found.append((value.name, _decoded(path.read_bytes(), value.type)))
    return found


def _decoded(raw: bytes, kind: Any) -> Any:
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(raw))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(raw))
    return numpy_helper.to_array(onnx.TensorProto.FromString(raw))


def _evaluated(model: Any, inputs: Any, outputs: Any) -> bool:
    try:
        return _alike(ReferenceEvaluator(model).run(None, inputs), outputs)
    except Exception:
        return False


def _computed(model: Any, inputs: Any, outputs: Any) -> bool:
    return _alike(Session(model).run(inputs), outputs)


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    if ours is None or theirs is None:
        return ours is theirs
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.dtype.kind in "OUST":
        return a.tolist() == b.tolist()
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    # float16 and narrower: two units in the last place where a softmax is computed in float32.
    bound = 1e-3 if a.itemsize > 2 or a.dtype.kind in "iub" else 2e-2
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    return np.allclose(a.astype(wide), b.astype(wide), rtol=bound, atol=1e-5 + bound / 10,
                       equal_nan=True)  # fmt: skip
