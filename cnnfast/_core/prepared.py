"""Calls that are validated and planned: what is left is memory, views and the kernel.

A prepared call knows shapes, strides and dtypes of the arrays that it will be given, and trusts
them; it holds no memory of theirs. It can be called any number of times, from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from cnnfast.kernels.drivers import has_element_strides
from cnnfast.kernels.storage import computing_dtype

from . import complexes, config
from .arrays import Array, Dtype, check_apart, kernel_ready
from .conv_geometry import ConvGeometry
from .dtypes import converted
from .operand import Shape, View
from .planner import Plan, warn
from .pool_geometry import PoolGeometry
from .workspace import large_empty, scratch

#: Threads settings that a prepared call remembers its scratch for.
KEPT_SETTINGS = 8
#: Window tables of more rows (24 bytes each) are made again in each call instead of kept: that of
#: 1600 windows takes 77 us, half the time to compute them for 512 channels.
KEPT_WINDOWS = 4200


class Running:
    """A planned row: its function, and threads and scratch for the threads setting in force."""

    def __init__(self, plan: Plan, geometry: ConvGeometry | PoolGeometry) -> None:
        self.plan = plan
        self.geometry = geometry
        self.function = plan.function
        self.limit = config.get_workspace_limit()
        self.known: dict[int, tuple[int, int]] = {}

    def warn(self) -> None:
        """Say it if the call landed on the reference."""
        if self.plan.warning is not None:
            warn(self.plan.warning)

    def needs(self) -> tuple[int, int]:
        """Threads, and bytes of scratch."""
        setting = config.get_num_threads()
        found = self.known.get(setting)
        if found is None:
            threads = self.plan.threads_for(self.geometry, setting, self.limit)
            found = threads, self.plan.row.scratch_bytes(self.geometry, threads)
            if len(self.known) >= KEPT_SETTINGS:
                self.known.clear()
            self.known[setting] = found
        return found


class Delivery:
    """Where a result goes: a new array, or the user's ``out``, which the kernel fills itself where
    it can."""

    def __init__(
        self,
        name: str,
        shape: Shape,
        computing: Dtype,
        result: Dtype,
        out: Array | None,
        view: View | None = None,
    ) -> None:
        self.name, self.shape = name, shape
        self.computing, self.result = computing, result
        self.large = large_empty(shape, computing)
        self.into_out = (
            out is not None
            and result == computing
            and has_element_strides(out)
            and (
                view is None
                or out.size == 0
                or np.may_share_memory(view.of(out.view(np.ndarray)), out)
            )
        )

        #: Whether the kernel's result is the call's, in whatever memory.
        self.plain = result == computing and (out is None or self.into_out)

    def target(self, out: Array | None) -> Array:
        """The array that the kernel fills."""
        if self.into_out and out is not None:
            return out.view(np.ndarray)
        return (self.large or np.empty)(self.shape, self.computing)

    def check(self, out: Array | None, *inputs: Array | None) -> None:
        """ValueError if ``out`` shares memory with an input."""
        if out is not None:
            arrays = (array for array in inputs if isinstance(array, np.ndarray))
            check_apart(self.name, out, arrays)

    def deliver(self, target: Array, out: Array | None) -> Array:
        """The result in its dtype; the user's ``out`` if there is one."""
        if out is None:
            return converted(target, self.result)
        if not self.into_out:
            out[...] = converted(target, self.result)
        return out


class PreparedConv:
    """A call of a convolution family: ``call(first, second, bias, out)``.

    ``geometry`` is the problem that runs: of a complex convolution the real one.
    """

    def __init__(
        self,
        family: str,
        plan: Plan,
        geometry: ConvGeometry,
        views: tuple[View, View, View],
        delivery: Delivery,
        code: int,
        following: Callable[[Array], None] | None,
    ) -> None:
        self.family, self.geometry, self.views, self.delivery = family, geometry, views, delivery
        self.running = Running(plan, geometry)
        self.problem = geometry.problem
        #: What the row reads, and computes in.
        self.reads = plan.row.reads(geometry)
        self.computing = computing_dtype(self.reads)
        self.no_bias = np.empty(0, self.computing)
        self.code, self.following = code, following

    def __call__(
        self, first: Array, second: Array, bias: Array | None = None, out: Array | None = None
    ) -> Array:
        """The result in the user's layout and dtype."""
        delivery = self.delivery
        delivery.check(out, first, second, bias)
        self.running.warn()
        target = delivery.target(out)
        if target.size:
            self.fill(first, second, bias, target)
        if self.following is not None:
            self.following(target)
        return delivery.deliver(target, out)

    def fill(self, first: Array, second: Array, bias: Array | None, target: Array) -> None:
        """Compute ``target`` from arrays of any dtype."""
        one, two, three = self.views
        read = one.of(kernel_ready(first, self.reads)), two.of(kernel_ready(second, self.reads))
        self.run(*read, bias, three.of(target))

    def run(self, first: Array, second: Array, bias: Array | None, out: Array) -> None:
        """Run the kernel on five-axis arrays that it can take."""
        added = self.no_bias
        if bias is not None:
            added = np.ascontiguousarray(kernel_ready(bias, added.dtype))
        threads, size = self.running.needs()
        with scratch(size) as buffer:
            self.running.function(
                first, second, added, out, self.problem, buffer, self.code, threads
            )


