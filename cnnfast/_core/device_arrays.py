"""Arrays in a GPU's memory: CuPy's, torch's, Numba's, and any other library's that offers
``__cuda_array_interface__`` or ``__dlpack__``.

While a call is prepared they are ``DeviceArray``: NumPy arrays whose memory is the device's, so
that geometry, layouts, strides and overlaps are computed by the same code as the host's. Nothing
may read through them, and what would raises TypeError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from .dlpack import DEVICES, read_capsule
from .operand import contiguous_strides

Array = np.ndarray[Any, Any]
Dtype = np.dtype[Any]
Shape = tuple[int, ...]


class DeviceArray(np.ndarray[Any, Any]):
    """An array of the device as NumPy's shape, strides and dtype; ``owner`` is the user's, or None
    of what stands for a result while steps are recorded."""

    owner: Any
    library: Library

    def __array_finalize__(self, source: Any) -> None:
        self.owner = getattr(source, "owner", None)
        self.library = getattr(source, "library", GENERIC)

    def reshape(self, *shape: Any, **keywords: Any) -> Any:
        """A view; ValueError where NumPy would copy."""
        if len(shape) == 1 and isinstance(shape[0], tuple):
            (shape,) = shape
        if math.prod(shape) != self.size:
            raise ValueError(f"an array of shape {self.shape} can't be seen as one of {shape}")
        # NumPy's own, and setting the shape, may copy before they look whether they must.
        strides: Shape | None = (0,) * len(shape)
        if self.size:
            strides = strides_in(self.shape, self.strides, shape, self.itemsize)
        if strides is None:
            raise ValueError(
                f"an array on a GPU of shape {self.shape} and strides {self.strides} can't be seen "
                f"as one of shape {shape}: make it contiguous first"
            )
        pointer, readonly = self.__array_interface__["data"]
        owner, library = self.owner, self.library
        return array_at(pointer, shape, strides, self.dtype, readonly, owner, library)

    def _unreadable(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("the host can't read an array on a GPU: move it to host memory first")

    __array_ufunc__ = __array_function__ = _unreadable
    astype = copy = item = tolist = tobytes = conj = flatten = ravel = dot = fill = _unreadable
    __float__ = __int__ = __bool__ = __iter__ = __setitem__ = _unreadable
    __copy__ = __deepcopy__ = __reduce_ex__ = _unreadable

    def __repr__(self) -> str:
        return f"<{self.dtype} array of shape {self.shape} on a GPU>"

    __str__ = __repr__


def strides_in(shape: Shape, strides: Shape, wanted: Shape, itemsize: int) -> Shape | None:
    """Strides of the same elements, of which there are as many, seen in another shape; None if
    they lie so that there are none.

    >>> strides_in((2, 3, 4), (48, 16, 4), (6, 4), 4), strides_in((3, 2), (4, 12), (6,), 4)
    ((16, 4), None)
    """
    runs: list[tuple[int, int]] = []
    for extent, step in zip(shape, strides, strict=True):
        if runs and extent > 1 and runs[-1][1] == extent * step:
            runs[-1] = runs[-1][0] * extent, step
        elif extent > 1:
            runs.append((extent, step))
    found, following = [], itemsize
    for extent in reversed(wanted):
        if extent > 1:
            left, step = runs.pop()
            if left % extent:
                return None
            if left > extent:
                runs.append((left // extent, step * extent))
            found.append(step)
            following = step * extent
        else:
            found.append(following)
    return tuple(reversed(found))


def array_at(
    pointer: int, shape: Shape, strides: Shape, dtype: Dtype, readonly: bool, owner: Any,
    library: Library,
) -> DeviceArray:  # fmt: skip
    """The array at a device address; ``strides`` in bytes."""
    interface = {
        "data": (pointer, readonly),
        "shape": shape,
        "strides": strides,
        "typestr": f"<V{dtype.itemsize}" if dtype.kind == "V" else dtype.str,
        "version": 3,
    }
    if 0 in shape:
        array = np.empty(shape, dtype)
    else:
        array = np.asarray(SimpleNamespace(__array_interface__=interface)).view(dtype)
    result = array.view(DeviceArray)
    result.owner, result.library = owner, library
    return result


def stand_in(shape: Shape, dtype: Dtype) -> DeviceArray:
    """What a new array on a GPU will be like: dense, at a multiple of many bytes. There is no
    memory behind it: the host may have less than results take."""
    strides = tuple(step * dtype.itemsize for step in contiguous_strides(shape))
    return array_at(1 << 20, shape, strides, dtype, False, None, GENERIC)


#: DLPack device types that are host memory (kDLCPU, kDLCUDAHost).
HOST_DEVICES = (1, 3)


def device_of(source: Any) -> str:
    """Where an array lives: ``"cpu"``, ``"cuda"`` or ``"other"``.

    >>> device_of(np.zeros(3))
    'cpu'
    """
    if isinstance(source, np.ndarray):
        return "cuda" if isinstance(source, DeviceArray) else "cpu"
    if library_of(source).on_gpu(source):
        return "cuda"
    if hasattr(source, "__cuda_array_interface__"):
        return "cuda"
    if hasattr(source, "__dlpack_device__"):
        device = source.__dlpack_device__()[0]
        return "cuda" if device in DEVICES else "cpu" if device in HOST_DEVICES else "other"
    return "cpu"


MIXED = "some arrays are on a GPU and others in host memory: move them to one place"


class Library:
    """What is asked of the library that an array comes from; this one knows the interfaces that
    all share: ``__cuda_array_interface__`` and ``__dlpack__``."""

    name: ClassVar[str] = "generic"

    def on_gpu(self, source: Any) -> bool:
        """Whether that is known without asking for an interface, which takes microseconds."""
        return False

    def wrap(self, source: Any) -> DeviceArray:
        """The array as a DeviceArray."""
        if device_of(source) != "cuda":
            raise TypeError(MIXED)
        interface = getattr(source, "__cuda_array_interface__", None)
        if interface is None:
            return array_at(*read_capsule(source), source, self)
        if interface.get("mask") is not None:
            raise TypeError("an array on a GPU must not be masked: its mask would be ignored")
        dtype, shape = np.dtype(interface["typestr"]), tuple(interface["shape"])
        strides = interface.get("strides")
        if strides is None:
            strides = [step * dtype.itemsize for step in contiguous_strides(shape)]
        pointer, readonly = interface["data"]
        return array_at(pointer, shape, tuple(strides), dtype, readonly, source, self)

    def key(self, source: Any) -> Any:
        """What of an array decides how a call is prepared."""
        from cnnfast.kernels.numba_cuda import device

        array = self.wrap(source)
        pointer = array.__array_interface__["data"][0]
        flags = array.flags.writeable, pointer % 16, tuple(device.numbers_of([pointer]))
        return self.name, array.dtype, array.shape, array.strides, *flags

    def pointer(self, source: Any) -> int:
        """The address of the first element."""
        address: int = self.wrap(source).__array_interface__["data"][0]
        return address

    def empty(self, like: Any, shape: Shape, dtype: Dtype) -> Any:
        """A new array of the library on the device of ``like``."""
        namespace = getattr(like, "__array_namespace__", None)
        if namespace is None:
            kind = f"{type(like).__module__}.{type(like).__qualname__}"
            raise TypeError(f"no way is known to make an array like a {kind}: give out=")
        return namespace().empty(shape, dtype=getattr(namespace(), dtype.name), device=like.device)

    def stream(self, source: Any) -> int:
        """The stream that the caller works on: here the one that the array names, if any."""
        interface = getattr(source, "__cuda_array_interface__", {})
        return int(interface.get("stream") or 0)

    @contextmanager
    def scratch(self, like: Any, nbytes: int, stream: int) -> Iterator[int]:
        """Memory that a stream may use until it has done what it is given meanwhile."""
        from cnnfast.kernels.numba_cuda import device

        with device.scratch(nbytes, stream) as pointer:
            yield pointer


class Pooling(Library):
    """A library whose allocator gives memory to a stream again in the stream's order, so that it
    may be asked for scratch, also while it captures a graph."""

    @contextmanager
    def scratch(self, like: Any, nbytes: int, stream: int) -> Iterator[int]:
        """Memory that a stream may use until it has done what it is given meanwhile."""
        held = self.empty(like, (nbytes,), np.dtype(np.uint8)) if nbytes else None
        yield 0 if held is None else self.pointer(held)


class Torch(Pooling):
    """torch.Tensor."""

    name = "torch"

    def on_gpu(self, source: Any) -> bool:
        """Whether a tensor is; a module's function isn't."""
        return bool(getattr(source, "is_cuda", False))

    def wrap(self, source: Any) -> DeviceArray:
        if not source.is_cuda:
            raise TypeError(MIXED)
        if source.requires_grad:
            raise TypeError("a torch tensor that requires a gradient: give its .detach()")
        dtype = _torch_dtype(source.dtype)
        strides = tuple(step * dtype.itemsize for step in source.stride())
        shape = tuple(source.shape)
        return array_at(source.data_ptr(), shape, strides, dtype, False, source, self)

    def key(self, source: Any) -> Any:
        place = source.device, source.data_ptr() % 16, source.requires_grad
        return source.dtype, source.shape, source.stride(), place

    def pointer(self, source: Any) -> int:
        address: int = source.data_ptr()
        return address

    def empty(self, like: Any, shape: Shape, dtype: Dtype) -> Any:
        import torch

        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=like.device)

    def stream(self, source: Any) -> int:
        import torch

        handle: int = torch.cuda.current_stream(source.device).cuda_stream
        return handle


class CuPy(Pooling):
    """cupy.ndarray."""

    name = "cupy"

    def on_gpu(self, source: Any) -> bool:
        """Whether it is an array, for all of CuPy's are."""
        return hasattr(source, "data")

    def wrap(self, source: Any) -> DeviceArray:
        shape, strides = tuple(source.shape), tuple(source.strides)
        return array_at(source.data.ptr, shape, strides, source.dtype, False, source, self)

    def key(self, source: Any) -> Any:
        return source.dtype, source.shape, source.strides, source.data.ptr % 16, source.device.id

    def pointer(self, source: Any) -> int:
        address: int = source.data.ptr
        return address

    def empty(self, like: Any, shape: Shape, dtype: Dtype) -> Any:
        import cupy

        return cupy.empty(shape, dtype)

    def stream(self, source: Any) -> int:
        import cupy

        handle: int = cupy.cuda.get_current_stream().ptr
        return handle


class NumbaCuda(Library):
    """numba.cuda's device arrays."""

    name = "numba"

    def empty(self, like: Any, shape: Shape, dtype: Dtype) -> Any:
        from numba import cuda

        return cuda.device_array(shape, dtype)


GENERIC = Library()
#: By the first part of the name of the module that an array's type is from.
LIBRARIES = {
    "torch": Torch(), "cupy": CuPy(), "numba": NumbaCuda(), "numba_cuda": NumbaCuda(),
}  # fmt: skip


#: The same by types that were asked for.
_by_type: dict[type, Library] = {}


def library_of(source: Any) -> Library:
    """What knows about the arrays of ``source``'s kind."""
    kind = type(source)
    found = _by_type.get(kind)
    if found is None:
        # A user's subclass is its library's.
        names = (base.__module__.partition(".")[0] for base in kind.__mro__)
        found = next((LIBRARIES[name] for name in names if name in LIBRARIES), GENERIC)
        _by_type[kind] = found
    return found


def _torch_dtype(dtype: Any) -> Dtype:
    """NumPy's dtype of a torch one."""
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: Dtype = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    found: Dtype = np.dtype(name)
    return found
