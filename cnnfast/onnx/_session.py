"""Whole models: prepared once, run any number of times."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnfast._core.arguments import shown
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.extras import require

from ._folding import frozen
from ._fusion import simplify
from ._graph import build
from ._program import Program, Step

#: The element types of ONNX up to this one, COMPLEX128, are NumPy's own dtypes.
NUMPY_OWN = 15
#: Models that ``run`` keeps prepared.
KEPT_MODELS = 4


class StepTime(NamedTuple):
    """What ``Session.profile`` tells of a step."""

    step: str
    shape: tuple[int, ...] | None
    seconds: float
    by: str


class Session:
    """A model that is prepared for many runs.

    What depends on constants alone is computed now. BatchNormalization (and Mul, Add and their
    like by a number per channel) goes into the weights of the convolution before it, and Relu and
    Clip to (0, 6) into its last store. Weights are packed when they first meet an input. Operators
    that aren't computed here are computed by those of ``onnx.reference`` and ``cnnfast.onnx.ops``.

    Parameters
    ----------
    model : onnx.ModelProto, bytes of one, or a path
        Not to be changed while the session is in use.

    Attributes
    ----------
    inputs, outputs : tuple of str
        The names of what ``run`` takes (without those that the model has a value for) and gives.

    Raises
    ------
    TypeError
        For another model.
    ValueError
        For a node that reads what nothing gives or lacks an input, and what holds no model.
    ModuleNotFoundError
        Without the package onnx, with what installs it.

    Notes
    -----
    Any number of threads may run a session at a time.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import parser
    >>> model = parser.parse_model('''<ir_version: 8, opset_import: ["": 17]>
    ... pooled (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y) {
    ...     y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
    ... }''')
    >>> session = Session(model)
    >>> session.run({"x": np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)})[0].tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """

    def __init__(self, model: Any) -> None:
        self._model = _loaded(model)
        graph = self._model.graph
        self._constants = _initializers(graph)
        # Copies: a part of a message keeps all of it alive, with the weights.
        self._types = {value.name: copy.deepcopy(value.type) for value in graph.input}
        self.inputs = tuple(name for name in self._types if name not in self._constants)
        self.outputs = tuple(value.name for value in graph.output)
        self._programs = {frozenset[str](): self._program(frozenset())}
        if self._constants.keys().isdisjoint(self._types):
            # Nothing can be given in place of a constant: what is prepared is all there is to keep.
            self._constants, self._model = {}, None

    def _program(self, given: frozenset[str]) -> Program:
        """The model's steps, where ``given`` are inputs that replace initializers."""
        from . import ops

        constants = {name: a for name, a in self._constants.items() if name not in given}
        names = [name for name in self._types if name not in constants]
        graph = build(self._model, constants, names, ops)
        simplify(graph)
        return Program(graph)

    def run(self, inputs: Any) -> list[Any]:
        """Compute the model.

        Parameters
        ----------
        inputs : mapping of arrays by name, or a list or tuple of arrays in the order of ``inputs``
            By name also those that the model has a value for: what is given replaces it. They
            aren't modified.

        Returns
        -------
        list
            The graph's outputs in its order: arrays in memory of their own (or what ONNX's other
            types are in its reference evaluator: lists for sequences).

        Raises
        ------
        ValueError
            For a missing input, a name that isn't one, another rank or size than the model has.
        TypeError
            For another dtype, and ``inputs`` of another kind.
        """
        feeds = self._checked(inputs)
        return _apart(self._program_for(feeds).run(feeds), feeds)

    def profile(self, inputs: Any) -> list[StepTime]:
        """Compute the model, and tell what each of its steps took.

        Parameters
        ----------
        inputs
            As for ``run``.

        Returns
        -------
        list of (step, shape, seconds, by)
            In the order in which they run: the operators of a step, the shape of its first result,
            and who computes it, "cnnfast" or "onnx.reference". The first run of a shape of inputs
            packs weights.

        Raises
        ------
        ValueError, TypeError
            As ``run``.
        """
        times: list[StepTime] = []

        def note(step: Step, arguments: list[Any], result: Any, seconds: float) -> None:
            by = "cnnfast" if step.native else "onnx.reference"
            times.append(StepTime(step.label, getattr(result, "shape", None), seconds, by))

        feeds = self._checked(inputs)
        self._program_for(feeds).run(feeds, note)
        return times

    def _program_for(self, feeds: Mapping[str, Any]) -> Program:
        given = frozenset(feeds).intersection(self._constants)
        program = self._programs.get(given)
        if program is None:
            program = self._programs[given] = self._program(given)
        return program

    def _checked(self, inputs: Any) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            named = dict(inputs)
        elif isinstance(inputs, (list, tuple)):
            if len(inputs) != len(self.inputs):
                raise ValueError(
                    f"run: the model has {len(self.inputs)} inputs, {list(self.inputs)}, "
                    f"got {len(inputs)}"
                )
            named = dict(zip(self.inputs, inputs, strict=True))
        else:
            raise TypeError(
                "run: inputs must be a mapping from names to arrays, or a list or tuple of arrays, "
                f"got {type(inputs).__qualname__}"
            )
        for name in named:
            if name not in self._types:
                raise ValueError(
                    f"run: {shown(name)} is no input of the model, which has {list(self._types)}"
                )
        missing = [name for name in self.inputs if name not in named]
        for name in list(missing):
            if self._types[name].HasField("optional_type"):
                named[name] = None
                missing.remove(name)
        if missing:
            raise ValueError(f"run: the model's inputs {missing} are missing, got {list(named)}")
        return {name: _fitting(name, value, self._types[name]) for name, value in named.items()}