class PreparedPacked(PreparedConv):
    """The same with a ``PackedWeight`` as second array."""

    def fill(self, first: Array, second: Any, bias: Array | None, target: Array) -> None:
        """Compute ``target`` from an array of any dtype."""
        geometry, (one, _, three) = self.geometry, self.views
        if not self.running.plan.row.packs_once(geometry):
            super().fill(first, second.array, bias, target)
            return
        read = one.of(kernel_ready(first, self.reads))
        self.run(read, second.panels(geometry, self.reads), bias, three.of(target))


class PreparedComplex(PreparedConv):
    """The same of complex numbers, by the kernel for the real problem that it is lowered to."""

    def fill(self, first: Array, second: Array, bias: Array | None, target: Array) -> None:
        """Compute ``target`` from arrays of any dtype."""
        dtype, (one, two, three) = self.geometry.dtype, self.views
        of_second = complexes.real_data if self.family == "wgrad" else complexes.real_weight
        added = None
        if bias is not None:
            added = complexes.real_data(bias[None].astype(np.complex128), dtype)[0]
        real = np.empty(self.geometry.operands(self.family)[2].shape, dtype)
        second = np.asarray(second)
        self.run(
            complexes.real_data(one.of(first), dtype), of_second(two.of(second), dtype), added, real
        )
        put = complexes.put_weight if self.family == "wgrad" else complexes.put_data
        put(real, three.of(target))


class PreparedPool:
    """A call of a pooling: ``call(x, out)`` gives the result, and the indices if asked for."""

    def __init__(
        self, plan: Plan, geometry: PoolGeometry, delivery: Delivery, with_indices: bool
    ) -> None:
        self.running = Running(plan, geometry)
        self.delivery = delivery
        self.geometry = geometry
        self.with_indices = with_indices
        self.views = geometry.input.view, geometry.result.view
        self.lasting = sum(geometry.output) <= KEPT_WINDOWS
        self.large_indices = large_empty(delivery.shape, np.dtype(np.int64))
        result = delivery.result
        self.least: int | None = None
        if result.kind in "iu" and geometry.reduction == "max":
            # A window wholly in padding has the least value of the result's own dtype.
            self.least = np.iinfo(result).min

    def __call__(self, x: Array, out: Array | None = None) -> Any:
        """The result in the user's layout and dtype."""
        delivery = self.delivery
        delivery.check(out, x)
        self.running.warn()
        indices = self.new_indices() if self.with_indices else None
        target = delivery.target(out)
        self.fill(x, indices, target)
        if self.least is not None:
            np.maximum(target, self.least, out=target)
        result = delivery.deliver(target, out)
        return result if indices is None else (result, indices)

    def new_indices(self) -> Array:
        """An array for the indices."""
        return (self.large_indices or np.empty)(self.delivery.shape, np.dtype(np.int64))

    def fill(self, source: Array, indices: Array | None, target: Array) -> None:
        """Compute ``target``: of complex numbers the real parts and then the imaginary ones, which
        are arrays of their own, of twice the stride."""
        if target.dtype.kind == "c":
            self.fill(source.real, None, target.real)
            self.fill(source.imag, None, target.imag)
        elif target.size:
            self.run(kernel_ready(source, self.geometry.dtype), indices, target)

    def run(self, x: Array, indices: Array | None, out: Array) -> None:
        """Run the kernel on arrays that it can take."""
        read, written = self.views
        flat = None if indices is None else written.of(indices)
        threads = self.running.needs()[0]
        self.running.function(read.of(x), written.of(out), flat, self.own_geometry(), threads)

    def own_geometry(self) -> PoolGeometry:
        """The geometry; a copy if the table that kernels add to it is large, and not to be kept."""
        return self.geometry if self.lasting else replace(self.geometry)


class PreparedPoolGrad(PreparedPool):
    """A call of a pooling's adjoint: ``call(grad_output, indices, out)``; of "max" with indices, of
    "mean" without. The caller looks whether ``out`` is apart."""

    def __init__(
        self, plan: Plan, geometry: PoolGeometry, delivery: Delivery, of_input: bool
    ) -> None:
        super().__init__(plan, geometry, delivery, False)
        self.of_input = of_input

    def __call__(  # type: ignore[override]
        self, grad_output: Array, indices: Array | None, out: Array | None
    ) -> Array:
        """The gradient in the user's layout and dtype; ``indices`` are the forward pooling's input
        if the row takes that."""
        self.running.warn()
        target = self.delivery.target(out)
        self.fill(grad_output, indices, target)
        return self.delivery.deliver(target, out)

    def run(self, grad_output: Array, indices: Array | None, out: Array) -> None:
        """Run the kernel on arrays that it can take."""
        written, read = self.views
        threads = self.running.needs()[0]
        function: Any = self.running.function
        if self.of_input:
            assert indices is not None
            function, view = function.of_input, written
            indices = kernel_ready(indices, self.geometry.dtype)
        else:
            view = read
        second = None if indices is None else view.of(indices)
        function(read.of(grad_output), second, written.of(out), self.own_geometry(), threads)
