"""Choosing a row: names, surroundings, limits, reasons."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast._core import config, planner, recall
from cnnfast._core.request import Request
from cnnfast.kernels import KERNELS, registry

X = np.ones((1, 3, 12, 12), np.float32)
W = np.ones((4, 3, 3, 3), np.float32)


needs_compiled = pytest.mark.skipif(
    all(registry.engine_missing(engine) for engine in ("cython_cpu", "numba_cpu")),
    reason="no compiled engine is installed",
)


def explain(**keywords: Any) -> cnnfast.Explanation:
    return cnnfast.explain(cnnfast.conv2d, X, W, **keywords)


def test_every_row_can_be_asked_for_by_name() -> None:
    for row in KERNELS:
        if row.family == "fprop" and registry.engine_missing(row.engine) is None:
            chosen = explain(backend=row.name)
            assert f"{chosen.algorithm}/{chosen.engine}" == row.name


def test_engine_or_algorithm_alone() -> None:
    assert (explain(backend="numpy").algorithm, explain(backend="numpy").engine) == (
        "im2col",
        "numpy",
    )
    assert explain(backend="im2col").algorithm == "im2col"


def test_use_backend_nests_and_restores() -> None:
    before = explain()
    with cnnfast.use_backend("reference"):
        assert explain().algorithm == "reference"
        with cnnfast.use_backend("im2col/numpy"):
            assert explain().engine == "numpy"
            assert explain(backend="reference").algorithm == "reference"
            with cnnfast.use_backend(None):
                assert explain() == before
        assert explain().algorithm == "reference"
    assert explain() == before


def test_use_backend_is_restored_after_an_exception() -> None:
    with pytest.raises(KeyError), cnnfast.use_backend("reference"):
        raise KeyError
    assert config.ambient_backend() == Request()


def test_use_backend_is_this_threads_alone() -> None:
    seen: list[Request] = []
    with cnnfast.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(config.ambient_backend()))
        thread.start()
        thread.join()
    assert seen == [Request()]


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNFAST_BACKEND", "im2col/numpy")
    assert explain().engine == "numpy"
    assert "backend   im2col/numpy" in cnnfast.show_config()
    monkeypatch.setenv("CNNFAST_BACKEND", "fast")
    with pytest.raises(ValueError, match="CNNFAST_BACKEND: backend must be.*got 'fast'"):
        explain()
    config._default_threads.cache_clear()
    monkeypatch.setenv("CNNFAST_NUM_THREADS", "7")
    assert cnnfast.get_num_threads() == 7
    config._default_threads.cache_clear()
    for text in ("0", "two", "1.5"):
        monkeypatch.setenv("CNNFAST_NUM_THREADS", text)
        with pytest.raises(ValueError, match=f"CNNFAST_NUM_THREADS must be a positive.*'{text}'"):
            cnnfast.get_num_threads()
    monkeypatch.undo()
    config._default_threads.cache_clear()


def test_an_algorithm_that_a_family_lacks_leaves_the_engine() -> None:
    with cnnfast.use_backend("im2col/numpy"):
        chosen = cnnfast.explain("max_pool2d", X, 2)
    assert (chosen.algorithm, chosen.engine) == ("direct", "numpy")


def test_a_missing_engine_fails_by_name_and_gives_way_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        planner,
        "row_missing",
        lambda row: None if row.engine == "numpy_cpu" else f"{row.engine} is not here: pip install",
    )
    planner._plans.clear()
    with pytest.raises(
        cnnfast.BackendUnavailableError,
        match="conv2d: backend 'tiled/numba' can't serve: tiled/numba: numba_cpu is not here",
    ):
        explain(backend="tiled/numba")
    chosen = explain()
    assert (chosen.algorithm, chosen.engine) == ("im2col", "numpy")
    assert ("tiled/cython", "cython_cpu is not here: pip install") in chosen.others
    planner._plans.clear()


def test_an_engine_that_does_not_import_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(row: registry.Kernel) -> Any:
        if row.engine != "numpy_cpu":
            raise ImportError("built for another machine")
        return registry.load_row(row)

    monkeypatch.setattr(planner, "row_missing", lambda row: None)
    monkeypatch.setattr(planner, "load_row", broken)
    planner._plans.clear()
    chosen = explain()
    assert chosen.engine == "numpy"
    assert ("tiled/cython", "its engine doesn't import: built for another machine") in chosen.others
    with pytest.raises(cnnfast.BackendUnavailableError, match="built for another machine"):
        explain(backend="cython")
    planner._plans.clear()


def test_landing_on_the_reference_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    cnnfast.set_workspace_limit(0)
    monkeypatch.setattr(
        planner, "row_missing", lambda row: None if row.engine == "numpy_cpu" else "gone"
    )
    planner._plans.clear()
    monkeypatch.setattr(recall, "_calls", {})
    with pytest.warns(cnnfast.PerformanceWarning, match="conv2d: no fast kernel serves.*gone"):
        cnnfast.conv2d(X, W)
    with pytest.warns(cnnfast.PerformanceWarning) as caught:
        cnnfast.conv2d(X, W)
    assert caught[0].filename == __file__
    cnnfast.conv2d(X, W, backend="reference")
    planner._plans.clear()


def test_workspace_limit() -> None:
    needed = explain(backend="im2col/numpy").scratch_bytes
    cnnfast.set_workspace_limit(needed - 1)
    with pytest.raises(
        cnnfast.BackendUnavailableError,
        match=f"needs {needed} bytes of scratch, the workspace limit is {needed - 1}",
    ):
        cnnfast.conv2d(X, W, backend="im2col/numpy")
    cnnfast.set_workspace_limit(needed)
    cnnfast.conv2d(X, W, backend="im2col/numpy")
    cnnfast.set_workspace_limit(None)
    assert cnnfast.get_workspace_limit() == 1 << 30


@needs_compiled
def test_threads_give_way_to_the_workspace_limit() -> None:
    shapes = (8, 64, 56, 56), (64, 64, 3, 3)
    cnnfast.set_num_threads(64)
    free = cnnfast.explain("conv2d", *shapes)
    cnnfast.set_workspace_limit(free.scratch_bytes // 2)
    capped = cnnfast.explain("conv2d", *shapes)
    assert capped.scratch_bytes <= free.scratch_bytes // 2
    assert (capped.algorithm, capped.blocks) == (free.algorithm, free.blocks)


def test_the_choice_does_not_depend_on_the_threads() -> None:
    shapes = [((8, 64, 56, 56), (64, 64, 3, 3)), ((1, 1, 9, 9), (1, 1, 3, 3))]
    for x, w in shapes:
        cnnfast.set_num_threads(1)
        one = cnnfast.explain("conv2d", x, w)
        cnnfast.set_num_threads(64)
        many = cnnfast.explain("conv2d", x, w)
        assert (one.algorithm, one.engine, one.blocks) == (many.algorithm, many.engine, many.blocks)


@needs_compiled
def test_without_a_name_blas_serves_only_where_no_other_row_does() -> None:
    """BLAS gives other bits on other numbers of threads, so the planner doesn't choose it."""
    for size in (1, 8, 512):
        assert cnnfast.explain("conv2d", (1, size, 16, 16), (size, size, 1, 1)).engine != "numpy"


