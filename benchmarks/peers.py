"""Other libraries, each in its best layout and with its weights prepared."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from cnnfast.benchmarks.contender import Contender, Prepared
from cnnfast.benchmarks.workloads import Array, ConvWorkload, Workload


@dataclass(frozen=True)
class Torch(Contender):
    """``torch.nn.functional``, in torch's default layout or channels last."""

    requires: ClassVar[dict[str, str]] = {"torch": "torch"}

    channels_last: bool = False

    def refuses(self, workload: Workload, dtype: str) -> str | None:
        """Nothing."""
        return None

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Tensors in the layout; no gradients."""
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        tensors = [torch.from_numpy(array).contiguous(memory_format=layout) for array in arrays]
        functional = torch.nn.functional
        function: Any = functional.avg_pool2d
        if isinstance(workload, ConvWorkload):
            function = functional.conv2d
        elif workload.reduction == "max":
            function = functional.max_pool2d
        return Prepared(partial(function, *tensors, **workload.arguments))


@dataclass(frozen=True)
class TorchPacked(Contender):
    """The operator that ``torch.compile`` puts in: channels last, weight reordered by oneDNN."""

    requires: ClassVar[dict[str, str]] = {"torch": "torch"}

    def refuses(self, workload: Workload, dtype: str) -> str | None:
        """What oneDNN has no kernel for."""
        if not isinstance(workload, ConvWorkload):
            return "pooling has no weight"
        return None if dtype == "float32" else f"takes float32, not {dtype}"

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Reorder the weight for this input."""
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        assert isinstance(workload, ConvWorkload)
        x, weight = (torch.from_numpy(array) for array in arrays)
        x = x.contiguous(memory_format=torch.channels_last)
        steps = ([workload.padding] * 2, [workload.stride] * 2, [workload.dilation] * 2)
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight, *steps, workload.groups, list(workload.input)
        )
        return Prepared(
            partial(
                torch.ops.mkldnn._convolution_pointwise,
                *(x, packed, None, *steps, workload.groups, "none", [], ""),
            )
        )


@dataclass(frozen=True)
class OnnxRuntime(Contender):
    """A model of one node. ``blocked`` lets it reorder images into its own layout and back."""

    requires: ClassVar[dict[str, str]] = {"onnxruntime": "onnxruntime", "onnx": "onnx"}

    blocked: bool = True

    def refuses(self, workload: Workload, dtype: str) -> str | None:
        """What it has no kernel for."""
        if dtype != "float32" and isinstance(workload, ConvWorkload):
            return f"takes float32, not {dtype}"
        return None

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Make the session; it packs the weight."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if self.blocked else levels.ORT_ENABLE_EXTENDED
        )
        session = onnxruntime.InferenceSession(
            _one_node_model(workload, arrays), options, providers=["CPUExecutionProvider"]
        )
        return Prepared(partial(session.run, None, {"x": arrays[0]}))

    def as_array(self, result: Any) -> Array:
        """The only output."""
        return np.asarray(result[0])


def _one_node_model(workload: Workload, arrays: tuple[Array, ...]) -> bytes:
    from onnx import helper, numpy_helper

    attributes: dict[str, Any] = {
        "kernel_shape": [workload.kernel] * 2,
        "strides": [workload.arguments["stride"]] * 2,
        "pads": [workload.padding] * 4,
    }
    if isinstance(workload, ConvWorkload):
        operator, inputs = "Conv", ["x", "weight"]
        attributes |= {"dilations": [workload.dilation] * 2, "group": workload.groups}
    elif workload.reduction == "max":
        operator, inputs = "MaxPool", ["x"]
    else:
        operator, inputs = "AveragePool", ["x"]
        attributes["count_include_pad"] = 1
    kind = helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], **attributes)],
        workload.name,
        [helper.make_tensor_value_info("x", kind, workload.input)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(weight, "weight") for weight in arrays[1:]],
    )
    opset = helper.make_opsetid("", 17)
    model: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return model


def _one_plane(workload: Workload) -> str | None:
    """Why a filter for single images doesn't take the layer."""
    if not isinstance(workload, ConvWorkload):
        return "pools at every position, whatever the stride"
    if workload.input[:2] != (1, 1):
        return "takes one image of one channel"
    if (workload.stride, workload.dilation) != (1, 1):
        return "takes no stride and no dilation"
    if 2 * workload.padding != workload.kernel - 1:
        return "keeps the size of the image"
    return None


@dataclass(frozen=True)
class PlaneFilter(Contender):
    """A function that filters one image of one channel with one kernel; one call per filter."""

    def refuses(self, workload: Workload, dtype: str) -> str | None:
        """Whatever isn't one plane."""
        return _one_plane(workload)

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Take the planes; several filters make a list of results."""
        correlate = self.correlate(threads)
        image, filters = arrays[0][0, 0], [weight[0] for weight in arrays[1]]
        return Prepared(lambda: [correlate(image, taps) for taps in filters])

    def as_array(self, result: Any) -> Array:
        """The planes as channels of a batch of one."""
        return np.stack(result)[None]

    @abstractmethod
    def correlate(self, threads: int) -> Callable[[Array, Array], Array]:
        """The library's function, its threads pinned."""


@dataclass(frozen=True)
class ScipySignal(PlaneFilter):
    """``scipy.signal.correlate2d``; runs on one thread."""

    requires: ClassVar[dict[str, str]] = {"scipy": "scipy"}

    def correlate(self, threads: int) -> Callable[[Array, Array], Array]:
        """Zeros around, the size kept."""
        from scipy import signal

        return partial(signal.correlate2d, mode="same")


@dataclass(frozen=True)
class ScipyNdimage(PlaneFilter):
    """``scipy.ndimage.correlate``; runs on one thread."""

    requires: ClassVar[dict[str, str]] = {"scipy": "scipy"}

    def correlate(self, threads: int) -> Callable[[Array, Array], Array]:
        """Zeros around, the size kept."""
        from scipy import ndimage

        return partial(ndimage.correlate, mode="constant")


@dataclass(frozen=True)
class OpenCV(PlaneFilter):
    """``cv2.filter2D``."""

    requires: ClassVar[dict[str, str]] = {"cv2": "opencv-python-headless"}

    def correlate(self, threads: int) -> Callable[[Array, Array], Array]:
        """Zeros around, the size kept."""
        import cv2

        cv2.setNumThreads(threads)

        def filter2d(image: Array, taps: Array) -> Array:
            return np.asarray(cv2.filter2D(image, -1, taps, borderType=cv2.BORDER_CONSTANT))

        return filter2d


POOL: tuple[Contender, ...] = (
    Torch("torch NCHW"),
    Torch("torch NHWC", channels_last=True),
    OnnxRuntime("onnxruntime"),
)
CONV: tuple[Contender, ...] = (
    *POOL,
    TorchPacked("torch NHWC packed"),
    OnnxRuntime("onnxruntime NCHW", blocked=False),
    OpenCV("cv2 filter2D"),
    ScipyNdimage("scipy ndimage"),
    ScipySignal("scipy signal"),
)
