"""What ``cnnfast.keras.install`` changes, refuses and leaves behind."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import cnnfast
from cnnfast.benchmarks.drop_ins import keras_predict

from keras_processes import (
    INSTALL,
    ONES,
    VERSIONS,
    error,
    needs_keras,
    needs_torch,
    printed,
    python,
    without_jax,
)

pytestmark = needs_keras


@without_jax
@pytest.mark.parametrize("keras", VERSIONS)
def test_jax_stays_missing_to_everyone_else(keras: Path | None, tmp_path: Path) -> None:
    code = (
        "import importlib.util\n"
        f"{INSTALL} import keras\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('jax', 'jaxlib')])\n"
        "print([name for name in sys.modules if name.startswith('keras.src.backend.jax')])\n"
        "print(importlib.util.find_spec('jax'))\n"
        "try:\n    import jax\n"
        "except ModuleNotFoundError as error:\n    print(error.name)\n"
        "from keras.src.backend.numpy import nn\n"
        "print(type(nn.__spec__.loader).__name__, nn.__loader__ is nn.__spec__.loader)\n"
    )
    out = printed(code, tmp_path, keras=keras).splitlines()
    assert out == ["[]", "[]", "None", "jax", "SourceFileLoader True"]


@without_jax
@pytest.mark.parametrize("keras", VERSIONS)
def test_uninstall_leaves_nothing_behind_and_says_what_is_missing(
    keras: Path | None, tmp_path: Path
) -> None:
    code = (
        "import builtins; before = builtins.__import__\n"
        f"{INSTALL} cnnfast.keras.install(); import keras; {ONES}\n"
        "from keras.src.backend.numpy import core, nn\n"
        "layers = keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv2DTranspose\n"
        "changed = [nn.conv, nn.max_pool, core.Variable.__array__, *(x.call for x in layers)]\n"
        "model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)])\n"
        "own = model.predict(ones, verbose=0)\n"
        "cnnfast.keras.uninstall(); cnnfast.keras.uninstall()\n"
        "finders = [type(finder).__module__ for finder in sys.meta_path]\n"
        "print(builtins.__import__ is before and not [x for x in finders if 'keras' in x])\n"
        "found = [nn.conv, nn.max_pool, core.Variable.__array__, *(x.call for x in layers)]\n"
        "print([getattr(f, '__module__').split('.')[0] for f in [*changed, *found]])\n"
        "ops = keras.ops\n"
        "for call in (lambda: ops.max_pool(ones, 2, 2), lambda: ops.conv(ones, ones)):\n"
        "    try:\n        call()\n"
        "    except NotImplementedError as error:\n        print(error)\n"
        "cnnfast.keras.install()\n"
        "print((model.predict(ones, verbose=0) == own).all())\n"
    )
    restored, homes, *messages, again = printed(code, tmp_path, keras=keras).splitlines()
    assert (restored, again) == ("True", "True")
    assert ast.literal_eval(homes) == ["cnnfast"] * 6 + ["keras"] * 6
    assert len(messages) == 2
    for message, name in zip(messages, ("reduce_window", "ConvDimensionNumbers"), strict=True):
        assert f"jax.lax.{name}" in message
        assert "pip install jax" in message


@without_jax
def test_install_after_an_import_that_failed(tmp_path: Path) -> None:
    code = (
        "try:\n    import keras\n"
        "except ModuleNotFoundError as error:\n    print(error.name)\n"
        f"{INSTALL} import keras; {ONES} print(keras.ops.max_pool(ones, 2).shape)"
    )
    assert printed(code, tmp_path) == "jax\n(1, 2, 2, 1)\n"


@pytest.mark.parametrize("keras", VERSIONS)
def test_functions_that_jax_computed_work_or_say_so(keras: Path | None, tmp_path: Path) -> None:
    """All that Keras' NumPy backend takes from JAX but convolutions and pools."""
    code = (
        f"{INSTALL} import keras, numpy as np; {ONES}\n"
        "x = np.random.default_rng(0).random((2, 5, 6)).astype('float32')\n"
        "for name in ('fft', 'fft2'):\n"
        "    parts = getattr(keras.ops, name)((x, x[::-1].copy()))\n"
        "    expected = getattr(np.fft, name)(x + 1j * x[::-1].astype('float64'))\n"
        "    print(np.allclose(parts[0] + 1j * parts[1], expected, atol=1e-5), parts[0].dtype)\n"
        "try:\n    print(keras.ops.image.resize(ones, (2, 2)).shape)\n"
        "except NotImplementedError as error:\n    print(error)\n"
        "print(keras.ops.image.extract_patches(ones, 2).shape)\n"
    )
    *fft, resized, patches = printed(code, tmp_path, keras=keras).splitlines()
    assert fft == ["True float32"] * 2
    assert patches == "(1, 2, 2, 4)"
    if keras and keras.name in ("3.8", "3.9"):
        assert "jax.image.resize" in resized
        assert "pip install jax" in resized
    else:
        assert resized == "(1, 2, 2, 1)"


