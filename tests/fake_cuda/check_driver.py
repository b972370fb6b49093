"""The driver's layer in a process with the fake: ``test_cuda_driver`` runs this file in one."""

from __future__ import annotations

import struct
import threading
import timeit
from collections.abc import Iterator

import numpy as np
import pytest

from cnnfast.kernels.numba_cuda import driver

import fake_cuda
from fake_cuda.arrays import DeviceArray
from fake_cuda.codes import CODES
from fake_cuda.device import Device, quiet

PTX = """.version 9.0
.target sm_80
.visible .entry first(.param .u64 a) {ret;}
.visible .entry second(.param .u64 a) {ret;}
"""


@pytest.fixture
def device() -> Iterator[Device]:
    found = fake_cuda.installed()
    found.launched.clear()
    machine_launch = found.machine.launch
    found.machine.launch = lambda *launch: None
    yield found
    found.machine.launch = machine_launch
    found._faults.clear()
    found.log = ""
    found.reset()


def launcher(name: str = "first", nbytes: int = 8, shared: int = 0) -> driver.Launcher:
    return driver.Launcher(driver.load(PTX, name, shared), (3, 2, 1), 128, shared, nbytes)


def test_properties(device: Device) -> None:
    assert driver.capability() == (9, 0)
    assert driver.multiprocessors() == 4
    assert driver.device_name() == "Fake GPU"
    free, total = driver.memory()
    assert 0 < free <= total == device.total
    assert driver.device() == 0
    assert driver.context() == driver.context()


def test_memory_there_and_back(device: Device) -> None:
    stream = device.stream()
    before = len(device.allocations)
    x = np.random.default_rng(0).standard_normal((3, 5, 7))
    pointer = driver.allocate(x.nbytes, stream)
    y = np.zeros_like(x)
    driver.to_device(pointer, x, stream)
    driver.to_host(y, pointer, stream)
    np.testing.assert_array_equal(x, y)
    driver.fill(pointer + 8, 0, 16, stream)
    driver.to_host(y, pointer, stream)
    np.testing.assert_array_equal(y.ravel(), [x.flat[0], 0, 0, *x.flat[3:]])
    driver.fill(pointer, 255, x.nbytes, stream)
    driver.to_host(y, pointer, stream)
    assert np.isnan(y).all()
    assert driver.device_of(pointer) == driver.device_of(pointer + x.nbytes - 1) == 0
    assert driver.device_of(x.__array_interface__["data"][0]) is None
    driver.free(pointer, stream)
    assert len(device.allocations) == before


def test_nothing_is_copied_for_empty_arrays(device: Device) -> None:
    empty = np.zeros((0, 3))
    pointer = driver.allocate(0, 0)
    assert pointer == 0
    device.counts.clear()
    driver.to_device(pointer, empty, 0)
    driver.to_host(empty, pointer, 0)
    driver.fill(pointer, 0, 0, 0)
    driver.free(pointer, 0)
    assert not device.counts


def test_arrays_that_are_not_contiguous(device: Device) -> None:
    pointer = driver.allocate(80, 0)
    view = np.zeros((5, 4))[:, ::2]
    for copy in (
        lambda: driver.to_device(pointer, view, 0),
        lambda: driver.to_host(view, pointer, 0),
    ):
        with pytest.raises(ValueError, match=r"strides \(32, 16\) isn't contiguous"):
            copy()
    driver.free(pointer, 0)


def test_parameters_arrive(device: Device) -> None:
    """Pointers, int32, float32 and float64, aligned as C does it."""
    layout = struct.Struct("@PifiPd")
    launch = launcher(nbytes=layout.size)
    stream = device.stream()
    given = (0x7F0012345678, -7, 2.5, 2**31 - 1, 0, -0.1)
    layout.pack_into(launch.params, 0, *given)
    launch(stream)
    layout.pack_into(launch.params, 0, *(0, 0, 0, 0, 0, 0))
    launch(0)
    first, second = device.launched
    assert first[:5] == ("first", (3, 2, 1), (128, 1, 1), 0, stream)
    assert layout.unpack(first.params) == pytest.approx(given, rel=0)
    assert layout.unpack(second.params) == (0, 0, 0, 0, 0, 0)
    assert second.stream == 0


def test_a_kernel_without_parameters(device: Device) -> None:
    launcher("second", 0)(0)
    assert device.launched[0].params == b""


