"""Kernels: loaded from PTX into a context, and launched with prepacked parameters."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass

from . import _libcuda
from ._device import attribute, context, relaxed_capture
from ._libcuda import CudaError, check, library

#: CUdevice_attribute, CUfunction_attribute and CUjit_option of cuda.h.
SHARED_OPTIN = 97
MAX_DYNAMIC_SHARED = 8
ERROR_LOG, ERROR_LOG_BYTES = 5, 6
#: The longest axes of a grid.
GRID = (2**31 - 1, 65535, 65535)


@dataclass(frozen=True)
class Function:
    """A kernel in a context."""

    handle: int
    context: int
    entry: str


#: By context and PTX; by those and the entry; bytes of shared memory that a function may have.
_modules: dict[tuple[int, str], int] = {}
_functions: dict[tuple[int, str, str], Function] = {}
_shared: dict[Function, int] = {}
_loading = threading.Lock()


def load(ptx: str, entry: str, shared: int = 0) -> Function:
    """The kernel ``entry`` of ``ptx`` in the current context, with room for ``shared`` bytes of
    dynamic shared memory. Loaded once, which takes the driver's compiler milliseconds or, from its
    cache on disk, less; never unloaded."""
    key = context(), ptx, entry
    with _loading:
        if key not in _functions:
            with relaxed_capture():
                _functions[key] = _load(*key)
        function = _functions[key]
        if shared > _shared.get(function, 0):
            _allow(function, shared)
        return function


def _load(here: int, ptx: str, entry: str) -> Function:
    if (here, ptx) not in _modules:
        _modules[here, ptx] = _module(ptx, entry)
    found = ctypes.c_void_p()
    code = library().cuModuleGetFunction(ctypes.byref(found), _modules[here, ptx], entry.encode())
    check(code, "looking for the kernel %s in its module", entry)
    return Function(found.value or 0, here, entry)


def _allow(function: Function, shared: int) -> None:
    """Without this, static and dynamic shared memory together may be 48 KiB."""
    most = attribute(SHARED_OPTIN)
    if shared > most:
        raise CudaError(
            f"{function.entry} needs {shared} bytes of shared memory, the device has {most}"
        )
    code = library().cuFuncSetAttribute(function.handle, MAX_DYNAMIC_SHARED, shared)
    check(code, "giving the kernel %s %d bytes of shared memory", function.entry, shared)
    _shared[function] = shared


def _module(ptx: str, entry: str) -> int:
    log = ctypes.create_string_buffer(16384)
    options = (ctypes.c_int * 2)(ERROR_LOG, ERROR_LOG_BYTES)
    values = (ctypes.c_void_p * 2)(ctypes.addressof(log), len(log))
    module = ctypes.c_void_p()
    text = ptx.encode()
    code = library().cuModuleLoadDataEx(ctypes.byref(module), text, 2, options, values)
    said = log.value.decode(errors="replace").strip()
    check(code, "loading the kernel %s, %d bytes of PTX%s", entry, len(text), said and f" [{said}]")
    return module.value or 0


class _Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    )


class Launcher:
    """A kernel with its grid: called with a stream it runs with what is in ``params``.

    ``params`` is the kernel's ``nbytes`` of parameters, which ``struct.pack_into`` fills before
    each call. The driver copies them, so they may change as soon as a call is back; one thread at
    a time. A call allocates nothing and waits for nothing, so graphs can capture it.
    Why cuLaunchKernelEx, and prebuilt arguments: ctypes converts each argument of a call, and
    cuLaunchKernel has 11. ``pytest -s tests/test_cuda_driver.py`` prints what a launch takes on a
    driver that does nothing. The GIL is released meanwhile: the call waits where the device's
    queue is full, maybe for a callback of another library's.
    """

    __slots__ = ("_arguments", "_config", "_kept", "_launch", "function", "params")

    def __init__(
        self,
        function: Function,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        nbytes: int,
    ) -> None:
        if not all(1 <= blocks <= most for blocks, most in zip(grid, GRID, strict=True)):
            raise ValueError(f"a grid of {grid} blocks isn't between (1, 1, 1) and {GRID}")
        self.function = function
        self.params = ctypes.create_string_buffer(nbytes)
        self._config = _Config(grid, (threads, 1, 1), shared, None, None, 0)
        size = ctypes.c_size_t(nbytes)
        #: CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE, _END.
        extra = (ctypes.c_void_p * 5)(1, ctypes.addressof(self.params), 2, ctypes.addressof(size))
        self._kept = size, extra
        self._launch = library().cuLaunchKernelEx
        at = ctypes.addressof
        self._arguments = at(self._config), function.handle, None, at(extra) if nbytes else None

    def __call__(self, stream: int) -> None:
        if _libcuda.forked:
            raise CudaError(_libcuda.FORKED)
        self._config.stream = stream
        code = self._launch(*self._arguments)
        if code:
            self._again(code)

    def _again(self, code: int) -> None:
        """Threads without a context get the kernel's."""
        if code == _libcuda.INVALID_CONTEXT:
            check(library().cuCtxSetCurrent(self.function.context), "making a context the thread's")
            code = self._launch(*self._arguments)
        check(
            code,
            "launching %s on %s blocks of %d threads with %d bytes of shared memory",
            self.function.entry,
            tuple(self._config.grid),
            self._config.block[0],
            self._config.shared,
        )
