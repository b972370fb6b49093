"""MNIST in IDX files, whole and broken."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from cnnfast import training
from cnnfast.training import idx

from mnist_files import idx_file, small_mnist


@pytest.mark.parametrize("end", ["", ".gz"])
def test_mnist(tmp_path: Path, end: str) -> None:
    images, labels = small_mnist(tmp_path, end)
    data = training.mnist(tmp_path)
    assert data.train_images.shape == (16, 1, 28, 28)
    assert data.test_labels.shape == (4,)
    idx_file(tmp_path / f"t10k-images.idx3-ubyte{end}", images[:7])
    idx_file(tmp_path / f"t10k-labels.idx1-ubyte{end}", labels[:7])
    data = training.mnist(tmp_path)
    assert np.array_equal(data.train_images[:, 0], images / np.float32(255))
    assert np.array_equal(data.test_labels, labels[:7])


def test_broken_idx_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold train-images-idx3-ubyte"):
        training.mnist(tmp_path)
    _, labels = small_mnist(tmp_path)
    path, labelled = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    whole = path.read_bytes()
    for broken, message in (
        (whole[:-1], "must hold 15680 bytes .*got 15679"),
        (whole + b"x", "got more"),
        (whole[:10], "ends within its header"),
        (b"", "magic number 2051 .*got 0"),
        (b"\x00\x00\x0d\x03" + whole[4:], "got 3331"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "bytes behind its header"),
        (struct.pack(">4I", 0x803, 1, 2, 2) + b"abcd", "28 x 28 pixels"),
        (struct.pack(">4I", 0x803, 0, 28, 28), "28 x 28 pixels"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=message) as error:
            training.mnist(tmp_path)
        assert str(path) in str(error.value)
    path.write_bytes(whole)
    for wrong, message in ((labels + 1, "labels from 0 to 9"), (labels[:5], "20 images and 5")):
        idx_file(labelled, wrong)
        with pytest.raises(ValueError, match=message):
            training.mnist(tmp_path)
    zipped = tmp_path / "broken.gz"
    for content in (whole, gzip.compress(whole)[:-9], gzip.compress(whole)[:400] + b"?" * 400):
        zipped.write_bytes(content)
        with pytest.raises(ValueError, match="can't read"):
            idx.read(zipped, 3)