def test_with_jax_nothing_of_it_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="JAX isn't installed")
    code = (
        f"import keras; {INSTALL} {ONES} import jax\n"
        "from keras.src.backend.numpy import nn\n"
        "print(nn.jax is jax, nn.conv.__module__, keras.ops.max_pool(ones, 2, 2).shape)\n"
        "cnnfast.keras.uninstall()\n"
        "print(nn.conv.__module__, keras.ops.max_pool(ones, 2, 2).shape)\n"
    )
    assert printed(code, tmp_path).splitlines() == [
        "True cnnfast.keras._operations (1, 2, 2, 1)",
        "keras.src.backend.numpy.nn (1, 2, 2, 1)",
    ]


def test_a_layer_with_a_convolution_of_its_own_keeps_it(tmp_path: Path) -> None:
    code = (
        f"{INSTALL} import keras; {ONES}\n"
        "class Twice(keras.layers.Conv2D):\n"
        "    def convolution_op(self, inputs, kernel):\n"
        "        return 2 * super().convolution_op(inputs, kernel)\n"
        "layer = Twice(1, 2, kernel_initializer='ones', bias_initializer='ones')\n"
        "print(layer(ones).ravel()[0], layer(keras.Input((4, 4, 1))).shape)\n"
    )
    assert printed(code, tmp_path) == "9.0 (None, 3, 3, 1)\n"


def test_an_activation_may_be_any_callable(tmp_path: Path) -> None:
    code = (
        f"{INSTALL} import keras, dataclasses; {ONES}\n"
        "@dataclasses.dataclass\n"  # equal by value, so that it has no hash
        "class Times:\n"
        "    factor: float\n"
        "    def __call__(self, x): return x * self.factor\n"
        "layer = keras.layers.Conv2D(1, 2, activation=Times(3), kernel_initializer='ones')\n"
        "print(layer(ones).ravel()[0])\n"
    )
    assert printed(code, tmp_path) == "12.0\n"


CORNERS = (
    INSTALL
    + """
import keras, numpy as np
from keras import ops
x = np.arange(16).reshape(1, 4, 4, 1)
def show(result):
    print(result.shape, result.dtype, result.ravel()[:3].tolist())
for dtype in ("int32", "int8"):
    show(ops.conv(x.astype(dtype) * 9, np.ones((2, 2, 1, 1), dtype)))
    show(ops.average_pool(x.astype(dtype), 2))
    show(ops.max_pool(x.astype(dtype), 2, 1, "same"))
show(ops.max_pool(np.array([[[1.0], [np.nan], [2.0], [3.0]]]), 2))
show(ops.conv(np.ones((0, 4, 4, 1)), np.ones((2, 2, 1, 1))))
show(ops.conv(x.tolist(), np.ones((2, 2, 1, 1), "int32")))
show(ops.conv(x.astype("int32"), np.ones((2, 2, 1, 1), "float32")))
show(ops.conv_transpose(x.astype("float16"), np.ones((2, 2, 1, 1), "int64")))
small = np.ones((1, 4, 2))
calls = {
    "padding": lambda: ops.conv(small, np.ones((2, 2, 1)), padding="causal"),
    "channels": lambda: ops.conv(small, np.ones((2, 3, 1))),
    "depthwise": lambda: ops.depthwise_conv(small, np.ones((2, 3, 1))),
    "transposed": lambda: ops.conv_transpose(small, np.ones((2, 1, 3)), 2),
    "axes": lambda: ops.conv(small, np.ones((2, 2, 2, 1))),
    "4 axes": lambda: ops.max_pool(np.ones((1, 2, 2, 2, 2, 1)), 2),
    "size": lambda: ops.conv(small, np.ones((5, 2, 1))),
    "stride": lambda: ops.conv(small, np.ones((2, 2, 1)), strides=0),
}
for name, call in calls.items():
    try:
        call()
    except ValueError as error:
        print(name, "refused:", error)
"""
)


