"""``out`` is written by calls alone, and by none that is refused."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import cnnfast

from functions import FUNCTIONS, Function, arguments_of, title, values

pytestmark = pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")


@pytest.mark.parametrize("dtype_name", ["float32", "float16"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=title)
def test_explaining_leaves_out_alone(function: Function, dtype_name: str) -> None:
    """... though ``out`` is right: the call itself takes it, and an explained one with a wrong
    ``out`` fails as the call does."""
    arrays = values(function, np.dtype(dtype_name), False)
    keywords = {**arrays, **arguments_of(function, False)}
    if "activation" in inspect.signature(function.call).parameters:
        keywords["activation"] = "sigmoid"
    out = np.full_like(function.call(**keywords), 77)
    cnnfast.explain(function.name, **keywords, out=out)
    assert (out == 77).all()
    with pytest.raises(ValueError, match=f"{function.name}: out must have the result's shape"):
        cnnfast.explain(function.name, **keywords, out=out[None])
    assert function.call(**keywords, out=out) is out
    assert not (out == 77).any()


@pytest.mark.parametrize("dtype_name", ["float32", "float16"])
def test_explaining_a_neuron_or_two_steps_leaves_out_alone(dtype_name: str) -> None:
    dtype = np.dtype(dtype_name)
    out = np.full((1, 2, 3, 3), 77, dtype)
    x, deep, point = (np.ones(shape, dtype) for shape in ((1, 2, 4, 4), (2, 1, 2, 2), (2, 2, 1, 1)))
    cnnfast.explain("separable_conv2d", x, deep, point, activation="sigmoid", out=out)
    flat = out[0, 0, 0]
    cnnfast.explain("linear", np.ones((3, 4), dtype), np.ones(4, dtype), out=flat)
    assert (out == 77).all()


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("which", ["input", "depthwise_weight", "pointwise_weight", "bias"])
def test_out_of_a_separable_convolution_is_apart_from_all_inputs(
    which: str, activation: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before anything is written, of the first step's inputs as well."""
    ran: list[str] = []
    memory = np.arange(2 * 8 * 64 * 64, dtype=np.float32) % 7
    shapes = {
        "input": (1, 8, 64, 64), "depthwise_weight": (8, 1, 1, 1),
        "pointwise_weight": (8, 8, 1, 1), "bias": (8,),
    }  # fmt: skip
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    out = memory[: 8 * 64 * 64].reshape(1, 8, 64, 64)
    # For input all of out, then a part of it that begins in the middle of something else.
    for start in (0, 5):
        count = arrays[which].size
        shared = {**arrays, which: memory[start : start + count].reshape(shapes[which])}
        before = memory.copy()
        with monkeypatch.context() as patched:
            run = "cnnfast._core.prepared.PreparedConv.run"
            patched.setattr(run, lambda *_: ran.append("kernel"))
            with pytest.raises(ValueError, match="separable_conv2d: out must not share memory"):
                cnnfast.separable_conv2d(**shared, out=out, activation=activation)
        assert not ran
        np.testing.assert_array_equal(memory, before)
