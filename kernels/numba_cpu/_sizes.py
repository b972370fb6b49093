"""Register tiles of several sizes: how large they may be, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from ._vector import INT64

#: Rows and panels of the largest register tile on a machine.
Most = Callable[[Any], tuple[int, int]]


def make_most(most: Most, which: int) -> Any:
    """An intrinsic that gives one of the two."""

    @intrinsic
    def most_of(typing_context: Any) -> Any:
        """A constant of the machine."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return INT64(most(context)[which])

        return types.int64(), generate

    return most_of


def call_size(
    builder: Any, rows: Any, panels: Any, most: tuple[int, int], call: Callable[[int, int], None]
) -> None:
    """``call(rows, panels)`` writes the code for one size; the one of two values is run."""
    key = builder.add(builder.mul(panels, INT64(most[0])), rows)
    done, none = builder.append_basic_block("done"), builder.append_basic_block("none")
    choice = builder.switch(key, none)
    for tile_panels in range(1, most[1] + 1):
        for tile_rows in range(1, most[0] + 1):
            case = builder.append_basic_block(f"{tile_rows}x{tile_panels}")
            choice.add_case(INT64(tile_panels * most[0] + tile_rows), case)
            with builder.goto_block(case):
                call(tile_rows, tile_panels)
                builder.branch(done)
    with builder.goto_block(none):
        builder.unreachable()
    builder.position_at_end(done)
