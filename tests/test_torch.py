"""Every function that runs kernels, and every gradient, against torch over generated arguments.

``peers/torch_cases*.py`` make a case from a function's name and a number, and say what torch
answers. A failure prints the call that makes the case again.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from typing import Any

import numpy as np
import pytest

from cnnfast import functional, grad

torch = pytest.importorskip("torch", reason="torch isn't installed")
F = torch.nn.functional

from peers.torch_cases import Array, Case, numpy_dtype, seen  # noqa: E402
from peers.torch_cases_differ import STRICTER, WIDER  # noqa: E402
from peers.torch_cases_invalid import INVALID, check_invalid  # noqa: E402
from peers.torch_cases_reference import Expected  # noqa: E402
from peers.torch_cases_table import TABLE, wrapped  # noqa: E402

#: Cases of one test; a function's cases are cut into such parts.
PART = 60

#: Functions whose tests are in test_torch_small.py.
ELSEWHERE = {
    "batch_norm", "cross_entropy", "fold", "gelu", "leaky_relu", "log_softmax", "max_unpool1d",
    "max_unpool2d", "max_unpool3d", "relu", "relu6", "sigmoid", "silu", "softmax", "tanh", "unfold",
}  # fmt: skip

#: Cases of each function and each thing that can be wrong.
EACH_ERROR = 3

_CONV = "input weight bias stride padding dilation groups"
_TRANSPOSE = "input weight bias stride padding output_padding groups dilation"
_MAX = "input kernel_size stride padding dilation ceil_mode return_indices"
_MEAN = "input kernel_size stride padding ceil_mode count_include_pad"
_INPUT, _WEIGHT = "input_size weight grad_output", "input weight_size grad_output"

_COLUMNS = "kernel_size dilation padding stride"
_LOSS = "input target weight size_average ignore_index reduce reduction label_smoothing"

#: torch's positional parameters, from its documentation.
TORCH_ORDER = {
    "batch_norm": "input running_mean running_var weight bias training momentum eps",
    "cross_entropy": _LOSS,
    "fold": f"input output_size {_COLUMNS}",
    "gelu": "input approximate",
    "leaky_relu": "input negative_slope inplace",
    "log_softmax": "input dim",
    "softmax": "input dim",
    "unfold": f"input {_COLUMNS}",
    **dict.fromkeys(("relu", "relu6", "silu"), "input inplace"),
    **dict.fromkeys(("sigmoid", "tanh"), "input"),
    **{
        f"max_unpool{rank}d": "input indices kernel_size stride padding output_size"
        for rank in (1, 2, 3)
    },
    "linear": "input weight bias",
    "avg_pool1d": _MEAN,
    **{f"avg_pool{rank}d": f"{_MEAN} divisor_override" for rank in (2, 3)},
    **{f"conv{rank}d": _CONV for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _TRANSPOSE for rank in (1, 2, 3)},
    **{f"max_pool{rank}d": _MAX for rank in (1, 2, 3)},
    **{f"lp_pool{rank}d": "input norm_type kernel_size stride ceil_mode" for rank in (1, 2, 3)},
    **{f"adaptive_avg_pool{rank}d": "input output_size" for rank in (1, 2, 3)},
    **{f"adaptive_max_pool{rank}d": "input output_size return_indices" for rank in (1, 2, 3)},
    **{f"conv{rank}d_input": f"{_INPUT} stride padding dilation groups" for rank in (1, 2, 3)},
    **{f"conv{rank}d_weight": f"{_WEIGHT} stride padding dilation groups" for rank in (1, 2, 3)},
}

#: How many cases ran, by function.
ran: Counter[str] = Counter()


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def function_of(name: str) -> Any:
    """Cnnfast's function or gradient."""
    return getattr(functional, name, None) or getattr(grad, name)


_function_of = function_of


def is_last(case: Case) -> bool:
    """Whether cnnfast gets channels last."""
    return bool(case.own.get("layout", "NC")[1] != "C")


def weight_letters(case: Case) -> tuple[str, str]:
    """The axes of torch's weight, and of cnnfast's."""
    spatial = "DHW"[3 - case.rank :]
    theirs = ("IO" if "transpose" in case.name else "OI") + spatial
    last = spatial + ("OI" if "transpose" in case.name else "IO")
    return theirs, case.own.get("weight_layout") or (last if is_last(case) else theirs)


def order_of(case: Case, key: str, ndim: int) -> list[int]:
    """The axes of an array in the order in which cnnfast has them."""
    if key.endswith("weight") and case.rank:
        theirs, ours = weight_letters(case)
        extra = ndim - len(theirs)
        return [*range(extra), *(extra + theirs.index(letter) for letter in ours)]
    axes = list(range(ndim))
    if key != "bias" and is_last(case) and case.rank:
        axes.append(axes.pop(ndim - case.rank - 1))
    return axes