def test_threads_launch_at_once(device: Device) -> None:
    def work(number: int) -> None:
        launch = launcher()
        for index in range(50):
            struct.pack_into("Q", launch.params, 0, number * 1000 + index)
            launch(0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(struct.unpack("Q", launched.params)[0] for launched in device.launched)
    assert found == [number * 1000 + index for number in range(4) for index in range(50)]


def test_a_module_is_loaded_once(device: Device) -> None:
    ptx = PTX + "// another\n"
    device.counts.clear()
    first = driver.load(ptx, "first")
    assert driver.load(ptx, "first") is first
    assert driver.load(ptx, "second").handle != first.handle
    assert device.counts["cuModuleLoadDataEx"] == 1
    assert device.counts["cuModuleGetFunction"] == 2


def test_shared_memory_is_asked_for(device: Device) -> None:
    large = launcher(shared=200_000)
    large(0)
    # A smaller wish for the same kernel doesn't take it away.
    launcher(shared=60_000)(0)
    large(0)
    assert [launched.shared for launched in device.launched] == [200_000, 60_000, 200_000]
    with pytest.raises(driver.CudaError, match="first needs 240000 bytes .* the device has 232448"):
        launcher(shared=240_000)


def test_grids_that_no_device_has(device: Device) -> None:
    function = driver.load(PTX, "first")
    for grid in ((0, 1, 1), (1, 65536, 1), (2**31, 1, 1), (1, 1, 65536)):
        with pytest.raises(ValueError, match=r"isn't between \(1, 1, 1\) and"):
            driver.Launcher(function, grid, 32, 0, 0)


def test_the_compilers_words(device: Device) -> None:
    device.log = "ptxas application ptx input, line 7; fatal: Unknown symbol 'x'"
    with pytest.raises(driver.CudaError) as caught:
        driver.load(".version 9.0 // wrong", "first")
    assert caught.value.code == CODES["CUDA_ERROR_INVALID_PTX"]
    assert str(caught.value) == (
        f"loading the kernel first, 21 bytes of PTX [{device.log}]: "
        "CUDA_ERROR_INVALID_PTX (218): invalid ptx"
    )
    device.log = ""
    with pytest.raises(driver.CudaError, match="looking for the kernel third in its module"):
        driver.load(PTX, "third")


def test_out_of_memory(device: Device) -> None:
    for kind in (MemoryError, driver.CudaError, driver.OutOfMemory):
        with pytest.raises(kind) as caught:
            driver.allocate(1 << 40, 0)
        free, total = driver.memory()
        assert str(caught.value) == (
            "allocating 1099511627776 bytes on the device: CUDA_ERROR_OUT_OF_MEMORY (2): "
            f"out of memory; {free} of the device's {total} bytes are free"
        )


POINTER, ARRAY = 0, np.zeros(4, np.float32)
CALLS = {
    "cuCtxGetCurrent": (driver.context, "looking for the thread's CUDA context"),
    "cuMemGetInfo_v2": (driver.memory, "asking for the device's free memory"),
    "cuDeviceGetName": (driver.device_name, "asking for device 0's name"),
    "cuPointerGetAttribute": (lambda: driver.device_of(256), "asking whose memory is at 0x100"),
    "cuStreamSynchronize": (lambda: driver.synchronize(0), "waiting for a stream"),
    "cuStreamIsCapturing": (lambda: driver.capturing(0), "asking whether a stream is captured"),
    "cuThreadExchangeStreamCaptureMode": (
        lambda: driver.load(PTX + "// new", "first"),
        "changing what may be called while a graph is captured",
    ),
    "cuModuleLoadDataEx": (
        lambda: driver.load(PTX + "// new", "first"),
        f"loading the kernel first, {len(PTX) + 6} bytes of PTX",
    ),
    "cuFuncSetAttribute": (
        lambda: driver.load(PTX, "first", 220_000),
        "giving the kernel first 220000 bytes of shared memory",
    ),
    "cuLaunchKernelEx": (
        lambda: launcher()(0),
        "launching first on (3, 2, 1) blocks of 128 threads with 0 bytes of shared memory",
    ),
    "cuMemAllocFromPoolAsync": (
        lambda: driver.allocate(77, 0),
        "allocating 77 bytes on the device",
    ),
    "cuMemFreeAsync": (lambda: driver.free(256, 0), "freeing the device's memory at 0x100"),
    "cuMemcpyHtoDAsync_v2": (
        lambda: driver.to_device(256, ARRAY, 0),
        "copying 16 bytes to the device",
    ),
    "cuMemcpyDtoHAsync_v2": (
        lambda: driver.to_host(ARRAY, 256, 0),
        "copying 16 bytes from the device",
    ),
    "cuMemsetD8Async": (lambda: driver.fill(256, 0, 8, 0), "filling 8 bytes on the device"),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_is_checked(device: Device, name: str) -> None:
    call, doing = CALLS[name]
    driver.allocate(8, 0)
    device.fail(name, "CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(driver.CudaError) as caught:
        call()
    assert caught.value.code == 700
    assert not isinstance(caught.value, MemoryError)
    said = str(caught.value)
    assert said.startswith(f"{doing}: CUDA_ERROR_ILLEGAL_ADDRESS (700): illegal address. This or")
    assert "the process's context is lost" in said


def test_an_ending_process_frees_without_noise(device: Device) -> None:
    pointer = driver.allocate(8, 0)
    for name in ("cuMemFreeAsync", "cuCtxGetCurrent"):
        device.fail(name, 4)
        driver.free(pointer, 0)


def test_capture(device: Device) -> None:
    """Launches, scratch and modules in a capture: recorded, and run by the graph alone."""
    stream = device.stream()
    x = np.arange(4, dtype=np.int32)
    pointer = driver.allocate(16, stream)
    device.counts.clear()
    with device.capture(stream) as graph:
        assert driver.capturing(stream)
        assert not driver.capturing(0)
        launch = driver.Launcher(driver.load(PTX + "// captured", "first"), (1, 1, 1), 32, 0, 8)
        scratch = driver.allocate(64, stream)
        driver.to_device(pointer, x, stream)
        for value in (1, 2):
            struct.pack_into("Q", launch.params, 0, value)
            launch(stream)
        driver.free(scratch, stream)
    assert graph.valid
    assert not device.launched
    for _ in range(2):
        graph.launch()
    assert [launched.params[0] for launched in device.launched] == [1, 2, 1, 2]
    y = np.zeros_like(x)
    driver.to_host(y, pointer, stream)
    np.testing.assert_array_equal(x, y)


def test_a_launch_is_one_call(device: Device) -> None:
    """No allocation, no question and no wait: nothing that a capture would end at."""
    launch = launcher()
    device.calls.clear()
    launch(0)
    assert list(device.calls) == ["cuLaunchKernelEx"]


def test_what_cannot_be_captured_says_so(device: Device) -> None:
    stream = device.stream()
    pointer = driver.allocate(16, 0)
    with device.capture(stream) as graph, pytest.raises(driver.CudaError) as caught:
        driver.to_host(np.zeros(4, np.float32), pointer, stream)
    assert "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)" in str(caught.value)
    assert "A CUDA graph is being captured, which can't record this" in str(caught.value)
    assert not graph.valid


PTX_THAT_RUNS = """.version 9.0
.target sm_80
.address_size 64
.visible .entry squares(.param .u64 x, .param .u64 y, .param .u32 n, .param .f32 c)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.u32 %r1, [n];
    ld.param.f32 %f1, [c];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.s32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.s32 %rd3, %r5, 4;
    add.s64 %rd4, %rd1, %rd3;
    ld.global.f32 %f2, [%rd4];
    fma.rn.f32 %f3, %f2, %f2, %f1;
    add.s64 %rd5, %rd2, %rd3;
    st.global.f32 [%rd5], %f3;
DONE:
    ret;
}
"""


def test_ptx_runs() -> None:
    """The PTX machine behind the driver: what is loaded is what computes, checked as it does."""
    pytest.importorskip("ptx_machine", reason="tests/ptx_machine isn't there")
    device = fake_cuda.installed()
    x = DeviceArray(np.arange(100, dtype=np.float32))
    y = DeviceArray(np.full(100, np.nan, np.float32)[::-1])
    launch = driver.Launcher(driver.load(PTX_THAT_RUNS, "squares"), (2, 1, 1), 64, 0, 24)
    low = y.pointer - 99 * 4
    struct.pack_into("@PPif", launch.params, 0, x.pointer, low, 100, 0.5)
    launch(0)
    np.testing.assert_array_equal(y.numpy()[::-1], np.arange(100) ** 2 + 0.5)
    struct.pack_into("@PPif", launch.params, 0, x.pointer, low, 101, 0.5)
    with pytest.raises(driver.CudaError, match="load outside what is allocated in global memory"):
        launch(0)
    device.reset()


def test_beside_numbas_arrays() -> None:
    """Numba's arrays and ours live in one context and see each other's memory."""
    cuda = pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed") and (
        pytest.importorskip("numba.cuda")
    )
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    theirs = cuda.to_device(x)
    pointer = theirs.__cuda_array_interface__["data"][0]
    assert driver.device_of(pointer) == 0
    read = np.zeros_like(x)
    driver.to_host(read, pointer, 0)
    np.testing.assert_array_equal(read, x)
    ours = DeviceArray(2 * x)
    np.testing.assert_array_equal(cuda.as_cuda_array(ours).copy_to_host(), 2 * x)
    stream = cuda.stream()
    driver.fill(pointer, 0, x.nbytes, int(stream.handle))
    driver.synchronize(int(stream.handle))
    assert not theirs.copy_to_host().any()
    assert int(cuda.current_context().handle) == driver.context()


def test_overhead(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    launch = launcher(nbytes=32)
    pack = struct.Struct("@4Q").pack_into
    driver.allocate(8, 0)

    def packed() -> None:
        pack(launch.params, 0, 1, 2, 3, 4)
        launch(5)

    calls = {
        "launch": lambda: launch(5),
        "four parameters and launch": packed,
        "context": driver.context,
        "devices_of three operands": lambda: driver.devices_of((256, 512, 768)),
        "allocate and free": lambda: driver.free(driver.allocate(8, 5), 5),
    }
    quiet(True)
    try:
        for name, call in calls.items():
            best = min(timeit.repeat(call, number=10_000, repeat=7)) / 10_000
            with capsys.disabled():
                print(f"\n{name}: {best * 1e6:.2f} us a call of a driver that does nothing")
    finally:
        quiet(False)
