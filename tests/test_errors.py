"""Bad input: ValueError or TypeError with the rule and the values, before any kernel runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import ConvGeometry, PoolGeometry, kernels
from cnnfast.kernels.registry import engine_missing

X = np.ones((1, 4, 6, 6), np.float32)
W = np.ones((6, 4, 3, 3), np.float32)


@pytest.fixture(autouse=True)
def _no_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a kernel was reached")

    monkeypatch.setattr("cnnfast._core.prepared.scratch", refuse)
    monkeypatch.setattr("cnnfast._core.prepared.PreparedPool.run", refuse)
    monkeypatch.setattr("cnnfast._core.prepared.PreparedPoolGrad.run", refuse)


def conv(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {"input": X, "weight": W, **changes}
    return lambda: cnnfast.conv2d(**arguments)


def local(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {"input": X, "weight": np.ones((9, 2, 4, 4, 4), np.float32)}
    return lambda: cnnfast.locally_connected2d(**{**arguments, **changes})


def max_pool(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {"input": X, "kernel_size": 2, **changes}
    return lambda: cnnfast.max_pool2d(**arguments)


def avg_pool(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {"input": X, "kernel_size": 2, **changes}
    return lambda: cnnfast.avg_pool2d(**arguments)


def read_only() -> np.ndarray[Any, Any]:
    out = np.empty((1, 6, 4, 4), np.float32)
    out.flags.writeable = False
    return out


SHARED = np.ones(6 * 6 * 6, np.float32)

TAKEN = (
    "conv2d takes int8, uint8, int16, int32, int64, float16, bfloat16, float32, float64, "
    "complex64, complex128, got dtype "
)

CASES: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("rank of input", conv(input=X[0, 0]), ValueError, "4 axes NCHW (or 3 without the batch), got shape (6, 6)"),
    ("rank of weight", conv(weight=W[0]), ValueError, "weight must have 4 axes, got shape (4, 3, 3)"),
    ("channels", conv(weight=W[:, :3]), ValueError, "in-channels / groups = 4 / 1 = 4 channels, got 3"),
    ("channels of a group", conv(groups=2), ValueError, "4 / 2 = 2 channels, got 4"),
    ("groups and channels in", conv(groups=3), ValueError, "groups must divide the channels, got groups 3, 4 in-channels and 6 out"),
    ("groups and channels out", conv(weight=W[:5, :1], groups=4), ValueError, "groups 4, 4 in-channels and 5 out-channels"),
    ("zero groups", conv(groups=0), ValueError, "groups must be positive, got 0"),
    ("float groups", conv(groups=1.0), TypeError, "groups must be an integer, got 1.0"),
    ("zero stride", conv(stride=0), ValueError, "stride must be positive, got 0"),
    ("negative stride", conv(stride=(1, -2)), ValueError, "stride must be positive, got -2"),
    ("float stride", conv(stride=1.0), TypeError, "stride must be an integer, got 1.0"),
    ("float strides", conv(stride=(1, 1.5)), TypeError, "stride must be an integer, got 1.5"),
    ("bool stride", conv(stride=True), TypeError, "stride must be an integer, got True"),
    ("string stride", conv(stride="1"), TypeError, "stride must be an integer, got '1'"),
    ("no stride", conv(stride=None), TypeError, "stride must be an integer, got None"),
    ("empty stride", conv(stride=()), ValueError, "stride must be one integer or 2 of them, got ()"),
    ("three strides", conv(stride=(1, 1, 1)), ValueError, "one integer or 2 of them, got (1, 1, 1)"),
    ("zero dilation", conv(dilation=0), ValueError, "dilation must be positive, got 0"),
    ("negative dilation", conv(dilation=-1), ValueError, "dilation must be positive, got -1"),
    ("negative padding", conv(padding=-1), ValueError, "padding must be non-negative, got -1"),
    ("float padding", conv(padding=0.5), TypeError, "padding must be an integer, got 0.5"),
    ("unknown padding", conv(padding="full"), ValueError, "'valid', 'same', 'same_upper', 'same_lower', got 'full'"),
    ("one padding pair", conv(padding=[(1, 1)]), ValueError, "2 (before, after) pairs"),
    ("same with stride", conv(padding="same", stride=2), ValueError, "padding='same' needs stride 1, got stride (2, 2)"),
    ("huge padding", conv(padding=2**62), ValueError, "padding must be below 2**62"),
    ("huge result", conv(padding=2**40), ValueError, "must be below 2**62"),
    ("kernel > input", conv(input=X[:, :, :2]), ValueError, "kernel 3 with dilation 1 spans 3 and input 2 with padding (0, 0) has 2"),
    ("dilated kernel > input", conv(dilation=3), ValueError, "kernel 3 with dilation 3 spans 7 and input 6"),
    ("empty kernel", conv(weight=W[:, :, :0]), ValueError, "axis H of the weight must not be empty, got shape (6, 4, 0, 3)"),
    ("empty input axis", conv(input=X[:, :, :0]), ValueError, "axis H of the input must not be empty, got shape (1, 4, 0, 6)"),
    ("zero channels", conv(input=X[:, :0]), ValueError, "axis C of the input must not be empty"),
    ("zero filters", conv(weight=W[:0]), ValueError, "axis O of the weight must not be empty"),
    ("bias shape", conv(bias=np.ones(5, np.float32)), ValueError, "bias must have shape (6,), one value per out-channel, got shape (5,)"),
    ("bias rank", conv(bias=np.ones((6, 1), np.float32)), ValueError, "bias must have shape (6,)"),
    ("object dtype", conv(input=X.astype(object)), TypeError, TAKEN + "object"),
    ("str dtype", conv(input=X.astype(str)), TypeError, TAKEN + "<U"),
    ("bool dtype", conv(input=X > 0), TypeError, TAKEN + "bool"),
    ("bool weight", conv(weight=W > 0), TypeError, TAKEN + "bool"),
    ("uint16", conv(input=X.astype(np.uint16)), TypeError, TAKEN + "uint16"),
    ("longdouble", conv(weight=W.astype(np.longdouble)), TypeError, "got dtype"),
    ("out_dtype", conv(out_dtype=np.int32), TypeError, "out_dtype must be one of float16, bfloat16, float32, float64, complex64, complex128 for inputs of float32, got int32"),
    ("out_dtype of nothing", conv(out_dtype="floaty"), TypeError, "out_dtype must be a dtype, got 'floaty'"),
    ("activation of integers", conv(input=X.astype(np.int8), weight=W.astype(np.int8), activation="tanh"), TypeError, "activation 'tanh' isn't defined for integer inputs"),
    ("activation of complex", conv(input=X.astype(np.complex64), activation="relu"), TypeError, "activation 'relu' isn't defined for complex inputs"),
    ("fraction as padding of integers", conv(input=X.astype(np.int8), weight=W.astype(np.int8), padding=1, padding_value=0.5), TypeError, "padding_value must be an integer for int8 inputs, got 0.5"),
    ("padding of integers out of range", conv(input=X.astype(np.int8), weight=W.astype(np.int8), padding=1, padding_value=128), ValueError, "padding_value must fit int8, got 128"),
    ("ragged", conv(input=[[1.0], [1.0, 2.0]]), ValueError, "input must be an array of one shape"),
    ("masked", conv(input=np.ma.masked_array(X, X > 0)), TypeError, "must not be a masked array"),
    ("None", conv(input=None), TypeError, "got dtype object"),
    ("layout", conv(layout="NWHC"), ValueError, "layout must be 'NCHW' or 'NHWC', got 'NWHC'"),
    ("layout type", conv(layout=3), TypeError, "layout must be a string, got 3"),
    ("weight_layout", conv(weight_layout="OIHH"), ValueError, "permutation of 'OIHW', got 'OIHH'"),
    ("activation", conv(activation="swish"), ValueError, "activation must be None, one of relu, relu6"),
    ("activation type", conv(activation=[]), TypeError, "activation must be None, a name or a function"),
    ("padding_mode", conv(padding_mode="zeros"), ValueError, "padding_mode must be 'constant'"),
    ("padding_mode type", conv(padding_mode=np.array(["constant", "reflect"])), TypeError, "conv2d: padding_mode must be a string, got array(['constant', 'reflect']"),
    ("no padding_mode", conv(padding_mode=None), TypeError, "conv2d: padding_mode must be a string, got None"),
    ("local padding_mode type", local(padding_mode=0), TypeError, "locally_connected2d: padding_mode must be a string, got 0"),
    ("local padding_mode", local(padding_mode="zeros"), ValueError, "locally_connected2d: padding_mode must be 'constant'"),
    ("local padding_value", local(padding_value=1j), TypeError, "locally_connected2d: padding_value must be a real number for float32 inputs, got 1j"),
    ("local reflect too far", local(weight=np.ones((225, 2, 4, 4, 4), np.float32), padding=6, padding_mode="reflect"), ValueError, "at most 5 on axis H of extent 6, got (6, 6)"),
    ("local out_dtype", local(out_dtype=np.int32), TypeError, "locally_connected2d: out_dtype must be one of float16"),
    ("local out overlaps", local(padding=1, padding_value=1, weight=np.ones((25, 4, 4, 4, 4), np.float32), input=SHARED[:144].reshape(1, 4, 6, 6), out=SHARED[100:200].reshape(1, 4, 5, 5)), ValueError, "out must not share memory with an input"),
    ("depthwise groups", lambda: cnnfast.depthwise_conv2d(X, W[:4, :1], groups=2), ValueError, "depthwise_conv2d: groups must be None or the number of channels 4, got 2"),
    ("depthwise float groups", lambda: cnnfast.depthwise_conv2d(X, W[:4, :1], groups=4.0), TypeError, "depthwise_conv2d: groups must be an integer, got 4.0"),
    ("separable groups", lambda: cnnfast.separable_conv2d(X, W[:4, :1], W[:2, :, :1, :1], groups=1), ValueError, "separable_conv2d: groups must be None or the number of channels 4, got 1"),
    ("reflect too far", conv(padding=6, padding_mode="reflect"), ValueError, "at most 5 on axis H of extent 6, got (6, 6)"),
    ("circular too far", conv(padding=7, padding_mode="circular"), ValueError, "at most 6 on axis H"),
    ("padding_value", conv(padding=1, padding_value="0"), TypeError, "padding_value must be a real number for float32 inputs, got '0'"),
    ("complex padding_value", conv(padding=1, padding_value=1j), TypeError, "padding_value must be a real number for float32 inputs, got 1j"),
    ("array padding_value", conv(padding=1, padding_value=np.ones(2)), TypeError, "must be a real number for float32 inputs, got array"),
    ("backend", conv(backend="winograd"), ValueError, "an algorithm (tiled, im2col, direct, loop, reference, tensor, wgmma)"),
    ("backend type", conv(backend=3), TypeError, "backend must be a string or None, got 3"),
    ("out type", conv(out=[1]), TypeError, "out must be a plain numpy.ndarray, got list"),
    ("out shape", conv(out=np.empty((1, 6, 4, 5), np.float32)), ValueError, "result's shape (1, 6, 4, 4), got (1, 6, 4, 5)"),
    ("out dtype", conv(out=np.empty((1, 6, 4, 4))), ValueError, "result's dtype float32, got float64"),
    ("out read-only", conv(out=read_only()), ValueError, "out must be writeable"),
    ("out overlaps input", conv(input=SHARED[:144].reshape(1, 4, 6, 6), out=SHARED[100:196].reshape(1, 6, 4, 4)), ValueError, "out must not share memory with an input"),
    ("out overlaps weight", conv(weight=SHARED.reshape(6, 4, 3, 3), out=SHARED[:96].reshape(1, 6, 4, 4)), ValueError, "out must not share memory"),
    ("out overlaps itself", conv(out=np.lib.stride_tricks.as_strided(SHARED, (1, 6, 4, 4), (0, 64, 0, 4))), ValueError, "out must not overlap itself"),
    ("out overlaps itself by as_strided", conv(out=np.lib.stride_tricks.as_strided(SHARED, (1, 6, 4, 4), (4, 4, 4, 4))), ValueError, "out must not overlap itself"),
    ("pool rank", max_pool(input=X[0, 0]), ValueError, "4 axes NCHW (or 3 without the batch), got shape (6, 6)"),
    ("pool window 0", max_pool(kernel_size=0), ValueError, "kernel_size must be positive, got 0"),
    ("pool float window", max_pool(kernel_size=2.0), TypeError, "kernel_size must be an integer, got 2.0"),
    ("pool stride 0", max_pool(stride=0), ValueError, "stride must be positive, got 0"),
    ("pool float stride", avg_pool(stride=1.0), TypeError, "stride must be an integer, got 1.0"),
    ("pool padding", max_pool(kernel_size=3, padding=2), ValueError, "at most half the window, got padding (2, 2) for kernel_size 3"),
    ("pool padding, one axis", avg_pool(kernel_size=(4, 2), padding=2), ValueError, "padding (2, 2) for kernel_size 2"),
    ("pool window > input", max_pool(kernel_size=7), ValueError, "kernel 7 with dilation 1 spans 7 and input 6"),
    ("pool dilated window > input", max_pool(kernel_size=3, dilation=3), ValueError, "spans 7 and input 6"),
    ("pool dilation 0", max_pool(dilation=0), ValueError, "dilation must be positive, got 0"),
    ("pool bool dtype", max_pool(input=X > 0), TypeError, "got dtype bool"),
    ("pool divisor 0", avg_pool(divisor_override=0), ValueError, "divisor_override must not be zero, got 0"),
    ("pool float divisor", avg_pool(divisor_override=2.0), TypeError, "divisor_override must be an integer, got 2.0"),
    ("pool empty axis", max_pool(input=X[:, :, :, :0]), ValueError, "axis W of the input must not be empty"),
    ("pool out", max_pool(out=np.empty((1, 4, 3, 2), np.float32)), ValueError, "result's shape (1, 4, 3, 3), got (1, 4, 3, 2)"),
    ("pool out overlaps", max_pool(input=SHARED[:144].reshape(1, 4, 6, 6), out=SHARED[:36].reshape(1, 4, 3, 3)), ValueError, "must not share memory"),
    ("pool backend", max_pool(backend="im2col"), cnnfast.BackendUnavailableError, "this version has no such pool kernel"),
    ("linear features", lambda: cnnfast.linear(np.ones((2, 3)), np.ones((4, 5))), ValueError, "must agree in in_features, none of them 0, got shapes (2, 3) and (4, 5)"),
    ("linear weight", lambda: cnnfast.linear(np.ones(3), np.ones((1, 1, 3))), ValueError, "got shapes (3,) and (1, 1, 3)"),
    ("neuron's features", lambda: cnnfast.linear(np.ones((2, 3)), np.ones(4)), ValueError, "linear: input (..., in_features) and weight (in_features,) must agree in in_features, which isn't 0, got shapes (2, 3) and (4,)"),
    ("neuron without features", lambda: cnnfast.linear(np.ones((2, 0)), np.ones(0)), ValueError, "got shapes (2, 0) and (0,)"),
    ("neuron without input", lambda: cnnfast.linear(1.0, np.ones(1)), ValueError, "got shapes () and (1,)"),
    ("neuron's bias", lambda: cnnfast.linear(np.ones((2, 3)), np.ones(3), np.ones(1)), ValueError, "linear: bias must have shape () beside a weight of one axis, got shape (1,)"),
    ("neuron's out", lambda: cnnfast.linear(np.ones((2, 3)), np.ones(3), out=np.empty((2, 1))), ValueError, "result's shape (2,), got (2, 1)"),
    ("gradient of a neuron", lambda: cnnfast.grad.linear_input((2, 3), np.ones(3), np.ones(2)), ValueError, "linear_input: input (..., in_features) and weight (out_features, in_features)"),
    ("linear bias", lambda: cnnfast.linear(np.ones(3), np.ones((4, 3)), np.ones(3)), ValueError, "bias must have shape (4,)"),
    ("linear bias, no rows", lambda: cnnfast.linear(np.ones((0, 3)), np.ones((4, 3)), np.ones(3)), ValueError, "bias must have shape (4,)"),
    ("linear without features", lambda: cnnfast.linear(np.ones((2, 0)), np.ones((4, 0))), ValueError, "none of them 0, got shapes (2, 0) and (4, 0)"),
    ("linear activation, no rows", lambda: cnnfast.linear(np.ones((0, 3)), np.ones((4, 3)), activation="nope"), ValueError, "got 'nope'"),
    ("linear backend, no rows", lambda: cnnfast.linear(np.ones((0, 3)), np.ones((4, 3)), backend="xx"), ValueError, "got 'xx'"),
    ("explain linear", lambda: cnnfast.explain("linear", (2, 3), (4, 5)), ValueError, "linear: input (..., in_features)"),
    ("linear bool", lambda: cnnfast.linear(np.ones(3, bool), np.ones((4, 3))), TypeError, "got dtype bool"),
    ("linear out", lambda: cnnfast.linear(np.ones(3), np.ones((4, 3)), out=np.empty(3)), ValueError, "result's shape (4,), got (3,)"),
    ("softmax dim", lambda: cnnfast.softmax(np.ones((2, 3)), 2), ValueError, "dim must be below the number of axes 2, got 2"),
    ("softmax float dim", lambda: cnnfast.softmax(np.ones((2, 3)), 1.0), TypeError, "dim must be an integer, got 1.0"),
    ("relu str", lambda: cnnfast.relu("a"), TypeError, "got dtype <U1"),
    ("threads", lambda: cnnfast.set_num_threads(0), ValueError, "threads must be positive, got 0"),
    ("float threads", lambda: cnnfast.set_num_threads(2.0), TypeError, "threads must be an integer, got 2.0"),
    ("workspace", lambda: cnnfast.set_workspace_limit(-1), ValueError, "limit must be non-negative, got -1"),
    ("explain", lambda: cnnfast.explain("conv9d", (1,)), ValueError, "op must be one of adaptive_avg_pool1d"),
    ("explain a bad layer", lambda: cnnfast.explain("conv2d", (1, 3, 8, 8), (4, 2, 3, 3)), ValueError, "3 / 1 = 3 channels, got 2"),
    ("explain a rank-3 weight", lambda: cnnfast.explain("conv2d", (1, 3, 8), (4, 3, 3)), ValueError, "4 axes"),
    ("geometry weight", lambda: ConvGeometry.of((1, 2, 3), (1, 2)), ValueError, "3, 4 or 5 axes, got shape (1, 2)"),
    ("geometry reduction", lambda: PoolGeometry.of((1, 1, 4, 4), "min", 2), ValueError, "'max' or 'mean', got 'min'"),
    ("dict stride", conv(stride={2: 3}), TypeError, "stride must be an integer, got {2: 3}"),
    ("bytes stride", conv(stride=b"ab"), TypeError, "stride must be an integer, got b'ab'"),
    ("timedelta padding_value", conv(padding=1, padding_value=np.timedelta64(1, "s")), TypeError, "must be a real number"),
    ("huge padding_value", conv(padding=1, padding_value=10**400), ValueError, "padding_value must fit float32"),
    ("masked out", conv(out=np.ma.zeros((1, 6, 4, 4), np.float32)), TypeError, "plain numpy.ndarray, got MaskedArray"),
    ("geometry of a list", lambda: ConvGeometry.of([1, 4, 6, 6], [6, 4, 3, 3]), TypeError, "an array or a shape (a tuple of ints), got [6, 4, 3, 3]"),
    ("load", lambda: kernels.load("fprop", "winograd", "cython"), ValueError, "no row 'fprop' winograd/cython"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_bad_input_is_refused(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


class OnGpu:
    """Stands in for an array on one of NVIDIA's GPUs."""

    __cuda_array_interface__: dict[str, Any] = {}


class OnAnotherDevice:
    """Stands in for an array on a device that DLPack knows and no kernel does."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self.kind, 0)


ON_CUDA, ON_ROCM = 2, 10


def test_arrays_of_other_devices_are_refused() -> None:
    with pytest.raises(TypeError, match="input must be in host memory.*OnAnotherDevice"):
        cnnfast.conv2d(OnAnotherDevice(ON_ROCM), W)


@pytest.mark.parametrize("source", [OnGpu(), OnAnotherDevice(ON_CUDA)])
def test_arrays_on_a_gpu_without_one_are_refused_with_the_reason(source: Any) -> None:
    reason = engine_missing("numba_cuda")
    if reason is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(cnnfast.BackendUnavailableError, match="the arrays are on a GPU, and") as at:
        cnnfast.conv2d(source, W)
    assert reason in str(at.value)


@pytest.mark.parametrize("source", [OnGpu(), OnAnotherDevice(ON_CUDA)])
def test_functions_without_kernels_for_gpus_say_so(source: Any) -> None:
    with pytest.raises(TypeError, match="in host memory: this function has no kernels"):
        cnnfast.relu(source)