def shown(case: Case) -> dict[str, Any]:
    """The arrays (and the size, of a gradient) in cnnfast's layout and the drawn memory."""
    arrays: dict[str, Any] = {
        key: seen(
            np.ascontiguousarray(array.transpose(order_of(case, key, array.ndim))),
            case.views.get(key, ""),
        )
        for key, array in case.arrays.items()
    }
    if "size" in case.own:
        target, size = result_key(case), case.own["size"]
        arrays[f"{target}_size"] = tuple(size[axis] for axis in order_of(case, target, len(size)))
    return arrays


def result_key(case: Case) -> str:
    """What the result's axes are those of."""
    for key in ("weight", "bias"):
        if case.name.endswith(f"_{key}"):
            return key
    return "input"


def restored(case: Case, result: Array) -> Array:
    """A result in torch's layout."""
    return result.transpose(np.argsort(order_of(case, result_key(case), result.ndim)))


def called(case: Case, **more: Any) -> list[Array]:
    """Cnnfast's results on a case, by itself and in ``out``; what holds of every result."""
    function = function_of(case.name)
    taken = inspect.signature(function).parameters
    own = {key: value for key, value in case.own.items() if key in taken}
    arrays = shown(case)
    before = {key: np.copy(array) for key, array in arrays.items() if key in case.arrays}
    keywords = {**arrays, **case.arguments, **own, **more}
    if case.name.startswith("adaptive") and case.name.endswith("backward"):
        del keywords["output_size"]  # it is grad_output's
    first = function(**keywords)
    results = list(first) if isinstance(first, tuple) else [first]
    for result in results:
        assert type(result) is np.ndarray
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert not any(np.may_share_memory(result, arrays[key]) for key in before)
    if case.out and "out" in taken and not more:
        out = seen(np.full(results[0].shape, 77, results[0].dtype), case.out)
        assert function(**keywords, out=out) is out
        results.append(out)
    for key, array in before.items():
        assert array.tobytes() == arrays[key].tobytes(), f"{key} was changed"
    return results


def same_values(result: Array, expected: Array, signs: bool = True) -> None:
    """Equal, zeros by their signs if those count; NaN where NaN is expected."""
    assert result.shape == expected.shape, f"shape {result.shape}, not {expected.shape}"
    assert result.dtype == expected.dtype, f"dtype {result.dtype}, not {expected.dtype}"
    wrong = ~((result == expected) | ((result != result) & (expected != expected)))
    if signs and result.dtype.kind in "fV":
        zeros = (result == 0) & (expected == 0)
        wrong |= zeros & (np.signbit(result) != np.signbit(expected))
    report(wrong, result, expected)


def report(wrong: Array, result: Array, expected: Array) -> None:
    """AssertionError with the first wrong value."""
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.size} values are wrong, the first at {place}: "
            f"{result[place]!r} instead of {expected[place]!r}"
        )


def near(result: Array, expected: Expected) -> None:
    """Within the tolerance (of each part of complex numbers); integers modulo nothing at all."""
    reference = expected.values
    assert result.shape == reference.shape, f"shape {result.shape}, not {reference.shape}"
    assert result.dtype == numpy_dtype(expected.dtype), f"dtype {result.dtype}"
    if reference.dtype.kind == "i":
        return report(result.astype(np.int64) != reference, result, reference)
    parts = (np.real, np.imag) if reference.dtype.kind == "c" else (np.asarray,)
    for part in parts:
        mine = part(result).astype(np.float64)
        theirs = part(reference)
        with np.errstate(invalid="ignore"):
            close = np.abs(mine - theirs) <= expected.tolerance
        both = np.isnan(mine) & np.isnan(theirs)
        report(~(close & np.isfinite(theirs) | (mine == theirs) | both), mine, theirs)
    return None


def check(case: Case) -> None:
    """One case: cnnfast's answer is torch's."""
    expected = TABLE[case.name].expect(case)
    if isinstance(expected, Expected):
        in_own_dtype = wrapped(case)
        for result in called(case):
            near(restored(case, result), expected)
            if in_own_dtype is not None:
                same_values(restored(case, result).astype(case.dtype), in_own_dtype)
        return
    maxima, indices = expected
    for result in called(case):
        # Maxima alone are taken column by column: of a window's zeros either may be the result.
        same_values(restored(case, result), maxima, signs="unpool" in case.name)
    if "unpool" in case.name:
        return
    found = called(case, return_indices=True)
    same_values(restored(case, found[0]), maxima)
    same_values(restored(case, found[1]), indices)


def parts(counts: dict[str, int]) -> list[Any]:
    """Test parameters: a function's name and a range of its cases."""
    return [
        pytest.param(name, range(start, min(start + PART, count)), id=f"{name}-{start}")
        for name, count in counts.items()
        for start in range(0, count, PART)
    ]


@pytest.mark.parametrize(("name", "numbers"), parts({key: e.cases for key, e in TABLE.items()}))
def test_generated_arguments(name: str, numbers: range) -> None:
    failures = []
    for number in numbers:
        case = TABLE[name].make(name, number)
        ran[name] += 1
        try:
            check(case)
        except Exception as error:
            failures.append(f"{case}\n    {type(error).__name__}: {error}")
    assert not failures, f"{len(failures)} of {len(numbers)} cases:\n" + "\n".join(failures[:8])


