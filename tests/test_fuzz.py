"""Thousands of random calls of every public function, right and wrong ones.

1,500 cases by default and 10,000 with ``CNNFAST_FUZZ=10000`` (any number of 100 or more), the same
ones every time; ``CNNFAST_FUZZ_SEED=7`` makes them others. Each family of functions is a test of
its own share, and asserts how many cases it has run (``pytest -s`` prints it). A case is right
(``check`` of fuzz/checking.py: values by an independent oracle, dtype, memory, threads, ``out``,
backends) or has one bad argument (``check_refused``). ``python tests/test_fuzz.py`` runs pytest on
this file in a process of its own, so that a crash is told from a failure; a hang ends the process
with every thread's stack. On two cores 10,000 cases take about two minutes, and two more where
Numba has nothing cached.
"""

from __future__ import annotations

import faulthandler
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="hypothesis isn't installed")

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import cnnfast
from cnnfast._core import planner, recall

from fuzz.bad import bad_argument, huge_argument
from fuzz.cases import bilinear_case
from fuzz.checking import Case, Given, check, check_refused
from fuzz.draws import ints, pick
from fuzz.pools import lp_case, pool_case, pool_grad_case, unpool_case
from fuzz.rest import (
    MAPS,
    columns_case,
    linear_case,
    loss_case,
    map_case,
    norm_case,
    separable_case,
    softmax_case,
    sums_case,
)

CASES = int(os.environ.get("CNNFAST_FUZZ") or 1500)
SEED = os.environ.get("CNNFAST_FUZZ_SEED")

#: A test that takes longer than this, in seconds, hangs.
LONGEST = 300

Builder = Callable[[Any], Case]


def _bilinear(kind: str, role: str, ranks: int = 3, depthwise: bool = False) -> Builder:
    return lambda draw: bilinear_case(draw, kind, role, draw(ints(1, ranks)), depthwise)


def _one_of(builder: Callable[..., Case], *names: str) -> Builder:
    return lambda draw: builder(draw, draw(pick(*names)))


#: Family -> share of the cases, in percent, and how a case is drawn.
FAMILIES: dict[str, tuple[int, Builder]] = {
    "conv": (11, _bilinear("conv", "forward")),
    "conv_input": (6, _bilinear("conv", "input")),
    "conv_weight": (6, _bilinear("conv", "weight")),
    "conv_transpose": (8, _bilinear("conv_transpose", "forward")),
    "conv_transpose_input": (3, _bilinear("conv_transpose", "input")),
    "conv_transpose_weight": (3, _bilinear("conv_transpose", "weight")),
    "depthwise": (3, _bilinear("conv", "forward", 2, True)),
    "separable": (2, lambda draw: separable_case(draw, draw(ints(1, 2)))),
    "local": (4, _bilinear("local", "forward", 2)),
    "local_input": (2, _bilinear("local", "input", 2)),
    "local_weight": (2, _bilinear("local", "weight", 2)),
    "linear": (3, _one_of(linear_case, "forward", "input", "weight")),
    "max_pool": (7, lambda draw: pool_case(draw, "max", False, draw(ints(1, 3)))),
    "avg_pool": (7, lambda draw: pool_case(draw, "mean", False, draw(ints(1, 3)))),
    "lp_pool": (3, lambda draw: lp_case(draw, draw(ints(1, 3)))),
    "adaptive_pool": (
        4,
        lambda draw: pool_case(draw, draw(pick("max", "mean")), True, draw(ints(1, 3))),
    ),
    "pool_backward": (
        6,
        lambda draw: pool_grad_case(
            draw,
            draw(pick("max", "mean", "power")),
            False,
            draw(ints(1, 3)),
        ),
    ),
    "adaptive_backward": (
        2,
        lambda draw: pool_grad_case(draw, draw(pick("max", "mean")), True, draw(ints(1, 3))),
    ),
    "unpool": (2, lambda draw: unpool_case(draw, draw(ints(1, 3)), draw(st.booleans()))),
    "columns": (
        3,
        _one_of(columns_case, "unfold", "fold", "unfold_backward", "fold_backward"),
    ),
    "bias_sums": (
        2,
        _one_of(
            sums_case, "conv_bias", "conv_transpose_bias", "linear_bias", "locally_connected_bias"
        ),
    ),
    "maps": (2, _one_of(map_case, *MAPS)),
    "softmax": (1, _one_of(softmax_case, "softmax", "log_softmax")),
    "losses": (1, lambda draw: loss_case(draw) if draw(st.booleans()) else norm_case(draw)),
}
#: What is left of 100 percent goes to calls with a bad argument, and a few to huge numbers.
BAD, HUGE = 6, 1


