"""What every layer is: parameters, gradients, buffers, modes, names.

A layer's arrays are made when they are first used, from a seed that is fixed when the layer is: a
network of 138 million parameters is counted without making one of them, and its initial values
don't depend on the order in which layers are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from types import MappingProxyType
from typing import Any, overload

import numpy as np

from cnnfast._core.arrays import Array, Dtype, as_array
from cnnfast._core.dtypes import kind_of
from cnnfast._core.geometry import Geometry
from cnnfast._core.operand import Shape
from cnnfast._core.packed import PackedWeight, pack_weight

from .files import load_arrays, save_arrays
from .names import check_names, join
from .parameters import Parameter, Range, Seed, constant, drawn_seed
from .reach import Reach, windows


class Layer:
    """A function with parameters: ``forward``, then ``backward`` of the same batch.

    In training (the mode of a new layer) ``forward`` keeps what ``backward`` needs. In evaluation
    it keeps nothing, and kernels read prepared copies of the weights; parameters are read-only
    then, so that the copies stay true. ``train()`` and ``eval()`` switch.

    Attributes
    ----------
    training : bool
    name : str
        The layer's path in the network that it is part of, such as "features.0".
    dtype : dtype
        Of parameters, inputs and results.
    """

    @property
    def fuses(self) -> bool:
        """Whether the kernel can apply an activation (``_fused`` is there)."""
        return False

    def __init__(self, dtype: Any = np.float32, rng: Seed = None) -> None:
        self.training = True
        self.name = ""
        self.dtype: Dtype = np.dtype(dtype).newbyteorder("=")
        if kind_of(self.dtype) != "float":
            raise TypeError(f"{type(self).__name__}: dtype must be a float, got {self.dtype}")
        self._seed = drawn_seed(rng)
        self._parameters: dict[str, Parameter] = {}
        self._buffers: dict[str, Parameter] = {}
        self._arrays: dict[str, Array] = {}
        self._grads: dict[str, Array] = {}
        self._packed: dict[str, PackedWeight] = {}
        #: What evaluation computes once from parameters and buffers, which are read-only then.
        self._prepared: Any = None
        self._saved: Any = None
        self._of_result: tuple[Shape, Dtype] = ((), self.dtype)

    # What a kind of layer defines.

    def _forward(self, input: Array) -> Array:
        raise NotImplementedError

    def _fused(self, input: Array, activation: str | None) -> Array:
        raise NotImplementedError

    def _folding(self, input: Array, activation: str | None, norm: Layer) -> Array:
        raise NotImplementedError

    def folds(self, norm: Layer, axes: int) -> bool:
        """Whether its weights can take in a batch normalisation behind it in evaluation, of inputs
        of so many axes."""
        return False

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        raise NotImplementedError

    def _shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """Multiplications and additions of convolutions and dense layers, and of pooling; what
        goes element by element isn't counted."""
        return 0

    def geometry(self, input_shape: Shape) -> Geometry | None:
        """The windows that slide over an input of this shape; None for layers without."""
        return None

    def reach(self, input_shape: Shape) -> tuple[Reach, ...] | None:
        """What the outputs read of an input of this shape, per spatial axis: ``()`` if they have no
        place and read everything, None if each reads its own place."""
        geometry = self.geometry(input_shape)
        return None if geometry is None else windows(geometry)

    def children(self) -> dict[str, Layer]:
        """The layers that this one is made of, by name."""
        return {}

    def steps(self) -> list[dict[str, Layer | None]]:
        """The children in the order they run. Those of one step read the same input (None: they
        are the input itself), and the next step reads what their results are joined to."""
        return [{name: child} for name, child in self.children().items()]

    # What all layers do.

    def output_shape(self, input_shape: Shape) -> Shape:
        """The result's shape for an input of this shape, batch and all.

        ValueError or TypeError names the layer, the rule and the values.
        """
        with self._named():
            return self._shape(tuple(input_shape))

    def __call__(self, input: Any) -> Array:
        return self.forward(input)

    def forward(self, input: Any) -> Array:
        """The result for a batch.

        ValueError or TypeError names the layer, the rule and the values.
        """
        with self._named():
            return self._result(self._forward(self._checked(input)))

    def forward_fused(self, input: Any, activation: str | None, norm: Layer | None = None) -> Array:
        """The same with an activation that the kernel applies, for layers that ``fuses``, and
        before it a batch normalisation, for those that it ``folds``."""
        with self._named():
            given = self._checked(input)
            if norm is None:
                return self._result(self._fused(given, activation))
            return self._result(self._folding(given, activation, norm))

    @overload
    def backward(self, grad_output: Any) -> Array: ...
    @overload
    def backward(self, grad_output: Any, to_input: bool) -> Array | None: ...
    def backward(self, grad_output: Any, to_input: bool = True) -> Array | None:
        """Set ``grads`` to the gradients of the last batch, and return that in its input (None
        without ``to_input``)."""
        with self._named():
            if self._saved is None:
                raise RuntimeError("backward needs a forward call in training mode before it")
            grad = as_array("grad_output", grad_output)
            if (grad.shape, grad.dtype) != self._of_result:
                shape, dtype = self._of_result
                raise ValueError(
                    f"grad_output must be as the result, {dtype} of shape {shape}, "
                    f"got {grad.dtype} of shape {grad.shape}"
                )
            return self._backward(grad, to_input)

    @property
    def params(self) -> Mapping[str, Array]:
        """Parameters by name, with those of children as "child.name"; the arrays themselves."""
        return MappingProxyType(
            {
                join(path, name): layer._array(name)
                for path, layer in self.walk()
                for name in layer._parameters
            }
        )

    @property
    def grads(self) -> Mapping[str, Array]:
        """What ``backward`` gave, by the names of ``params``."""
        return MappingProxyType(
            {
                join(path, name): grad
                for path, layer in self.walk()
                for name, grad in layer._grads.items()
            }
        )

    @property
    def buffers(self) -> Mapping[str, Array]:
        """What is kept beside the parameters, such as running means."""
        return MappingProxyType(
            {
                join(path, name): layer._array(name)
                for path, layer in self.walk()
                for name in layer._buffers
            }
        )

    def parameter_shapes(self) -> dict[str, Shape]:
        """The shapes of ``params``; makes no array."""
        return {
            join(path, name): parameter.shape
            for path, layer in self.walk()
            for name, parameter in layer._parameters.items()
        }

    def walk(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """Itself and all layers below it, with their paths."""
        yield path, self
        for name, child in self.children().items():
            yield from child.walk(join(path, name))

    def train(self, mode: bool = True) -> Layer:
        """Switch to training, or with False to evaluation; returns the layer."""
        for _, layer in self.walk():
            layer.training = mode
            layer._saved = None
            layer._unprepare()
        return self

    def eval(self) -> Layer:
        """Switch to evaluation; returns the layer."""
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """Parameters and buffers by the names that torch gives them; the arrays themselves."""
        return {
            join(path, name): layer._array(name)
            for path, layer in self.walk()
            for name in (*layer._parameters, *layer._buffers)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy arrays into parameters and buffers.

        ValueError, before anything is copied, unless names and shapes are those of
        ``state_dict()``.
        """
        places = {
            join(path, name): (layer, name, parameter)
            for path, layer in self.walk()
            for name, parameter in (*layer._parameters.items(), *layer._buffers.items())
        }
        check_names(type(self).__name__, set(places), set(state))
        arrays = {}
        for path, (_, _, parameter) in places.items():
            array = as_array(path, state[path])
            if array.shape != parameter.shape:
                raise ValueError(
                    f"{type(self).__name__}: {path} must have shape {parameter.shape}, "
                    f"got {array.shape}"
                )
            if not np.can_cast(array.dtype, parameter.dtype, "same_kind"):
                raise TypeError(
                    f"{type(self).__name__}: {path} must hold {parameter.dtype}, got {array.dtype}"
                )
            arrays[path] = array
        for path, (layer, name, parameter) in places.items():
            layer._unprepare()
            layer._arrays.setdefault(name, np.empty(parameter.shape, parameter.dtype))
            layer._arrays[name][...] = arrays[path]

    def save(self, path: str | PathLike[str]) -> None:
        """Write ``state_dict()`` to a file, whole or not at all: ``.npz``, or ``.safetensors``
        where that library is installed."""
        save_arrays(path, self.state_dict())

    def load(self, path: str | PathLike[str]) -> None:
        """Load what ``save`` wrote (or torch, as safetensors). ValueError for a file that is
        broken or another network's."""
        self.load_state_dict(load_arrays(path))

    def summary(self, input_shape: Shape) -> str:
        """A table of layers: output shapes, parameters, FLOP."""
        from cnnfast.analysis import summary

        return str(summary(self, input_shape))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._described()})"

    def _described(self) -> str:
        return ""

    # For kinds of layers.

    def _array(self, name: str) -> Array:
        """A parameter or buffer, made if it isn't there yet."""
        found = self._arrays.get(name)
        if found is None:
            parameter = (self._parameters | self._buffers)[name]
            order = [*self._parameters, *self._buffers].index(name)
            generator = np.random.default_rng([self._seed, order])
            values = np.asarray(generator.uniform(*parameter.between, parameter.shape))
            found = self._arrays[name] = values.astype(parameter.dtype)
        return found

    def _weight(self, **arguments: Any) -> Array | PackedWeight:
        """The weight, in evaluation a prepared copy (``arguments`` of ``pack_weight``)."""
        if self.training:
            return self._kernel()
        packed = self._packed.get("weight")
        if packed is None:
            self._freeze("weight")
            packed = self._packed["weight"] = pack_weight(self._kernel(), **arguments)
        return packed

    def _kernel(self) -> Array:
        """What is convolved with: the weight, unless a kind of layer makes it of that."""
        return self._array("weight")

    def _freeze(self, *names: str) -> None:
        for name in names:
            self._array(name).flags.writeable = False

    def _unprepare(self) -> None:
        for array in self._arrays.values():
            array.flags.writeable = True
        self._packed.clear()
        self._prepared = None

    def _bias(self) -> Array | None:
        return self._array("bias") if "bias" in self._parameters else None

    def _add(self, name: str, shape: Shape, between: Range) -> None:
        self._parameters[name] = Parameter(shape, between, self.dtype)

    def _add_buffer(self, name: str, shape: Shape, value: float, dtype: Any = None) -> None:
        kind = self.dtype if dtype is None else np.dtype(dtype)
        self._buffers[name] = Parameter(shape, constant(value), kind)

    def _keep(self, *saved: Any) -> None:
        """Remember for ``backward``, in training."""
        self._saved = saved if self.training else None

    def _result(self, result: Array) -> Array:
        """Note what a gradient must be like."""
        self._of_result = result.shape, result.dtype
        return result

    def _checked(self, input: Any) -> Array:
        array = as_array("input", input)
        if array.dtype != self.dtype:
            raise TypeError(f"the input must be {self.dtype} as the layer is, got {array.dtype}")
        return array

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors inside begin with the layer's name; once, where layers are nested."""
        try:
            yield
        except (ValueError, TypeError, RuntimeError) as error:
            if not getattr(error, "names_layer", False) and len(error.args) == 1:
                where = f" {self.name!r}" if self.name else ""
                error.args = (f"{type(self).__name__}{where}: {error.args[0]}",)
                error.names_layer = True  # type: ignore[union-attr]
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles go without the last batch and prepared weights."""
        state = self.__dict__.copy()
        state.update(_saved=None, _packed={}, _prepared=None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
