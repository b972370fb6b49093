"""An ONNX model's graph as something to rewrite: nodes, constants, who reads what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.extras import require

#: Domains whose operators are ONNX's own; both names mean the same.
DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(eq=False)
class Node:
    """One operator of the graph. ``kind`` is its name where it is one of ONNX's own, else None: no
    pass looks into those. ``operator`` is the reference evaluator's object for it."""

    kind: str | None
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    operator: Any
    #: What the graphs in its attributes read of this one.
    captured: frozenset[str] = frozenset()
    #: What the kernel is to apply to its results.
    activation: str | None = None
    #: The operators of nodes that this one computes as well.
    absorbed: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What errors and profiles call it."""
        name = self.operator.onnx_node.name
        own = f"{self.operator.op_type} {name!r}" if name else str(self.operator.op_type)
        return " + ".join([own, *self.absorbed])


@dataclass
class Graph:
    """What a model computes, once it is known which of its values are constants."""

    nodes: list[Node]
    constants: dict[str, Array]
    inputs: list[str]
    outputs: list[str]
    opset: int
    #: How many axes values have, as far as that is known.
    ranks: dict[str, int] = field(default_factory=dict)

    def constant(self, name: str) -> Array | None:
        """The value under this name, if it is a constant."""
        return self.constants.get(name)

    def reads(self) -> Counter[str]:
        """How often each name is read; a graph's output and a captured name count as well."""
        counts: Counter[str] = Counter(self.outputs)
        for node in self.nodes:
            counts.update(node.inputs)
            counts.update(node.captured)
        return counts

    def sole_readers(self) -> dict[str, Node]:
        """The one node that reads a value, for values that nothing else reads."""
        counts = self.reads()
        return {
            name: node
            for node in self.nodes
            for name in node.inputs
            if name and counts[name] == 1 and name not in node.captured
        }

    def pinned(self) -> set[str]:
        """Names that can't be exchanged for others: outputs, and what inner graphs read."""
        return {*self.outputs, *(name for node in self.nodes for name in node.captured)}

    def drop_unread(self) -> None:
        """Leave out nodes and constants that no output depends on."""
        wanted, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            wanted.discard("")  # an input or output that is left out
            if wanted.intersection(node.outputs):
                wanted.update(node.inputs, node.captured)
                kept.append(node)
        self.nodes = kept[::-1]
        self.constants = {name: a for name, a in self.constants.items() if name in wanted}

    def check_order(self) -> None:
        """ValueError for a node that reads what nothing before it gives."""
        known = {"", *self.inputs, *self.constants}
        for node in self.nodes:
            for name in (*node.inputs, *sorted(node.captured)):
                if name not in known:
                    raise ValueError(
                        f"{node.label} reads {name!r}, which is no input or initializer of the "
                        "graph and no output of a node before it"
                    )
            known.update(node.outputs)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"no node gives the graph's output {name!r}")


def build(model: Any, constants: dict[str, Array], inputs: list[str], new_ops: Any) -> Graph:
    """The graph of a ModelProto as it stands, where ``constants`` are its initializers."""
    evaluator = require("cnnfast.onnx", "onnx.reference").ReferenceEvaluator
    light = _without_initializers(model)
    operators = evaluator(light, new_ops=new_ops).rt_nodes_
    opsets = {item.domain: item.version for item in light.opset_import}
    opset = next((opsets[domain] for domain in DEFAULT_DOMAINS if domain in opsets), 0)
    for proto in light.graph.node:
        _check_inputs(proto, opset)
    nodes = [
        _node(proto, operator) for proto, operator in zip(light.graph.node, operators, strict=True)
    ]
    outputs = [output.name for output in model.graph.output]
    graph = Graph(nodes, constants, inputs, outputs, opset)
    for value in model.graph.input:
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.HasField("shape"):
            graph.ranks[value.name] = len(kind.shape.dim)
    graph.check_order()
    return graph


def _without_initializers(model: Any) -> Any:
    """A copy of the model that has no weights, so that nothing decodes them a second time, and its
    functions written out where they are called."""
    onnx = require("cnnfast.onnx", "onnx")
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    for part in ("node", "input", "output", "value_info"):
        getattr(light.graph, part).extend(getattr(model.graph, part))
    for opset in light.opset_import:
        if opset.domain in DEFAULT_DOMAINS:
            opset.domain = ""
    _call_default_domain_empty(light.graph)
    if not model.functions:
        return light
    # As inputs, whose names nothing that is written out will take.
    weights = [onnx.ValueInfoProto(name=value.name) for value in model.graph.initializer]
    inputs = {value.name for value in model.graph.input}
    light.graph.input.extend(value for value in weights if value.name not in inputs)
    return require("cnnfast.onnx", "onnx.inliner").inline_local_functions(light)


def _call_default_domain_empty(graph: Any) -> None:
    """Under its other name the reference evaluator doesn't know it."""
    for node in graph.node:
        if node.domain in DEFAULT_DOMAINS:
            node.domain = ""
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _call_default_domain_empty(inner)


def _check_inputs(proto: Any, opset: int) -> None:
    """ValueError for a node without an input that ONNX's operator must have."""
    defs = require("cnnfast.onnx", "onnx.defs")
    if proto.domain not in DEFAULT_DOMAINS or not defs.has(proto.op_type):
        return
    many = defs.get_schema(proto.op_type, opset).min_input
    given = list(proto.input[:many])
    if len(given) < many or "" in given:
        raise ValueError(
            f"{proto.op_type} {proto.name!r} must have {many} inputs, got {list(proto.input)}"
        )


def _node(proto: Any, operator: Any) -> Node:
    own = proto.domain in DEFAULT_DOMAINS
    attributes = {}
    if own and not any(attribute.ref_attr_name for attribute in proto.attribute):
        attributes = {attribute.name: _value(attribute) for attribute in proto.attribute}
    captured = frozenset(
        name
        for attribute in proto.attribute
        for inner in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
        for name in free_names(inner)
    )
    kind = proto.op_type if own else None
    return Node(kind, list(proto.input), list(proto.output), attributes, operator, captured)


def _value(attribute: Any) -> Any:
    """An attribute's value; None for those that hold graphs."""
    helper = require("cnnfast.onnx", "onnx.helper")
    if attribute.HasField("g") or attribute.graphs:
        return None
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return list(value) if attribute.ints or attribute.floats else value


def free_names(graph: Any) -> Iterator[str]:
    """What a GraphProto inside a node reads of the graph around it."""
    known = {value.name for value in (*graph.input, *graph.initializer)}
    known.update(value.values.name for value in graph.sparse_initializer)
    for node in graph.node:
        yield from (name for name in node.input if name and name not in known)
        for attribute in node.attribute:
            inside = [attribute.g] if attribute.HasField("g") else attribute.graphs
            yield from (name for inner in inside for name in free_names(inner) if name not in known)
        known.update(node.output)
    yield from (value.name for value in graph.output if value.name not in known)
