"""``cnnfast.signal`` and ``cnnfast.ndimage`` beside SciPy's functions of the same names."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast import ndimage, signal
from cnnfast._core.extras import require
from cnnfast.benchmarks.drop_ins.row import DropInRow
from cnnfast.benchmarks.timing import measure

OWN = {"ndimage": ndimage, "signal": signal}


def rows(seconds: float, threads: int) -> list[DropInRow]:
    """SciPy runs on one thread, whatever ``threads`` is."""
    rng = np.random.default_rng(0)
    found = []
    for dtype in ("float64", "float32"):
        image, kernel = (rng.random(shape).astype(dtype) for shape in ((1024, 1024), (7, 7)))
        found.append(_row("signal", "correlate2d", (image, kernel), seconds, 30.0))
    for dtype in ("float32", "uint8"):
        image = (255 * rng.random((2048, 2048))).astype(dtype)
        found += [
            _row("ndimage", "correlate", (image, rng.random((5, 5))), seconds),
            _row("ndimage", "uniform_filter", (image, 5), seconds),
            _row("ndimage", "maximum_filter", (image, 5), seconds),
        ]
    return found


def _row(
    module: str, name: str, arguments: tuple[Any, Any], seconds: float, asked: float | None = None
) -> DropInRow:
    """Both are compared before they are timed."""
    image, window = arguments
    own = getattr(OWN[module], name)
    theirs = getattr(require("cnnfast.benchmarks", f"scipy.{module}"), name)
    np.testing.assert_allclose(own(*arguments), theirs(*arguments), rtol=1e-5)
    times = measure({"own": lambda: own(*arguments), "scipy": lambda: theirs(*arguments)}, seconds)
    sizes = [" x ".join(map(str, image.shape)), " x ".join(map(str, np.shape(window) or (window,)))]
    case = f"{module}.{name} {', '.join(sizes)}, {image.dtype}"
    return DropInRow(case, "scipy", times["own"], times["scipy"], asked)
