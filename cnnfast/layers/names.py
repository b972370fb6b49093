"""Names of parameters: paths, and whether they are those that are wanted."""

from __future__ import annotations

from typing import Any


def join(path: str, name: str) -> str:
    """A name below a path; what has no name is at the path itself.

    >>> join("features.0", "weight"), join("", "weight"), join("features.0", "")
    ('features.0.weight', 'weight', 'features.0')
    """
    return f"{path}.{name}" if path and name else path or name


def check_names(what: str, wanted: set[str], given: set[Any]) -> None:
    """ValueError unless both are the same names."""
    if wanted != given:
        missing, unknown = sorted(wanted - given), sorted(map(str, given - wanted))
        raise ValueError(
            f"{what}: the state must hold the layer's own names, got none of "
            f"{_few(missing)} and not known {_few(unknown)}"
        )


def _few(names: list[str], most: int = 5) -> str:
    listed = ", ".join(names[:most]) or "(nothing)"
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