def test_corners_are_as_on_jax_and_bad_arguments_are_refused(tmp_path: Path) -> None:
    """Integers keep their dtype and wrap around, but for means."""
    lines = printed(CORNERS, tmp_path).splitlines()
    assert lines[:11] == [
        "(1, 3, 3, 1) int32 [90, 126, 162]",
        "(1, 2, 2, 1) float64 [2.5, 4.5, 10.5]",
        "(1, 4, 4, 1) int32 [5, 6, 7]",
        "(1, 3, 3, 1) int8 [90, 126, -94]",
        "(1, 2, 2, 1) float64 [2.5, 4.5, 10.5]",
        "(1, 4, 4, 1) int8 [5, 6, 7]",
        "(1, 2, 1) float64 [nan, 3.0]",
        "(0, 3, 3, 1) float64 []",
        "(1, 3, 3, 1) int32 [10, 14, 18]",
        "(1, 3, 3, 1) float32 [10.0, 14.0, 18.0]",
        "(1, 5, 5, 1) float16 [0.0, 1.0, 3.0]",
    ]
    refused = dict(line.split(" refused: ") for line in lines[11:])
    assert refused["padding"] == "padding must be 'valid' or 'same', got 'causal'"
    assert "inputs (1, 4, 2) in NWC and kernel (2, 3, 1)" in refused["channels"]
    assert "kernel must have the input's axes and channels" in refused["depthwise"]
    assert "kernel must have the input's axes and channels" in refused["transposed"]
    assert "inputs (1, 4, 2) in NWC and kernel (2, 2, 2, 1)" in refused["axes"]
    assert refused["4 axes"].startswith("max_pool takes inputs of 1 to 3 spatial axes")
    assert "kernel must fit the padded input" in refused["size"]
    assert refused["stride"] == "conv1d: stride must be positive, got 0"


@without_jax
def test_a_benchmark_without_jax_has_no_rows_and_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CNNFAST_JAX_PYTHON", raising=False)
    assert keras_predict.rows(0.1, 1) == []
    assert "No module named 'jax'" in capsys.readouterr().out


def test_another_backend_is_refused(tmp_path: Path) -> None:
    message = error(INSTALL, tmp_path, "torch")
    assert message.startswith("RuntimeError: cnnfast.keras.install() serves Keras' NumPy backend")
    assert "'torch'" in message
    assert "KERAS_BACKEND=numpy" in message
    assert "'tensorflow'" in error(INSTALL, tmp_path, None)
    (tmp_path / "keras.json").write_text('{"backend": "numpy"}')
    assert printed(f"{INSTALL} print('installed')", tmp_path, None) == "installed\n"


@needs_torch
def test_keras_that_was_loaded_with_another_backend_is_refused(tmp_path: Path) -> None:
    assert "Keras is loaded with 'torch'" in error(f"import keras; {INSTALL}", tmp_path, "torch")


@pytest.mark.parametrize("version", ["3.7.0", "3.16.0.dev1", "4.1", "2.15.0"])
def test_a_version_that_is_not_tested_is_refused(version: str, tmp_path: Path) -> None:
    folder = tmp_path / "site" / f"keras-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: keras\nVersion: {version}\n")
    message = error(INSTALL, tmp_path, keras=folder.parent)
    assert re.fullmatch(
        r"RuntimeError: cnnfast.keras is tested with Keras >= \d\.\d+, < \d\.\d+, and this is "
        rf"Keras {re.escape(version)}: pip install 'keras>=\d\.\d+,<\d\.\d+'",
        message,
    )


def test_without_keras_the_extra_is_named(tmp_path: Path) -> None:
    """A process without site-packages, in which NumPy and cnnfast are linked to."""
    packages = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs"):
        (tmp_path / name).symlink_to(packages / name)
    (tmp_path / "cnnfast").mkdir()
    parts = [*Path(cnnfast.__file__).parent.iterdir(), Path(cnnfast.kernels.__file__).parent]
    for part in {part.name: part for part in parts}.values():
        (tmp_path / "cnnfast" / part.name).symlink_to(part)
    done = python("-S", "-c", INSTALL, home=tmp_path, keras=tmp_path)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: cnnfast.keras needs keras: pip install 'cnnfast[keras]'"
    )
