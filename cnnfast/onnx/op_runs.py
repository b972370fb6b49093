"""``ops``: the operators as classes for ONNX's reference evaluator.

>>> import numpy as np, onnx
>>> from onnx.reference import ReferenceEvaluator
>>> from cnnfast.onnx import ops
>>> text = '''<ir_version: 10, opset_import: ["" : 22]>
... g (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y) { y = MaxPool <kernel_shape = [3, 3]> (x) }'''
>>> evaluator = ReferenceEvaluator(onnx.parser.parse_model(text), new_ops=ops)
>>> evaluator.run(None, {"x": np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)})
[array([[[[10., 11.],
         [14., 15.]]]], dtype=float32)]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnfast._core.dtypes import KINDS, kind_of
from cnnfast._core.extras import require

from . import operators
from ._attributes import MOST_AXES

OpRun = require("cnnfast.onnx", "onnx.reference.op_run").OpRun

#: Whether inputs are what an operator of ours takes; if not, onnx's own implementation runs.
Serves = Callable[..., bool]


def _sliding(*kinds: str) -> Serves:
    """Arrays of these kinds of dtype with as many spatial axes as kernels take."""
    return lambda x, *_: x.ndim - 2 <= MOST_AXES and kind_of(x.dtype) in kinds


def _bytes(x: Any, *_: Any) -> bool:
    return x.ndim - 2 <= MOST_AXES and x.dtype.name in ("int8", "uint8")


def _columns(x: Any, image_shape: Any, *_: Any) -> bool:
    return len(image_shape) <= MOST_AXES and kind_of(x.dtype) in KINDS


def _anything(*_: Any) -> bool:
    return True


def _plane(x: Any) -> bool:
    return kind_of(x.dtype) == "float"


def _operator(op_type: str, function: Callable[..., Any], serves: Serves) -> Any:
    """The class that runs an operator of every opset."""

    def run(self: Any, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        if not serves(*inputs):
            return _run_onnx_own(self, inputs, attributes)
        if op_type == "MaxPool":
            attributes["return_indices"] = len(self.output) > 1
        result = function(*inputs, **attributes)
        return result if isinstance(result, tuple) else (result,)

    doc = f"``cnnfast.onnx.operators.{function.__name__}`` as a node's implementation."
    return type(op_type, (OpRun,), {"_run": run, "__doc__": doc, "__module__": __name__})


def _run_onnx_own(
    node: Any, inputs: tuple[Any, ...], attributes: dict[str, Any]
) -> tuple[Any, ...]:
    """What the evaluator would have computed: the package's implementation for the node's opset,
    which knows the attributes of that opset alone."""
    load_op = require("cnnfast.onnx", "onnx.reference.ops").load_op
    version = node.run_params["opsets"][node.domain]
    own = load_op(node.domain, node.op_type, version)(node.onnx_node, node.run_params)
    known = {name: attributes[name] for name in own.attributes_names_ if name in attributes}
    result: tuple[Any, ...] = own._run(*inputs, **known)
    return result


#: What ``onnx.reference.ReferenceEvaluator(model, new_ops=ops)`` takes.
ops = [
    _operator("AveragePool", operators.average_pool, _sliding("float")),
    _operator("Col2Im", operators.col2im, _columns),
    _operator("Conv", operators.conv, _sliding("float")),
    _operator("ConvInteger", operators.conv_integer, _bytes),
    _operator("ConvTranspose", operators.conv_transpose, _sliding("float")),
    _operator("DeformConv", operators.deform_conv, _sliding("float")),
    _operator("GlobalAveragePool", operators.global_average_pool, _plane),
    # onnx has none of its own.
    _operator("GlobalLpPool", operators.global_lp_pool, _anything),
    _operator("GlobalMaxPool", operators.global_max_pool, _plane),
    _operator("LpPool", operators.lp_pool, _sliding("float")),
    _operator("MaxPool", operators.max_pool, _sliding("float", "integer")),
    _operator("MaxUnpool", operators.max_unpool, _anything),
    _operator("QLinearConv", operators.qlinear_conv, _bytes),
]
