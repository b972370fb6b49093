"""Every test begins and ends with the default settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cnnfast


@pytest.fixture(autouse=True)
def _default_settings() -> Iterator[None]:
    yield
    cnnfast.set_num_threads(None)
    cnnfast.set_workspace_limit(None)
