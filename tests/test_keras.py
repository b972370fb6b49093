"""Layers and models of Keras' NumPy backend on cnnfast, beside Keras itself on torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_layers import ROUNDING, Results, cases
from keras_models import MODELS
from keras_processes import VERSIONS, needs_keras, needs_torch, python

HERE = Path(__file__).resolve().parent

pytestmark = needs_keras


def load(path: Path) -> Results:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def layers(home: Path, backend: str, keras: Path | None = None) -> Results:
    program = str(HERE / "keras_layers.py")
    done = python(program, "results.npz", home=home, backend=backend, keras=keras)
    assert done.returncode == 0, done.stderr
    return load(home / "results.npz")


@pytest.fixture(scope="module")
def on_torch(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of the installed Keras' torch backend, which has Keras' semantics in PyTorch."""
    return layers(tmp_path_factory.mktemp("torch"), "torch")


@pytest.fixture(scope="module", params=VERSIONS)
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return layers(tmp_path_factory.mktemp("own"), "numpy", request.param)


@needs_torch
def test_layers_compute_what_they_do_on_torch(on_torch: Results, own: Results) -> None:
    # Adaptive pools came with Keras 3.13.
    assert all(name.startswith("Adaptive") for name in on_torch.keys() - own.keys())
    assert len(own) >= 350
    for name, kind, keywords, shape in cases():
        if name not in own or (kind.startswith("Average") and keywords["padding"] == "same"):
            continue  # Keras' torch backend counts padding that lies on one side: below
        expected = on_torch[name]
        if keywords.get("dtype", "float32") not in ("float32", "float64"):
            expected = rounded(expected, keywords["dtype"].removeprefix("mixed_"))
        assert own[name].shape == expected.shape, (name, shape)
        if keywords.get("activation") in ROUNDING or "Average" in kind:
            # Of the largest value: torch's gelu loses digits where it is close to zero.
            bound = 4 * np.finfo(np.float32).eps * np.abs(expected).max()
            np.testing.assert_allclose(own[name], expected, 0, bound, err_msg=name)
        else:
            np.testing.assert_array_equal(own[name], expected, name)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    return values.astype(dtype).astype(np.float64)


def test_pools_with_same_padding_leave_it_out(own: Results) -> None:
    """Beside windows of a copy that is padded with NaN, an odd one after the input."""
    checked = 0
    for name, kind, keywords, shape in cases():
        if "Pooling" not in kind or keywords.get("padding") != "same" or "dtype" in keywords:
            continue
        x = np.random.default_rng(7).integers(-4, 5, shape).astype(np.float64)
        first = keywords["data_format"] == "channels_first"
        result = own[name] if first else np.moveaxis(own[name], -1, 1)
        expected = pooled(x if first else np.moveaxis(x, -1, 1), kind, keywords)
        np.testing.assert_allclose(result, expected, 1e-6, err_msg=name)
        checked += 1
    assert checked == 2 * 2 * 3 * 4  # kinds, layouts, ranks, windows


def pooled(x: np.ndarray, kind: str, keywords: dict) -> np.ndarray:
    size = keywords["pool_size"]
    stride = keywords.get("strides", size)
    totals = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:]]
    widths = [(0, 0), (0, 0), *((total // 2, total - total // 2) for total in totals)]
    x = np.pad(x, widths, constant_values=np.nan)
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size,) * len(axes), axes)
    windows = windows[(..., *(slice(None, None, stride),) * len(axes), *(slice(None),) * len(axes))]
    reduce = np.nanmax if kind.startswith("Max") else np.nanmean
    return reduce(windows, tuple(range(-len(axes), 0)))


@needs_torch
@pytest.mark.parametrize("keras", VERSIONS)
def test_models_that_torch_saved_load_predict_and_save(keras: Path | None, tmp_path: Path) -> None:
    program = str(HERE / "keras_models.py")
    for backend in ("torch", "numpy"):
        done = python(program, str(tmp_path), home=tmp_path, backend=backend, keras=keras)
        assert done.returncode == 0, done.stderr
    for name in MODELS:
        torch, own = (load(tmp_path / f"{name}.{backend}.npz") for backend in ("torch", "numpy"))
        assert torch.keys() == own.keys()
        for key, expected in torch.items():
            scale = np.abs(expected).max()
            np.testing.assert_allclose(own[key], expected, 1e-5, 1e-5 * scale, err_msg=name)
