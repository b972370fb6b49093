"""The commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnfast
from cnnfast import cli
from cnnfast.kernels import KERNELS, registry


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A small photograph-like PNG."""
    pillow = pytest.importorskip("PIL.Image", reason="pillow, of the demo extra, isn't installed")
    y, x = np.mgrid[0:40, 0:56]
    pixels = np.stack([x * 4, y * 6, (x * y) % 256], -1).astype(np.uint8)
    path = tmp_path / "image.png"
    pillow.fromarray(pixels).save(path)
    return path


def test_demo(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(module, reason=f"{module}, of the demo extra, isn't installed")
    out = tmp_path / "new" / "folder"
    assert cli.main(["demo", str(image), "--out", str(out), "--threads", "2"]) == 0
    printed = capsys.readouterr().out
    for row in KERNELS:
        if row.family == "fprop":
            assert row.name in printed
    assert "DISAGREES" not in printed
    assert "LeNet-5 learnt 1,438 handwritten digits" in printed
    for picture in ("demo.png", "digits.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_demo_notices_a_wrong_backend(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(module, reason=f"{module}, of the demo extra, isn't installed")
    from cnnfast import demo
    from cnnfast._core import planner, recall
    from cnnfast.demo.digits import Learnt

    monkeypatch.setattr(demo, "learn", lambda path: Learnt(1.0, 0.0, 0, 0, path))

    def wrong(row: registry.Kernel) -> object:
        function = registry.load_row(row)

        def kernel(*arguments: object) -> None:
            function(*arguments)
            if row.family == "fprop":
                arguments[3][0, 0, 0, 0, 0] += 1e-3  # type: ignore[index]

        return kernel if row.name == "im2col/numpy" else function

    monkeypatch.setattr(planner, "load_row", wrong)
    monkeypatch.setattr(recall, "_calls", {})
    assert cli.main(["demo", str(image), "--out", str(tmp_path)]) == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_slide(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(module, reason=f"{module}, of the demo extra, isn't installed")
    from cnnfast.demo import slide

    monkeypatch.setattr(slide, "STEPS", 2)
    assert cli.main(["slide", str(image), "--out", str(tmp_path / "new")]) == 0
    assert "2 x 4 places in one pass" in capsys.readouterr().out
    assert (tmp_path / "new" / "slide.png").read_bytes().startswith(b"\x89PNG")


def test_the_patch_classifier_knows_regions_that_it_never_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("rich", "sklearn", "PIL"):
        pytest.importorskip(module, reason=f"{module}, of the demo extra, isn't installed")
    from cnnfast.demo import load_photo, slide

    for name, boxes in slide.LEARNED.items():
        for one in boxes:
            for other in slide.HELD_OUT[name]:
                apart = one.right <= other.left or other.right <= one.left
                assert apart or one.bottom <= other.top or other.bottom <= one.top
    monkeypatch.setattr(slide, "STEPS", 100)
    pixels = load_photo("china").pixels
    assert slide.train(slide.classifier(), pixels, np.random.default_rng(0)) > 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "/no/such/file.jpg"], "can't read image '/no/such/file.jpg': no such file"),
        (["demo", "--threads", "0"], "threads must be positive, got 0"),
        (["demo", __file__], "can't read image"),
        (["demo", "china", "--out", f"{__file__}/x"], "can't make the folder"),
        (["slide", "/no/such/file.jpg"], "can't read image '/no/such/file.jpg': no such file"),
        (["explain", "conv2d", "1,3,8,8", "4,2,3,3"], "3 / 1 = 3 channels, got 2"),
        (["explain", "conv2d", "1,3,8,8", "4,3,3,3", "--backend", "fast"], "got 'fast'"),
        (["bench", "--layers", "no-such-layer"], "no-such-layer"),
        (["bench", "--peers", "--layers", "no-such-layer"], "no-such-layer"),
        (["bench", "--peers", "--readme", "/no/such/file.md"], "can't read /no/such/file.md"),
        (["bench", "--peers", "--readme", __file__], "to write between"),
        (["bench", "--threads", "0"], "threads must be at least 1, got 0"),
        (["bench", "--png", "roofline.png"], "--png goes with --peers"),
        (["bench", "--peers", "--backends", "tiled"], "--backends doesn't go with --peers"),
        (
            ["bench", "--sliding", "--layers", "tiny"],
            "--layers and --dtype don't go with --sliding",
        ),
    ],
)
def test_bad_values_give_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] in ("demo", "slide"):
        pytest.importorskip("rich", reason="rich, of the demo extra, isn't installed")
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["fly"], ["explain", "conv2d", "1x3", "4"]])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: cnnfast" in capsys.readouterr().err


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    for name in [name for name in sys.modules if name.startswith("cnnfast.demo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(cnnfast, "demo", raising=False)
    assert cli.main(["demo"]) == 1
    assert "pip install 'cnnfast[demo]'" in capsys.readouterr().err


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    words = "explain conv2d 1,64,56,56 64,64,3,3 --padding 1 --stride 2,1 --backend im2col/numpy"
    assert cli.main(words.split()) == 0
    printed = capsys.readouterr().out
    assert "conv2d (1, 64, 56, 56) -> (1, 64, 28, 56) float32" in printed
    assert "im2col/numpy" in printed
    assert "roofline" in printed
    words = "explain max_pool2d 1,8,9,9 3 --padding same_upper --stride 2"
    assert cli.main(words.split()) == 0
    assert "-> (1, 8, 5, 5)" in capsys.readouterr().out


def test_ctrl_c_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(cnnfast, "show_config", stop)
    assert cli.main(["info"]) == 130
    assert capsys.readouterr().err == "cnnfast: stopped\n"


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    printed = capsys.readouterr().out
    assert cnnfast.__version__ in printed
    for row in KERNELS:
        assert row.name in printed


def test_bench_takes_a_layer(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench --layers tiny --backends im2col/numpy --seconds 0.01 --threads 1"
    assert cli.main(words.split()) == 0
    assert "im2col/numpy" in capsys.readouterr().out


def test_python_m() -> None:
    command = [sys.executable, "-P", "-m", "cnnfast", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == f"cnnfast {cnnfast.__version__}"
