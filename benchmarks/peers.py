"""Other libraries, each in its best layout: onnxruntime, and filters of single images.

torch is in ``torch_peers``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from cnnfast.benchmarks import torch_peers
from cnnfast.benchmarks.contender import Contender, Prepared
from cnnfast.benchmarks.workloads import Array, ConvWorkload, PoolWorkload, Workload

#: A single channel with more taps than this isn't waited for: 11 x 11 on 2048 x 2048 takes five
#: times as long as in cv2, and 31 x 31 fifteen times.
PLANE_TAPS = 121


@dataclass(frozen=True)
class OnnxRuntime(Contender):
    """A model of one node. ``blocked`` lets it reorder images into its own layout and back;
    ``constant`` makes the weight a part of the model, so that the session packs it.
    """

    requires: ClassVar[dict[str, str]] = {"onnxruntime": "onnxruntime", "onnx": "onnx"}

    blocked: bool = True
    constant: bool = True

    def refuses(self, workload: Workload) -> str | None:
        """What it has no kernel for, and what isn't worth the wait."""
        if workload.is_plane and workload.kernel**2 > PLANE_TAPS:
            return f"not waited for on one channel with more than {PLANE_TAPS} taps"
        means = isinstance(workload, PoolWorkload) and workload.reduction == "mean"
        if workload.dtype != "float32" and (means or isinstance(workload, ConvWorkload)):
            return f"takes float32, not {workload.dtype}"
        return None

    def prepares(self, workload: Workload) -> bool:
        """The session does."""
        return self.constant and isinstance(workload, ConvWorkload)

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Make the session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if self.blocked else levels.ORT_ENABLE_EXTENDED
        )
        given = 1 if self.constant else len(arrays)
        session = onnxruntime.InferenceSession(
            one_node_model(workload, arrays, given), options, providers=["CPUExecutionProvider"]
        )
        feeds = dict(zip(("x", "weight"), arrays[:given], strict=False))
        return Prepared(partial(session.run, None, feeds))

    def as_array(self, result: Any, workload: Workload) -> Array:
        """The only output."""
        return np.asarray(result[0])


def one_node_model(workload: Workload, arrays: tuple[Array, ...], given: int = 1) -> bytes:
    """The layer in ONNX; all but the first ``given`` arrays are constants."""
    from onnx import helper, numpy_helper

    attributes: dict[str, Any] = {
        "kernel_shape": [workload.kernel] * workload.rank,
        "strides": [workload.arguments["stride"]] * workload.rank,
        "pads": [workload.padding] * 2 * workload.rank,
    }
    names = ["x", "weight"][: len(arrays)]
    if isinstance(workload, ConvWorkload):
        operator = "Conv"
        attributes["dilations"] = [workload.dilation] * workload.rank
        attributes["group"] = workload.groups
    elif isinstance(workload, PoolWorkload) and workload.reduction == "max":
        operator = "MaxPool"
    else:
        operator = "AveragePool"
        attributes["count_include_pad"] = 1
    kind = helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
    named = list(zip(names, arrays, strict=True))
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], **attributes)],
        workload.name,
        [helper.make_tensor_value_info(name, kind, array.shape) for name, array in named[:given]],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(array, name) for name, array in named[given:]],
    )
    opset = helper.make_opsetid("", 17)
    model: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return model


@dataclass(frozen=True)
class PlaneFilter(Contender):
    """A function that filters one image of one channel with one kernel; one call per filter."""

    def refuses(self, workload: Workload) -> str | None:
        """Whatever isn't one plane."""
        return None if workload.is_plane else "filters one image of one channel, keeping its size"

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Take the planes; several filters make a list of results."""
        image, filters = arrays[0][0, 0], [weight[0] for weight in arrays[1]]
        correlate = self.correlate(workload.kernel**2, threads)
        return Prepared(lambda: [correlate(image, taps) for taps in filters])

    def as_array(self, result: Any, workload: Workload) -> Array:
        """The planes as channels of a batch of one."""
        return np.stack(result)[None]

    @abstractmethod
    def correlate(self, taps: int, threads: int) -> Callable[[Array, Array], Array]:
        """The library's best function for that many taps, its threads pinned."""


@dataclass(frozen=True)
class ScipySignal(PlaneFilter):
    """``scipy.signal``: ``correlate2d`` or, from 7 x 7, the quicker Fourier transform."""

    requires: ClassVar[dict[str, str]] = {"scipy": "scipy"}
    parallel: ClassVar[bool] = False

    def correlate(self, taps: int, threads: int) -> Callable[[Array, Array], Array]:
        """Zeros around, the size kept."""
        from scipy import signal

        if taps < 49:
            return partial(signal.correlate2d, mode="same")

        def transformed(image: Array, kernel: Array) -> Array:
            return np.asarray(signal.fftconvolve(image, kernel[::-1, ::-1], mode="same"))

        return transformed


@dataclass(frozen=True)
class ScipyNdimage(PlaneFilter):
    """``scipy.ndimage.correlate``."""

    requires: ClassVar[dict[str, str]] = {"scipy": "scipy"}
    parallel: ClassVar[bool] = False

    def correlate(self, taps: int, threads: int) -> Callable[[Array, Array], Array]:
        """Zeros around, the size kept."""
        from scipy import ndimage

        return partial(ndimage.correlate, mode="constant")


@dataclass(frozen=True)
class OpenCV(PlaneFilter):
    """``cv2.filter2D``."""

    requires: ClassVar[dict[str, str]] = {"cv2": "opencv-python-headless"}

    def correlate(self, taps: int, threads: int) -> Callable[[Array, Array], Array]:
        """Zeros around, the size kept."""
        import cv2

        cv2.setNumThreads(threads)

        def filter2d(image: Array, kernel: Array) -> Array:
            return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT))

        return filter2d


#: Family -> the contenders that have it.
PEERS: dict[str, tuple[Contender, ...]] = {
    "fprop": (
        *torch_peers.CONV,
        OnnxRuntime("onnxruntime"),
        OnnxRuntime("onnxruntime NCHW", blocked=False),
        OnnxRuntime("onnxruntime unprepared", constant=False),
        OpenCV("cv2 filter2D"),
        ScipyNdimage("scipy ndimage"),
        ScipySignal("scipy signal"),
    ),
    "dgrad": torch_peers.PLAIN,
    "wgrad": torch_peers.PLAIN,
    "pool": (*torch_peers.PLAIN, OnnxRuntime("onnxruntime")),
    "pool_grad": torch_peers.PLAIN,
}
