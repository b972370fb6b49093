"""cnnfast.torch on several threads, whoever's they are, and in forked processes."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch isn't installed")
F = torch.nn.functional

import cnnfast.torch as own  # noqa: E402
from cnnfast import set_num_threads  # noqa: E402
from cnnfast.torch import threads  # noqa: E402


def leaf(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_many_threads_train_at_once() -> None:
    x, w = leaf(2, 3, 12, 12), leaf(8, 3, 3, 3)
    expected = torch.autograd.grad(own.conv2d(x, w, padding=1).pow(2).sum(), (x, w))
    failures: list[Any] = []

    def work() -> None:
        try:
            for _ in range(20):
                with own.use():
                    y = F.conv2d(x, w, padding=1)
                    found = torch.autograd.grad(y.pow(2).sum(), (x, w))
                    assert all(map(torch.equal, found, expected))
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert not failures


def test_the_same_bits_on_torchs_threads_and_on_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = leaf(2, 16, 40, 40), leaf(32, 16, 3, 3)

    def results() -> list[Any]:
        y = own.max_pool2d(own.conv2d(x, w, padding=1), 3, 2, 1)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), (x, w))]

    expected = results()
    for count in (1, 2, 3):
        set_num_threads(count)
        try:
            assert all(map(torch.equal, results(), expected))
            with monkeypatch.context() as patch:
                patch.setattr(threads, "_region", 0)
                assert all(map(torch.equal, results(), expected))
        finally:
            set_num_threads(None)


@pytest.mark.skipif(not threads._region, reason="torch's OpenMP isn't borrowed here")
def test_torchs_number_holds_in_a_new_thread() -> None:
    """Also where torch itself has computed nothing: OpenMP knows the number by thread."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    counts = []

    def work() -> None:
        own.conv1d(torch.ones(1, 1, 8), torch.ones(1, 1, 3))
        counts.append(library.omp_get_max_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        worker = threading.Thread(target=work)
        worker.start()
        worker.join(60)
    finally:
        torch.set_num_threads(before)
    assert counts == [before + 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_computes() -> None:
    set_num_threads(2)
    try:
        x, w = leaf(2, 16, 32, 32), leaf(16, 16, 3, 3)
        expected = torch.autograd.grad(own.conv2d(x, w).sum(), w)[0]
        child = os.fork()
        if child == 0:
            try:
                found = torch.autograd.grad(own.conv2d(x, w).sum(), w)[0]
                os._exit(0 if torch.equal(found, expected) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        set_num_threads(None)