def run(model: Any, inputs: Any) -> list[Any]:
    """Compute an ONNX model on arrays.

    The first run of a model prepares it, as ``Session`` does; the last four models are kept for
    runs that follow.

    Parameters
    ----------
    model : onnx.ModelProto, bytes of one, or a path
        A ModelProto and bytes are known again as the same object, a file by its path, size and time
        of change. A ModelProto that is changed after its first run needs a ``Session`` of its own.
    inputs : mapping of arrays by name, or a list or tuple of arrays in the order of the graph's
        inputs (without those that it has initializers for)

    Returns
    -------
    list
        The graph's outputs in its order.

    Raises
    ------
    ValueError, TypeError, ModuleNotFoundError
        As ``Session`` and ``Session.run``.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import parser
    >>> model = parser.parse_model('''<ir_version: 8, opset_import: ["": 17]>
    ... rectified (float[N] x) => (float[N] y) { y = Relu(x) }''')
    >>> run(model, {"x": np.array([-1, 2], np.float32)})
    [array([0., 2.], dtype=float32)]
    """
    return _kept(model).run(inputs)


#: The models that ran last: what they are known by, what keeps that alive, and their sessions.
_sessions: list[tuple[Any, Any, Session]] = []
_lock = threading.Lock()


def _kept(model: Any) -> Session:
    """The session of a model, from memory if it is one of the last."""
    key = _file_key(model) if isinstance(model, (str, os.PathLike)) else id(model)
    with _lock:
        for at, (known, _, session) in enumerate(_sessions):
            if known == key:
                _sessions.append(_sessions.pop(at))
                return session
    session = Session(model)
    with _lock:
        _sessions.append((key, model, session))
        del _sessions[:-KEPT_MODELS]
    return session


def _file_key(path: Any) -> tuple[str, int, int]:
    state = os.stat(path)
    return os.path.abspath(path), state.st_size, state.st_mtime_ns


def _loaded(model: Any) -> Any:
    """The model as ModelProto."""
    onnx = require("cnnfast.onnx", "onnx")
    if isinstance(model, onnx.ModelProto):
        if not model.HasField("graph"):
            raise ValueError("model must have a graph, got a ModelProto without one")
        return model
    if not isinstance(model, (str, os.PathLike, bytes)):
        raise TypeError(
            "model must be an onnx.ModelProto, bytes or a path, got "
            f"{type(model).__module__}.{type(model).__qualname__}"
        )
    what = "bytes" if isinstance(model, bytes) else str(Path(model))
    try:
        if isinstance(model, bytes):
            loaded = onnx.load_model_from_string(model)
        else:
            loaded = onnx.load_model(os.fspath(model))
    except OSError:
        raise
    except Exception as error:  # protobuf's own, which has no public name
        raise ValueError(f"{what} can't be read as an ONNX model: {error}") from None
    if not loaded.HasField("graph"):
        raise ValueError(f"{what} can't be read as an ONNX model: there is no graph in it")
    return loaded


def _initializers(graph: Any) -> dict[str, Array]:
    to_array = require("cnnfast.onnx", "onnx.numpy_helper").to_array
    arrays = {}
    for value in graph.initializer:
        try:
            arrays[value.name] = frozen(to_array(value))
        except Exception as error:  # of a checker whose errors are no ValueErrors
            raise ValueError(f"the initializer {value.name!r} can't be read: {error}") from None
    return arrays


def _fitting(name: str, value: Any, kind: Any) -> Any:
    """An input as an array in native byte order, if it is what the model says."""
    if not kind.HasField("tensor_type"):
        return value
    tensor = kind.tensor_type
    helper = require("cnnfast.onnx", "onnx.helper")
    array = as_array(f"run: {name}", value)
    if tensor.elem_type:
        wanted = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        if wanted.kind == "O" and array.dtype.kind in "OUST":
            return array
        if tensor.elem_type > NUMPY_OWN and wanted.isbuiltin == 1:
            return array  # onnx before 1.19 knows narrow types in disguises of its own
        if array.dtype.newbyteorder("=") != wanted:
            raise TypeError(f"run: {name} must have dtype {wanted}, got {array.dtype}")
        array = array.astype(wanted, copy=False)
    if tensor.HasField("shape"):
        _check_shape(name, array.shape, tensor.shape.dim)
    return array


def _check_shape(name: str, shape: tuple[int, ...], dims: Sequence[Any]) -> None:
    # Some exporters write -1 where any size will do.
    sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None
             for dim in dims]  # fmt: skip
    fits = len(sizes) == len(shape) and all(
        size in (None, extent) for size, extent in zip(sizes, shape, strict=True)
    )
    if not fits:
        named = [dim.dim_param or "any" if size is None else str(size)
                 for dim, size in zip(dims, sizes, strict=True)]  # fmt: skip
        raise ValueError(f"run: {name} must have shape ({', '.join(named)}), got {shape}")


def _apart(results: list[Any], feeds: Mapping[str, Any]) -> list[Any]:
    """The results, copied where they share memory with an input, a constant or each other."""
    taken: list[Array] = []
    for value in feeds.values():
        values = value if isinstance(value, list) else [value]
        taken += (a for a in values if isinstance(a, np.ndarray))

    def apart(result: Any) -> Any:
        if isinstance(result, list):  # a sequence
            return [apart(element) for element in result]
        if isinstance(result, np.ndarray):
            if not result.flags.writeable or any(np.may_share_memory(result, a) for a in taken):
                result = result.copy()
            taken.append(result)
        return result

    return [apart(result) for result in results]
