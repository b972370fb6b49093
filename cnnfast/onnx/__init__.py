"""ONNX: its operators on NumPy arrays, for ONNX's reference evaluator and for whole models.

``ops`` is a list of operators for ``onnx.reference.ReferenceEvaluator(model, new_ops=ops)``;
``run`` and ``Session`` compute whole models; ``operators`` has the operators as plain functions,
which need no package but NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import operators
    from ._session import Session, run
    from .op_runs import ops

__all__ = ["Session", "operators", "ops", "run"]

#: Where a name comes from. Modules load when a name of theirs is first used: the operators alone
#: need neither onnx nor what runs models.
_HOMES = {"Session": "_session", "ops": "op_runs", "run": "_session"}


def __getattr__(name: str) -> Any:
    if name == "operators":
        return import_module("cnnfast.onnx.operators")
    if name not in _HOMES:
        raise AttributeError(f"module 'cnnfast.onnx' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"cnnfast.onnx.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
