"""Files of arrays: whole or refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnfast import layers as L

from layer_cases import CASES, made


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_state_comes_back_from_a_file(tmp_path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    layer, x = made("sequential")
    path = tmp_path / f"weights{suffix}"
    layer.save(path)
    other = CASES["sequential"][0]()
    for array in other.params.values():
        array += 1
    other.load(path)
    np.testing.assert_array_equal(other(x), layer(x))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_broken_files_are_refused(tmp_path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    layer, _ = made("conv2d")
    path = tmp_path / f"weights{suffix}"
    layer.save(path)
    whole = path.read_bytes()
    before = {key: value.copy() for key, value in layer.params.items()}
    for size in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"isn't a whole"):
            layer.load(path)
    evil = {"weight": np.array([print, None], dtype=object)}
    with path.open("wb") as file:
        np.savez(file, **evil)
    with pytest.raises(ValueError, match=r"isn't a whole"):
        layer.load(path)
    with pytest.raises(FileNotFoundError):
        layer.load(tmp_path / f"none{suffix}")
    with pytest.raises(ValueError, match=r"ends in .npz or .safetensors"):
        layer.load(tmp_path / "weights.pkl")
    for key, value in layer.params.items():
        np.testing.assert_array_equal(value, before[key])


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, _ = made("conv2d")
    path = tmp_path / "weights.npz"
    layer.save(path)
    before = path.read_bytes()

    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        layer.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("descr", ["<f2", "<i2", "|u1", "<i4", ">f4"])
def test_a_broken_header_is_refused(tmp_path: Path, descr: str) -> None:
    """Of a dtype that needs fewer bytes than are there, or of as many: never other weights."""
    layer, path = L.Linear(300, 200), tmp_path / "weights.npz"
    layer.save(path)
    path.write_bytes(path.read_bytes().replace(b"'<f4'", f"'{descr}'".encode(), 1))
    with pytest.raises(ValueError, match="isn't what was written"):
        layer.load(path)


def test_no_changed_byte_changes_a_weight(tmp_path: Path) -> None:
    layer, path = L.Linear(2, 2, rng=0), tmp_path / "weights.npz"
    layer.save(path)
    whole, state = path.read_bytes(), {k: v.copy() for k, v in layer.state_dict().items()}
    read = 0
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :])
        try:
            layer.load(path)
        except ValueError:
            continue
        read += 1  # bytes that nobody reads, such as dates
        for key, value in layer.state_dict().items():
            np.testing.assert_array_equal(value, state[key])
    assert read < len(whole) / 2


def test_what_holds_no_arrays_is_refused(tmp_path: Path) -> None:
    layer, path = L.Linear(2, 2), tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("weight", b"text")
        members.writestr("bias", b"text")
    with pytest.raises(ValueError, match="weight isn't an array"):
        layer.load(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="isn't a whole .npz file"):
        layer.load(path)
    with pytest.raises(TypeError, match="a must hold numbers or text, got object"):
        L.save_arrays(path, {"a": np.array([None])})


def test_an_error_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    path = tmp_path / "none" / "weights.npz"
    with pytest.raises(FileNotFoundError) as caught:
        L.Linear(2, 2).save(path)
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_bfloat16_comes_back(tmp_path: Path, suffix: str) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes", reason="ml_dtypes isn't installed").bfloat16
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path, layer = tmp_path / f"weights{suffix}", L.Linear(3, 2, dtype=bfloat16, rng=0)
    layer.save(path)
    other = L.Linear(3, 2, dtype=bfloat16, rng=1)
    other.load(path)
    for key, value in other.params.items():
        assert value.dtype == bfloat16
        np.testing.assert_array_equal(value, layer.params[key])
