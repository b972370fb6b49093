"""Training: the same bits whatever happens on the way, and clear errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import cli, models, training
from cnnfast.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, ReLU, Sequential
from cnnfast.training import Checkpoint, Data, Progress, Settings, batches

from mnist_files import small_mnist

Array = np.ndarray[Any, Any]
#: Of the command's trainings, how many are to be run whole.
SEEDS = int(os.environ.get("CNNFAST_TRAINING_SEEDS") or 0)
#: Some batches of three sizes.
QUICK = Settings(epochs=3, batch=6, lr=0.02)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    yield
    cnnfast.set_num_threads(None)


def made_up() -> Data:
    """Noise, learnt by heart."""
    rng = np.random.default_rng(0)
    images = rng.random((26, 1, 28, 28), np.float32)
    labels = rng.integers(0, 10, 26)
    return Data("noise", images[:20], labels[:20], images[20:], labels[20:])


def model() -> Sequential:
    """A layer of each kind that has a state of its own."""
    return Sequential(
        Conv2d(1, 2, 5, stride=3, rng=1), BatchNorm2d(2), ReLU(), Flatten(), Dropout(0.2, rng=3),
        Linear(128, 10, rng=2),
    )  # fmt: skip


def bits(net: Layer) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in net.state_dict().items()}


class Stop:
    """Presses Ctrl-C after so many batches."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, progress: Progress) -> None:
        if progress.batches == self.after:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_number_of_threads_changes_no_bit(optimizer: str) -> None:
    found = []
    for threads in (1, 2, 5):
        cnnfast.set_num_threads(threads)
        net = models.lenet5(rng=0)
        history = training.fit(net, made_up(), Settings(epochs=2, batch=7, optimizer=optimizer))
        found.append((bits(net), history))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("after", [1, 4, 6, 11])
def test_interrupted_and_resumed_gives_the_same_bits(
    tmp_path: Path, optimizer: str, after: int
) -> None:
    """Four batches an epoch: in the middle of epochs and at their ends."""
    settings, data, path = Settings(epochs=3, batch=6, optimizer=optimizer), made_up(), tmp_path
    whole = model()
    history = training.fit(whole, data, settings)
    file = path / "run.npz"
    with pytest.raises(training.Interrupted):
        training.fit(model(), data, settings, checkpoint=file, watch=Stop(after))
    position = Checkpoint.load(file).position
    assert 4 * position.epoch + position.batch == after
    net = model()
    assert training.fit(net, data, settings, checkpoint=file, resume=True) == history
    assert bits(net) == bits(whole)
    assert [p.name for p in path.iterdir()] == ["run.npz"]


def test_a_second_ctrl_c_is_as_ever(tmp_path: Path) -> None:
    def twice(progress: Progress) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        training.fit(model(), made_up(), QUICK, checkpoint=tmp_path / "a.npz", watch=twice)
    assert not isinstance(caught.value, training.Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    file, net = tmp_path / "run.npz", model()
    history = training.fit(net, made_up(), QUICK, checkpoint=file)
    again = model()
    assert training.fit(again, made_up(), QUICK, checkpoint=file, resume=True) == history
    assert bits(again) == bits(net)


def test_killed_at_any_time_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_training import model, made_up, training, Settings\n"
        "from pathlib import Path\n"
        "watch = lambda p: p.batches == 1 and print('go', flush=True)\n"
        "training.fit(model(), made_up(), Settings(epochs=9999, batch=20),\n"
        "             checkpoint=Path(sys.argv[1]), watch=watch)"
    )
    file = tmp_path / "run.npz"
    command = [sys.executable, "-P", "-c", code, str(file), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        while not file.exists():
            assert process.poll() is None
        process.kill()
    found = Checkpoint.load(file)
    assert found.position.epoch == len(found.history) > 0


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.npz"
    training.fit(model(), made_up(), QUICK, checkpoint=file)
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"can't write the checkpoint .*run.npz: No space left"):
        training.fit(model(), made_up(), QUICK, checkpoint=file)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_disk_that_fills_while_it_is_written(tmp_path: Path) -> None:
    """The system's own refusal, in a process that may write no file over 9 kB."""
    pytest.importorskip("resource", reason="no limits on processes here")
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_training import model, made_up, training, QUICK\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try: training.fit(model(), made_up(), QUICK, checkpoint=sys.argv[1])\n"
        "except OSError as error: print(error)"
    )
    file = tmp_path / "run.npz"
    command = [sys.executable, "-P", "-c", code, str(file), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith(f"can't write the checkpoint {file}: ")
    assert not done.stderr
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    data = made_up()
    good = training.fit(model(), data, Settings(epochs=1, batch=20), checkpoint=file)
    assert len(good) == 1
    before = file.read_bytes()
    wrong = Settings(epochs=5, batch=6, lr=1e30)
    with pytest.raises(training.Diverged, match=r"epoch 1, batch \d of 4, at learning rate .*e\+"):
        training.fit(model(), data, wrong, checkpoint=file)
    assert file.read_bytes() == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    file, data = tmp_path / "run.npz", made_up()
    training.fit(model(), data, QUICK, checkpoint=file)
    again: dict[str, Any] = {"checkpoint": file, "resume": True}
    with pytest.raises(ValueError, match=r"other settings: lr 0.1 \(not 0.02\), seed 4 \(not 0\)"):
        training.fit(model(), data, Settings(epochs=3, batch=6, lr=0.1, seed=4), **again)
    with pytest.raises(ValueError, match="another model"):
        training.fit(models.lenet5(), data, QUICK, **again)
    other = Data("other", data.train_images + 1, *(vars(data)[k] for k in list(vars(data))[2:]))
    with pytest.raises(ValueError, match="other data: noise, not other"):
        training.fit(model(), other, QUICK, **again)
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        training.fit(model(), data, QUICK, resume=True)


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    with pytest.raises(ValueError, match="can't read the checkpoint .*No such file"):
        Checkpoint.load(file)
    training.fit(model(), made_up(), QUICK, checkpoint=file)
    content = file.read_bytes()
    for broken in (b"", content[:1000], content[:-30], content[:700] + b"?" + content[701:]):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match="isn't a"):
            Checkpoint.load(file)
    model().save(file)
    with pytest.raises(ValueError, match="isn't a checkpoint"):
        Checkpoint.load(file)


