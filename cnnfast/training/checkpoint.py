"""Everything that going on needs, in one ``.npz`` file that is written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array
from cnnfast.layers import Dropout, Layer, load_arrays, save_arrays
from cnnfast.layers.names import check_names
from cnnfast.layers.optim import Optimiser

from .history import History
from .settings import Settings

#: Goes up when the file's form changes.
VERSION = 1


@dataclass
class Position:
    """Where a run is: finished epochs, batches of the one under way, and that one's sums."""

    epoch: int = 0
    batch: int = 0
    seen: int = 0
    correct: int = 0
    loss: float = 0.0


@dataclass
class Checkpoint:
    """A run as it was between two batches.

    Attributes
    ----------
    settings : Settings
    architecture : list of str
        The model's layers.
    data : str
        Fingerprint of the images and labels.
    data_name : str
    position : Position
    history : History
    model, optimiser : dict of arrays
        Their ``state_dict()``.
    calls : dict of int
        Dropout layers' counts of calls, by path.
    """

    settings: Settings
    architecture: list[str]
    data: str
    data_name: str
    position: Position
    history: History
    model: dict[str, Array]
    optimiser: dict[str, Array]
    calls: dict[str, int]

    @classmethod
    def of(
        cls,
        model: Layer,
        optimiser: Optimiser,
        settings: Settings,
        data: tuple[str, str],
        position: Position,
        history: History,
    ) -> Checkpoint:
        """A run as it is; ``data`` is its fingerprint and its name."""
        calls = {path: layer.calls for path, layer in _dropouts(model).items()}
        return cls(
            settings, _architecture(model), *data, position, history, model.state_dict(),
            optimiser.state_dict(), calls,
        )  # fmt: skip

    def save(self, path: str | PathLike[str]) -> None:
        """Write the file, ``.npz``. OSError if that can't be done; what was there stays then."""
        about = {
            "version": VERSION,
            "settings": self.settings.as_dict(),
            "architecture": self.architecture,
            "data": self.data,
            "data_name": self.data_name,
            "position": asdict(self.position),
            "history": asdict(self.history),
            "calls": self.calls,
        }
        arrays = {f"model/{name}": array for name, array in self.model.items()}
        arrays |= {f"optimiser/{name}": array for name, array in self.optimiser.items()}
        try:
            save_arrays(path, arrays | {"about": np.array(json.dumps(about))})
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"can't write the checkpoint {path}: {reason}") from error

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Checkpoint:
        """Read the file; nothing in it is run. ValueError for one that isn't there, is broken or
        isn't a checkpoint."""
        try:
            arrays = load_arrays(path)
        except OSError as error:
            raise ValueError(f"can't read the checkpoint {path}: {error.strerror}") from None
        try:
            about: dict[str, Any] = json.loads(str(arrays.pop("about")))
            if about.pop("version") != VERSION:
                raise ValueError("it is of another version")
            settings = Settings(**about.pop("settings"))
            position = Position(**about.pop("position"))
            history = History(**about.pop("history"))
            model, optimiser = (_below(part, arrays) for part in ("model/", "optimiser/"))
            return cls(
                settings, position=position, history=history, model=model, optimiser=optimiser,
                **about,
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} isn't a checkpoint of this version: {error}") from None

    def restore(
        self, model: Layer, optimiser: Optimiser, settings: Settings, data: tuple[str, str]
    ) -> None:
        """Bring model and optimiser to where they were. ValueError, before anything is changed,
        if the run is another one."""
        other = settings.differences(self.settings)
        if other:
            raise ValueError(f"the checkpoint is of a run with other settings: {', '.join(other)}")
        if _architecture(model) != self.architecture:
            raise ValueError("the checkpoint is of another model")
        if data[0] != self.data:
            raise ValueError(
                f"the checkpoint is of other data: {self.data_name}, not {data[1]} as it is now"
            )
        dropouts = _dropouts(model)
        check_names("checkpoint: calls", set(dropouts), set(self.calls))
        model.load_state_dict(self.model)
        optimiser.load_state_dict(self.optimiser)
        for path, layer in dropouts.items():
            layer.calls = self.calls[path]


def check_place(path: str | PathLike[str]) -> None:
    """Whether a checkpoint can be there, asked before the work is done.

    ValueError if its name doesn't end in .npz, OSError if its folder isn't there or is closed.
    """
    place = Path(path)
    if place.suffix != ".npz":
        raise ValueError(f"a checkpoint ends in .npz, got {str(path)!r}")
    if place.is_dir():
        raise OSError(f"can't write the checkpoint {path}: {os.strerror(errno.EISDIR)}")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        missing = errno.EACCES if place.parent.is_dir() else errno.ENOENT
        raise OSError(f"can't write the checkpoint {path}: {os.strerror(missing)}")


def _architecture(model: Layer) -> list[str]:
    return [
        f"{path}: {type(layer).__name__}({layer._described()}) {layer.dtype}"
        for path, layer in model.walk()
    ]


def _dropouts(model: Layer) -> dict[str, Dropout]:
    return {path: layer for path, layer in model.walk() if isinstance(layer, Dropout)}


def _below(part: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {
        name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)
    }
