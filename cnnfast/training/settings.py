"""What decides a training run, beside the model and the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from cnnfast._core.arguments import integer
from cnnfast._core.reals import finite
from cnnfast.layers import SGD, Adam
from cnnfast.layers.layer import Layer
from cnnfast.layers.optim import Optimiser

#: Name -> learning rate that LeNet-5 learns digits well with.
OPTIMIZERS = {"sgd": 0.05, "adam": 0.002}


@dataclass(frozen=True)
class Settings:
    """What decides a training run; two runs of equal settings on the same model and data end in
    the same bits, whatever the number of threads.

    Parameters
    ----------
    epochs, batch : int
        The last batch of an epoch holds what is left.
    optimizer : "sgd" or "adam"
    lr : float, optional
        The learning rate at the start, from where it falls to 0 along half a cosine wave; by
        default 0.05 for "sgd" and 0.002 for "adam".
    momentum : float
        Of "sgd".
    weight_decay : float
        This part of each parameter is added to its gradient.
    shift : int
        Each time that training sees an image, it is moved by up to so many pixels along each axis.
    seed : int
        What the order of images and their movements are drawn with.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> Settings(optimizer="adam").lr
    0.002
    """

    epochs: int = 60
    batch: int = 32
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    shift: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("shift", 0), ("seed", 0)):
            object.__setattr__(self, name, integer(name, getattr(self, name), least))
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be {' or '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        rate = OPTIMIZERS[self.optimizer] if self.lr is None else finite("lr", self.lr)
        momentum, decay = (
            finite("momentum", self.momentum),
            finite("weight_decay", self.weight_decay),
        )
        if rate <= 0 or not 0 <= momentum < 1 or decay < 0:
            raise ValueError(
                "lr must be positive, momentum at least 0 and below 1, weight_decay non-negative, "
                f"got {rate}, {momentum} and {decay}"
            )
        for name, value in (("lr", rate), ("momentum", momentum), ("weight_decay", decay)):
            object.__setattr__(self, name, value)

    def optimiser(self, model: Layer) -> Optimiser:
        """A new optimiser of the model."""
        assert self.lr is not None
        if self.optimizer == "adam":
            return Adam(model, self.lr, weight_decay=self.weight_decay)
        return SGD(model, self.lr, self.momentum, self.weight_decay)

    def differences(self, other: Settings) -> list[str]:
        """What is other there.

        >>> Settings(epochs=3).differences(Settings(seed=1))
        ['epochs 3 (not 60)', 'seed 0 (not 1)']
        """
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return [f"{name} {mine!r} (not {its!r})" for name, mine, its in pairs if mine != its]

    def as_dict(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)