def test_remembered_plans_do_not_keep_tables_alive() -> None:
    geometry = cnnfast.PoolGeometry.of((1, 1, 1, 50_000), "max", (1, 2))
    planner.plan("pool", geometry)
    assert geometry.windows.size > 50_000
    assert not any("windows" in vars(key[1]) for key in planner._plans)


def test_explain_takes_what_the_function_takes() -> None:
    out = np.empty((1, 4, 12, 12), np.float32)
    chosen = explain(bias=np.ones(4, np.float32), padding=1, activation="relu", out=out)
    assert chosen.geometry.out_shape == out.shape
    assert chosen.flops == 2 * 4 * 3 * 9 * 144
    assert chosen.intensity == pytest.approx(chosen.flops / chosen.bytes_moved)
    assert chosen.roofline_seconds(1e9, 1e12) == chosen.flops / 1e9
    assert explain(bias=np.ones(4)).geometry.dtype == np.float64
    assert explain(out_dtype=np.float64).geometry.dtype == np.float64
    padded = explain(padding=2, padding_mode="reflect")
    assert (padded.geometry.size[1:], padded.geometry.padding[1:]) == ((16, 16), ((0, 0), (0, 0)))
    text = str(chosen)
    assert f"{chosen.algorithm}/{chosen.engine}" in text
    assert f"{chosen.scratch_bytes:,} bytes" in text
    assert cnnfast.explain("linear", (5, 7), (3, 7)).flops == 2 * 5 * 7 * 3
    assert cnnfast.explain("avg_pool2d", X.astype(np.float64), 2).geometry.dtype == np.float64
    with pytest.raises(TypeError, match="strides"):
        explain(strides=2)


def test_scratch_is_kept_between_calls_and_released() -> None:
    from cnnfast._core import workspace

    cnnfast.release_scratch()
    with workspace.scratch(1000) as first:
        assert first.ctypes.data % 64 == 0
        with workspace.scratch(10) as inner:
            assert not np.shares_memory(first, inner)
    with workspace.scratch(500) as again:
        assert again is first
    with workspace.scratch(workspace.KEPT_BYTES + 1) as big:
        pass
    with workspace.scratch(10) as small:
        assert small.size < big.size
    with workspace.scratch(10) as kept, pytest.raises(KeyError), workspace.scratch(2000) as broken:
        raise KeyError
    with workspace.scratch(10) as after:
        assert after is kept
        assert after is not broken
    cnnfast.release_scratch()
    with workspace.scratch(10) as fresh:
        assert fresh is not after