def spoiled(function: Any) -> Any:
    """The function with its first value wrong."""

    @functools.wraps(function)
    def wrapper(**keywords: Any) -> Any:
        found = function(**keywords)
        result = found[0] if isinstance(found, tuple) else found
        first = (0,) * result.ndim
        value = result[first].item()
        result[first] = value ^ 1 if isinstance(value, int) else value + 1 + abs(value) / 4
        return found

    return wrapper


@pytest.mark.parametrize("name", TABLE)
def test_one_wrong_value_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of cases whose results hold finite numbers."""
    seen_wrong = 0
    monkeypatch.setitem(globals(), "function_of", lambda name: spoiled(_function_of(name)))
    for number in range(12):
        case = TABLE[name].make(name, number)
        if not all(array.size for array in case.arrays.values()) or case.tier == "special":
            continue
        with pytest.raises(AssertionError, match="values are wrong"):
            check(case)
        seen_wrong += 1
    assert seen_wrong > 2


def test_invalid_arguments_are_refused_by_both() -> None:
    failures = []
    for name, mutations in INVALID.items():
        for what in mutations:
            for number in range(EACH_ERROR):
                ran[f"{name}, invalid"] += 1
                failures.append(check_invalid(name, what, number))
    failures = [failure for failure in failures if failure]
    assert not failures, f"{len(failures)} cases:\n" + "\n".join(failures[:8])


@pytest.mark.parametrize("entry", STRICTER, ids=lambda entry: entry.why)
def test_what_torch_takes_and_cnnfast_refuses(entry: Any) -> None:
    ran["refused on purpose"] += 1
    entry.torch()
    with pytest.raises(entry.error):
        entry.cnnfast()


@pytest.mark.parametrize("entry", WIDER, ids=lambda entry: entry.why)
def test_what_torch_refuses_and_cnnfast_takes(entry: Any) -> None:
    ran["taken on purpose"] += 1
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        entry.torch()
    result = entry.cnnfast()
    expected = entry.expected().numpy()
    assert result.shape == expected.shape
    # The same sums in another order, of small integers: equal but for a mean's division.
    tolerance = 2.0**-21 if result.dtype.kind in "fc" else 0
    np.testing.assert_allclose(result.astype(expected.dtype), expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", TORCH_ORDER)
def test_positional_arguments_come_in_torchs_order(name: str) -> None:
    """... and have its defaults."""
    found = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function_of(name)).parameters.values()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    }
    assert list(found) == TORCH_ORDER[name].split()
    modules = [module for module in (F, torch.nn.grad) if hasattr(module, name)]
    assert modules, f"torch has no {name}"
    theirs = torch_parameters(getattr(modules[0], name))
    if theirs is not None:
        assert list(theirs.items()) == list(found.items())


def torch_parameters(function: Any) -> dict[str, Any] | None:
    """The parameters of a torch function with their defaults: by its signature, or by the first
    line of its documentation where it is built in; None where there is neither."""
    text = (function.__doc__ or "").strip().partition("\n")[0].partition(" -> ")[0]
    if inspect.isbuiltin(function):
        namespace: dict[str, Any] = {}
        exec(f"def {text}: pass", namespace)
        function = namespace[function.__name__]
    found: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return None
        if parameter.name.startswith("_"):
            break  # for torch's own use, and nobody gives what comes behind it by position
        found[parameter.name] = parameter.default
    return found


def test_the_order_is_known_of_every_function_that_torch_has() -> None:
    assert {name for name in functional.__all__ if hasattr(F, name)} <= set(TORCH_ORDER)


def test_every_function_with_kernels_is_compared() -> None:
    public = {*functional.__all__, *grad.__all__}
    assert public - set(TABLE) - ELSEWHERE == set()
    assert set(TABLE) <= public


def planned(items: list[Any]) -> Counter[str]:
    """How many cases the tests of this module that were selected are to run."""
    expected: Counter[str] = Counter()
    for item in items:
        if not item.nodeid.partition("::")[0].endswith("test_torch.py"):
            continue
        if item.originalname == "test_generated_arguments":
            expected[item.callspec.params["name"]] += len(item.callspec.params["numbers"])
        elif item.originalname == "test_invalid_arguments_are_refused_by_both":
            for name, mutations in INVALID.items():
                expected[f"{name}, invalid"] += EACH_ERROR * len(mutations)
        elif item.originalname == "test_what_torch_takes_and_cnnfast_refuses":
            expected["refused on purpose"] += 1
        elif item.originalname == "test_what_torch_refuses_and_cnnfast_takes":
            expected["taken on purpose"] += 1
    return expected


def test_that_no_case_is_lost(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Comes last: every selected case ran, and a whole run has more than 5,000."""
    expected = planned(request.session.items)
    with capsys.disabled():
        print(f"\n{ran.total()} cases against torch {torch.__version__}")
        for name, count in sorted(ran.items()):
            print(f"  {count:5} {name}")
    assert ran == expected
    everything = sum(entry.cases for entry in TABLE.values())
    assert everything >= 5000
