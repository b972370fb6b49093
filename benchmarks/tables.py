"""Tables on a terminal, with rich where it is installed, in plain text elsewhere; and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers, aligned to the right."""
    try:
        from rich.table import Table
    except ImportError:
        print(plain(title, columns, rows))
        return
    if not sys.stdout.isatty():
        print(plain(title, columns, rows))
        return
    from rich.console import Console

    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as text.

    >>> print(plain("Title", ["name", "ms"], [["a", "1.0"], ["long name", "10.0"]]))
    Title
      name         ms
      a           1.0
      long name  10.0
    """
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = [title]
    for first, *others in lines:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        text.append("  ".join(["", f"{first:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(text)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write what was measured; objects as their ``document()`` says."""
    lines = json.dumps(document, indent=1, default=lambda thing: thing.document())
    path.write_text(lines + "\n", encoding="utf-8")
