"""A prepared graph as steps, and where their results go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array

from ._elementwise import empty
from ._graph import Graph, Node
from ._natives import native_of

#: Shapes of inputs for which it is remembered where results go.
KEPT_SHAPES = 16


@dataclass(eq=False)
class Step:
    """One node, ready to run; ``dead`` are the values that nothing reads afterwards."""

    inputs: list[str]
    outputs: list[str]
    call: Callable[..., Any]
    label: str
    native: bool
    takes_out: bool = False
    #: Whether its graphs read values by name.
    needs_context: bool = False
    dead: tuple[str, ...] = ()


@dataclass(frozen=True)
class Join:
    """A Concat of values whose shapes follow from those of the model's inputs."""

    result: str
    parts: tuple[str, ...]
    axis: int
    #: Parts that may be computed right where the Concat wants them.
    movable: frozenset[str]


@dataclass(frozen=True)
class Places:
    """Where results go for certain shapes of inputs: a stretch of a larger array."""

    #: Larger array -> its shape and dtype.
    whole: dict[str, tuple[tuple[int, ...], Any]]
    #: Value -> larger array, and what to index it with.
    part: dict[str, tuple[str, tuple[slice, ...]]]


#: No result goes anywhere but into memory of its own.
NOWHERE = Places({}, {})
#: What is told of each step: its inputs, its first result, and the seconds that it took.
Observer = Callable[[Step, list[Any], Any, float], None]


class Program:
    """The steps of a graph; any number of threads may run them at a time."""

    def __init__(self, graph: Graph) -> None:
        self.outputs = list(graph.outputs)
        self.joins: list[Join] = []
        self.steps = self._steps(graph)
        read = {name for step in self.steps for name in step.inputs}
        read.update(self.outputs, *(node.captured for node in graph.nodes))
        self.constants = {name: a for name, a in graph.constants.items() if name in read}
        self._bury(graph)
        self._places: dict[Any, Places] = {}

    def _steps(self, graph: Graph) -> list[Step]:
        reads, sole = graph.reads(), graph.sole_readers()
        #: Values in memory of their own, which their only reader may write to.
        own: set[str] = set()
        fixed = {*graph.inputs, *graph.constants, ""}
        movable: set[str] = set()
        steps = []
        for node in graph.nodes:
            native = native_of(node, graph, lambda name: name in own and name in sole)
            if native is None:
                steps.append(_by_reference(node))
                continue
            result = node.outputs[0]
            steps.append(Step(native.inputs, [result], native.call, node.label, True,
                              native.takes_out))  # fmt: skip
            if fixed.issuperset(native.inputs):
                fixed.add(result)
                if native.takes_out and result not in graph.outputs:
                    movable.add(result)
                if node.kind == "Concat":
                    self.joins.append(_join(node, graph, movable))
            # What lies in a Concat's memory is overwritten with it.
            alone = node.kind != "Concat" or all(
                reads[name] == 1 and (name in own or name not in movable) for name in node.inputs
            )
            if native.owns and alone:
                own.add(result)
        return steps

    def _bury(self, graph: Graph) -> None:
        """Find each step after which a value isn't needed any more."""
        last: dict[str, Step] = {}
        for step, node in zip(self.steps, graph.nodes, strict=True):
            last.update(dict.fromkeys((*step.inputs, *step.outputs, *node.captured), step))
        for name in (*self.outputs, ""):
            last.pop(name, None)
        for name, step in last.items():
            step.dead = (*step.dead, name)

    def run(self, feeds: Mapping[str, Any], observe: Observer | None = None) -> list[Any]:
        """The outputs for these inputs, which aren't checked any more."""
        values: dict[str, Any] = {"": None, **self.constants, **feeds}
        key = tuple((name, a.shape, a.dtype) for name, a in feeds.items() if _is_array(a))
        places = self._places.get(key) if self.joins else NOWHERE
        if places is not None:
            self._execute(values, places, observe)
        else:
            shapes: dict[str, tuple[tuple[int, ...], Any]] = {}

            def record(step: Step, arguments: list[Any], result: Any, seconds: float) -> None:
                known = zip((*step.inputs, step.outputs[0]), (*arguments, result), strict=True)
                shapes.update((name, (a.shape, a.dtype)) for name, a in known if _is_array(a))
                if observe is not None:
                    observe(step, arguments, result, seconds)

            self._execute(values, NOWHERE, record)
            if len(self._places) >= KEPT_SHAPES:
                self._places.clear()
            self._places[key] = arrange(self.joins, shapes)
        return [values[name] for name in self.outputs]

    def _execute(
        self, values: dict[str, Any], places: Places, observe: Observer | None = None
    ) -> None:
        part = places.part
        wholes: dict[str, Array] = {}
        for step in self.steps:
            result = step.outputs[0]
            arguments = [values[name] for name in step.inputs]
            start = time.perf_counter() if observe is not None else 0.0
            try:
                if result in part:
                    whole, where = part[result]
                    if whole not in wholes:
                        wholes[whole] = empty(*places.whole[whole])
                    values[result] = step.call(*arguments, out=wholes[whole][where])
                    if whole == result:
                        del wholes[whole]
                elif step.native:
                    values[result] = step.call(*arguments)
                else:
                    _store(step, arguments, values)
            except Exception as error:  # raised again, with the step's name
                error.add_note(f"while computing {step.label}")
                raise
            if observe is not None:
                observe(step, arguments, values.get(result), time.perf_counter() - start)
            for name in step.dead:
                values.pop(name, None)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _by_reference(node: Node) -> Step:
    """The node as the reference evaluator computes it."""
    return Step(
        node.inputs, node.outputs, node.operator.run, node.label, False,
        needs_context=bool(node.operator.need_context()),
    )  # fmt: skip


def _store(step: Step, arguments: list[Any], values: dict[str, Any]) -> None:
    context = {"context": dict(values)} if step.needs_context else {}
    results = step.call(*arguments, **context)
    values.update(
        (name, result) for name, result in zip(step.outputs, results, strict=False) if name
    )


def _join(node: Node, graph: Graph, movable: set[str]) -> Join:
    rank = graph.ranks[node.inputs[0]]
    axis = node.attributes.get("axis", 1) % rank
    return Join(node.outputs[0], tuple(node.inputs), axis, frozenset(movable))


def arrange(joins: list[Join], shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> Places:
    """Places for the parts of each Concat, the last one first: an earlier one may be a part of it.

    Only stretches of memory are given away, as those of the channels of one image are: kernels
    refuse to write between what they read.
    """
    places = Places({}, {})
    for join in reversed(joins):
        shape, dtype = shapes[join.result]
        if any(extent != 1 for extent in shape[: join.axis]):
            continue
        if join.result not in places.part:
            places.whole[join.result] = shape, dtype
            places.part[join.result] = join.result, (slice(None),) * len(shape)
        whole, where = places.part[join.result]
        start = where[join.axis].start or 0
        for name in join.parts:
            part, kind = shapes.get(name, ((), None))
            extent = part[join.axis] if part else 0
            if name in join.movable and kind == dtype and name not in places.part:
                index = list(where)
                index[join.axis] = slice(start, start + extent)
                places.part[name] = whole, tuple(index)
            start += extent
    return places
