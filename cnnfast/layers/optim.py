"""Optimisers: they change a layer's parameters by its gradients, in place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnfast._core.arguments import flag, integer, sequence
from cnnfast._core.arrays import Array, Dtype, as_array
from cnnfast._core.reals import finite

from .layer import Layer
from .names import check_names


class Optimiser:
    """What SGD and Adam share: arrays beside each parameter, and the count of steps."""

    #: Names of the arrays beside each parameter.
    slots: tuple[str, ...] = ()

    def __init__(self, model: Layer, lr: float, weight_decay: float) -> None:
        name = type(self).__name__
        if not isinstance(model, Layer):
            raise TypeError(f"{name}: model must be a layer, got {model!r}")
        self.model = model
        self.lr = finite(f"{name}: lr", lr)
        self.weight_decay = finite(f"{name}: weight_decay", weight_decay)
        if self.lr < 0 or self.weight_decay < 0:
            raise ValueError(
                f"{name}: lr and weight_decay must be non-negative, got {lr} and {weight_decay}"
            )
        self.steps = 0
        #: Settings to be shown.
        self._shown = {"lr": self.lr, "weight_decay": self.weight_decay}
        self._arrays: dict[str, dict[str, Array]] = {slot: {} for slot in self.slots}
        self._memory: dict[Dtype, Array] = {}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._shown.items())
        return f"{type(self).__name__}({settings})"

    def step(self) -> None:
        """Change every parameter that has a gradient.

        RuntimeError in evaluation, where prepared copies of the parameters are in use.
        """
        if not self.model.training:
            raise RuntimeError(f"{type(self).__name__}: step needs the model in training mode")
        self.steps += 1
        params = self.model.params
        for name, grad in self.model.grads.items():
            param = params[name]
            if self.weight_decay:
                grad = grad + self.weight_decay * param
            for slot in self.slots:
                self._arrays[slot].setdefault(name, np.zeros_like(param))
            self._change(param, grad, *(self._arrays[slot][name] for slot in self.slots))

    def _change(self, param: Array, grad: Array, *slots: Array) -> None:
        raise NotImplementedError

    def _scratch(self, param: Array, which: int) -> Array:
        """Memory like a parameter, the first or the second of two; kept, as new memory of such
        sizes costs more than a pass over it."""
        held = self._memory.get(param.dtype)
        if held is None or held.shape[1] < param.size:
            held = self._memory[param.dtype] = np.empty((2, param.size), param.dtype)
        return held[which, : param.size].reshape(param.shape)

    def state_dict(self) -> dict[str, Array]:
        """What ``step`` goes on from: the count of steps, and arrays named slot/parameter."""
        arrays = {
            f"{slot}/{name}": array
            for slot, by_name in self._arrays.items()
            for name, array in by_name.items()
        }
        return {"steps": np.array(self.steps), **arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict()``. ValueError or TypeError, before anything is changed, for
        other names, shapes or dtypes than the model's."""
        name = type(self).__name__
        arrays = {key: as_array(str(key), value) for key, value in state.items()}
        steps = integer(f"{name}: steps", arrays.get("steps", np.array(0))[()], 0)
        # What has had no gradient yet has no arrays either.
        known = {
            key: (slot, path, parameter)
            for path, parameter in self.model.params.items()
            if any(f"{slot}/{path}" in arrays for slot in self.slots)
            for slot in self.slots
            for key in [f"{slot}/{path}"]
        }
        check_names(name, {*known, "steps"}, set(arrays))
        loaded: dict[str, dict[str, Array]] = {slot: {} for slot in self.slots}
        for key, (slot, path, parameter) in known.items():
            array = arrays[key]
            if (array.shape, array.dtype) != (parameter.shape, parameter.dtype):
                raise ValueError(
                    f"{name}: {key} must be {parameter.dtype} of shape {parameter.shape}, "
                    f"got {array.dtype} of shape {array.shape}"
                )
            loaded[slot][path] = array.copy()
        self.steps, self._arrays = steps, loaded


class SGD(Optimiser):
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``.

    Parameters
    ----------
    model : Layer
    lr : float
        Learning rate.
    momentum, weight_decay : float
    nesterov : bool

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> from cnnfast.layers import Linear
    >>> layer = Linear(1, 1, bias=False)
    >>> before = layer.params["weight"].copy()
    >>> _ = layer.backward(np.ones_like(layer(np.ones((1, 1), np.float32))))
    >>> SGD(layer, lr=0.5).step()
    >>> (before - layer.params["weight"]).round(3)
    array([[0.5]], dtype=float32)
    """

    slots = ("momentum",)

    def __init__(
        self,
        model: Layer,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(model, lr, weight_decay)
        self.momentum = finite("SGD: momentum", momentum)
        self.nesterov = flag("SGD: nesterov", nesterov)
        if self.momentum < 0 or (self.nesterov and not self.momentum):
            raise ValueError(
                "SGD: momentum must be non-negative, with nesterov positive, "
                f"got momentum={momentum}, nesterov={nesterov}"
            )
        self._shown["momentum"] = self.momentum

    def _change(self, param: Array, grad: Array, *slots: Array) -> None:
        (velocity,) = slots
        step = self._scratch(param, 0)
        if self.momentum:
            velocity *= self.momentum
            velocity += grad
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=step)
                step += grad
                grad = step
            else:
                grad = velocity
        np.multiply(grad, self.lr, out=step)
        param -= step


class Adam(Optimiser):
    """Adam, as ``torch.optim.Adam``.

    Parameters
    ----------
    model : Layer
    lr : float
        Learning rate.
    betas : (float, float)
        Of the running means of gradients and of their squares.
    eps, weight_decay : float

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: Kingma and Ba 2015.

    Examples
    --------
    >>> from cnnfast.layers import Linear
    >>> layer = Linear(1, 1, bias=False)
    >>> before = layer.params["weight"].copy()
    >>> _ = layer.backward(np.ones_like(layer(np.ones((1, 1), np.float32))))
    >>> Adam(layer, lr=0.5).step()
    >>> (before - layer.params["weight"]).round(3)
    array([[0.5]], dtype=float32)
    """

    slots = ("mean", "square")

    def __init__(
        self,
        model: Layer,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(model, lr, weight_decay)
        pair = sequence(betas)
        if pair is None or len(pair) != 2:
            raise TypeError(f"Adam: betas must be two numbers, got {betas!r}")
        first, second = (finite("Adam: betas", beta) for beta in pair)
        self.betas = (first, second)
        self.eps = finite("Adam: eps", eps)
        if not (0 <= first < 1 and 0 <= second < 1) or self.eps < 0:
            raise ValueError(
                "Adam: betas must be at least 0 and below 1, eps non-negative, "
                f"got betas={betas}, eps={eps}"
            )

    def _change(self, param: Array, grad: Array, *slots: Array) -> None:
        mean, square = slots
        first, second = self.betas
        change, root = self._scratch(param, 0), self._scratch(param, 1)
        np.subtract(grad, mean, out=change)
        change *= 1 - first
        mean += change
        square *= second
        np.square(grad, out=change)
        change *= 1 - second
        square += change
        np.sqrt(square, out=root)
        root /= math.sqrt(1 - second**self.steps)
        root += self.eps
        np.multiply(mean, self.lr / (1 - first**self.steps), out=change)
        change /= root
        param -= change