def share(percent: int) -> int:
    """That part of the cases, rounded up."""
    return math.ceil(CASES * percent / 100)


@pytest.fixture(autouse=True)
def _threads_and_hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small problems run on threads too, and a hang is shown."""
    for constant in ("SERIAL_IN_C", "SERIAL"):
        monkeypatch.setattr(planner, constant, 0.0)
    monkeypatch.delenv("CNNFAST_BACKEND", raising=False)
    planner._plans.clear()
    monkeypatch.setattr(recall, "_calls", {})
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def run_cases(strategy: st.SearchStrategy[Any], run: Callable[..., None], cases: int) -> int:
    """Run that many drawn cases; how many there were."""
    count = 0

    def test(case: Any) -> None:
        nonlocal count
        run(*case)
        count += 1

    configured = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=SEED is None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    wrapped = configured(given(strategy)(test))
    if SEED is not None:
        wrapped = seed(int(SEED))(wrapped)
    wrapped()
    return count


@st.composite
def drawn(draw: Any, family: str) -> tuple[Case]:
    return (FAMILIES[family][1](draw),)


@st.composite
def spoiled(draw: Any, spoil: Callable[[Any, Case], Any]) -> tuple[Any, ...]:
    """A right case of any family and one bad argument for it."""
    case = FAMILIES[draw(pick(*FAMILIES))][1](draw)
    return (case, *spoil(draw, case))


@pytest.mark.parametrize("family", FAMILIES)
def test_right_calls(family: str) -> None:
    wanted = share(FAMILIES[family][0])
    count = run_cases(drawn(family), check, wanted)
    print(f"{family}: {count} cases")
    assert count >= wanted


def test_bad_arguments_are_refused() -> None:
    wanted = share(BAD)
    count = run_cases(spoiled(bad_argument), check_refused, wanted)
    print(f"bad arguments: {count} cases")
    assert count >= wanted


def test_huge_numbers_are_refused() -> None:
    """Sizes whose memory no machine has; MemoryError is an answer, a hang or a crash isn't."""
    wanted = share(HUGE)
    count = run_cases(spoiled(huge_argument), _refused_or_no_memory, wanted)
    print(f"huge numbers: {count} cases")
    assert count >= wanted


def _refused_or_no_memory(case: Case, change: dict[str, Any], described: str) -> None:
    try:
        check_refused(case, change, described)
    except AssertionError as error:
        if not isinstance(error.__cause__, MemoryError):
            raise


def test_the_shares_make_a_whole() -> None:
    assert sum(percent for percent, _ in FAMILIES.values()) + BAD + HUGE == 100


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzz sees one wrong element, a canary that died, and a changed input."""
    arrays = {"input": Given.make(np.arange(4.0).reshape(1, 1, 4), "sliced", 1)}
    arrays["weight"] = Given.make(np.ones((1, 1, 2)), "plain", 1)
    right = cnnfast.conv1d

    def case() -> Case:
        return Case(
            "conv1d", arrays, {}, np.dtype(float), np.array([[[1.0, 3.0, 5.0]]]),
            families=("fprop",), settings={"threads": (1, 2), "out": ("sliced", 3)},
        )  # fmt: skip

    def wrong_value(*, out: Any = None, **arguments: Any) -> Any:
        result = right(**arguments, out=out)
        result[0, 0, 2] += 1e-12
        return result

    def beside_out(*, out: Any = None, **arguments: Any) -> Any:
        result = right(**arguments, out=out)
        if out is not None:
            out.base[3] = 0
        return result

    def beside_input(*, input: Any, **arguments: Any) -> Any:
        input.base[3] = 0
        return right(input=input, **arguments)

    check(case())
    for function, message in (
        (wrong_value, "values are wrong"),
        (beside_out, "outside of out"),
        (beside_input, "input was changed"),
    ):
        monkeypatch.setattr(cnnfast.functional, "conv1d", function)
        with pytest.raises(AssertionError, match=message):
            check(case())


if __name__ == "__main__":
    command = [
        sys.executable,
        "-P",  # or cnnfast/ here would hide the installed one
        "-X",
        "faulthandler",
        "-m",
        "pytest",
        "-q",
        "-s",
        str(Path(__file__)),
    ]
    ended = subprocess.run([*command, *sys.argv[1:]], check=False).returncode
    if ended < 0:
        print(f"the interpreter crashed with signal {-ended}", file=sys.stderr)
    sys.exit(abs(ended))