def test_a_checkpoint_without_counts_of_dropout_is_refused_first(tmp_path: Path) -> None:
    file, net = tmp_path / "run.npz", model()
    training.fit(model(), made_up(), QUICK, checkpoint=file)
    found = Checkpoint.load(file)
    found.calls.clear()
    found.save(file)
    before = bits(net)
    with pytest.raises(ValueError, match=r"checkpoint: calls: .* got none of \d"):
        training.fit(net, made_up(), QUICK, checkpoint=file, resume=True)
    assert bits(net) == before


def test_where_no_checkpoint_can_be_is_told_before_the_first_batch(tmp_path: Path) -> None:
    def watch(progress: Progress) -> None:
        raise AssertionError("a batch was run")

    def fit(place: Path) -> None:
        training.fit(model(), made_up(), QUICK, checkpoint=place, watch=watch)

    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ValueError, match=r"a checkpoint ends in \.npz, got .*run\.ckpt"):
        fit(tmp_path / "run.ckpt")
    with pytest.raises(OSError, match=r"can't write the checkpoint .*: No such file"):
        fit(tmp_path / "none" / "run.npz")
    with pytest.raises(OSError, match=r"can't write the checkpoint .*: Is a directory"):
        fit(tmp_path / "folder.npz")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be positive, got 0"),
        ({"batch": -1}, "batch must be positive"),
        ({"optimizer": "lion"}, "optimizer must be sgd or adam, got 'lion'"),
        ({"lr": 0}, "lr must be positive"),
        ({"lr": float("nan")}, "lr must be finite"),
        ({"momentum": 1.0}, "momentum at least 0 and below 1"),
        ({"weight_decay": -0.1}, "weight_decay non-negative"),
        ({"seed": -1}, "seed must be non-negative"),
    ],
)
def test_bad_settings(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_bad_data() -> None:
    images, labels = np.zeros((3, 1, 2, 2), np.float32), np.zeros(3, int)
    for wrong in ((images[:2], labels), (images[:, 0], labels), (images[:0], labels[:0])):
        with pytest.raises(ValueError, match="N at least 1"):
            Data("wrong", images, labels, *wrong)
    for classes in (labels - 1, labels * 0.5):
        with pytest.raises(ValueError, match="non-negative integers"):
            Data("wrong", images, classes, images, labels)


def test_shifts_move_images_and_follow_from_seed_epoch_and_batch() -> None:
    images = np.zeros((50, 1, 7, 7), np.float32)
    images[:, 0, 3, 3] = 1
    moved = batches.shifted(images, 2, 0, 1, 2)
    places = np.argwhere(moved[:, 0])[:, 1:]
    assert len(places) == 50
    assert places.min() == 1
    assert places.max() == 5
    assert np.array_equal(moved, batches.shifted(images, 2, 0, 1, 2))
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not np.array_equal(moved, batches.shifted(images, 2, *other))


def test_digits_and_the_fifth_that_is_held_out() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of the demo extra, isn't installed")
    data, again, other = training.digits(0), training.digits(0), training.digits(1)
    assert len(data.train_labels) == 1438
    assert len(data.test_labels) == 359
    assert data.digest() == again.digest() != other.digest()
    images = np.concatenate([data.train_images, data.test_images])
    assert images.shape[1:] == (1, 28, 28)
    assert 0 <= images.min() < images.max() <= 1
    # All 1,797 are there, each on one side alone, but for a few that are equal.
    theirs = np.concatenate([other.train_images, other.test_images])
    sums = [np.sort(part.sum((1, 2, 3), np.float64)) for part in (images, theirs)]
    assert np.array_equal(*sums)
    seen = {image.tobytes() for image in data.train_images}
    assert not any(image.tobytes() in seen for image in data.test_images)


def test_training_learns_digits() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of the demo extra, isn't installed")
    cnnfast.set_num_threads(1)
    net = models.lenet5(rng=0)
    data = training.digits(0)
    history = training.fit(net, data, Settings(epochs=7))
    assert history.test_accuracy[-1] >= 0.95
    assert (
        training.evaluate(net, data.test_images, data.test_labels)[1] == (history.test_accuracy[-1])
    )


@pytest.mark.skipif(not SEEDS, reason="minutes of training: CNNFAST_TRAINING_SEEDS says how many")
@pytest.mark.parametrize("seed", range(SEEDS or 1))
def test_training_reaches_98_of_100(seed: int) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of the demo extra, isn't installed")
    net = models.lenet5(rng=seed)
    history = training.fit(net, training.digits(seed), Settings(seed=seed))
    assert history.test_accuracy[-1] >= 0.98


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    for module in ("rich", "matplotlib"):
        pytest.importorskip(module, reason=f"{module}, of the demo extra, isn't installed")
    folder = tmp_path / "mnist"
    folder.mkdir()
    small_mnist(folder)
    return folder


def test_command(
    mnist_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = mnist_folder.parent / "out"
    words = ["train", "lenet5", "--data", str(mnist_folder), "--out", str(out)]
    options = ["--epochs", "2", "--batch", "5", "--optimizer", "adam", "--threads", "2"]
    assert cli.main([*words, *options]) == 0
    assert "4 held out" in (printed := capsys.readouterr().out)
    assert "after 2 epochs" in printed
    assert (out / "lenet5.png").read_bytes().startswith(b"\x89PNG")
    whole = (out / "lenet5.npz").read_bytes()

    from cnnfast.training import command

    fit = training.fit
    with monkeypatch.context() as patch:
        patch.setattr(command, "fit", lambda *a, **k: fit(*a, **(k | {"watch": Stop(3)})))
        assert cli.main([*words, *options]) == 130
    told = capsys.readouterr().err
    assert f"cnnfast train lenet5 --resume --out {out} --data {mnist_folder} --threads 2" in told
    assert cli.main([*words, "--resume", "--seed", "1"]) == 2
    assert "seed 1 (not 0)" in capsys.readouterr().err
    assert cli.main([*words, "--resume"]) == 0
    assert (out / "lenet5.npz").read_bytes() == whole


def test_command_refuses(mnist_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = mnist_folder.parent / "out"
    words = ["train", "lenet5", "--data", str(mnist_folder), "--out"]
    for options, status, message in (
        ([str(out), "--epochs", "0"], 2, "epochs must be positive, got 0"),
        ([str(out), "--threads", "0"], 2, "threads must be positive, got 0"),
        ([str(out), "--resume"], 2, "can't read the checkpoint"),
        ([f"{__file__}/x"], 2, "can't make the folder"),
        ([str(out), "--lr", "1e30", "--epochs", "3"], 1, "at learning rate"),
    ):
        assert cli.main([*words, *options]) == status
        error = capsys.readouterr().err
        assert message in error
        assert error.count("cnnfast: ") == 1


def test_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    from cnnfast.benchmarks import training as benchmark

    rows = benchmark.training([1], 0.01, [4])
    assert [(row.batch, row.threads) for row in rows] == [(4, 1)]
    assert len(benchmark.verdicts(rows)) == (rows[0].torch is not None)
    assert cli.main(["bench", "--training", "--layers", "tiny"]) == 2
    assert "don't go with --training" in capsys.readouterr().err
