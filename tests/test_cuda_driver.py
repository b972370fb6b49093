"""The driver's layer, in processes whose libcuda is the fake: no GPU is needed."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fake_cuda

needs_compiler = pytest.mark.skipif(
    fake_cuda.compiler() is None, reason="no C compiler to build the fake libcuda with"
)
MISSING = "from cnnfast.kernels.numba_cuda import driver; print(driver.missing())"


def printed(code: str, **variables: str) -> str:
    """What code prints with the fake driver."""
    done = fake_cuda.run(textwrap.dedent(code), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@needs_compiler
def test_calls_of_the_driver(capsys: pytest.CaptureFixture[str]) -> None:
    """What one process can try, in it: ``fake_cuda/check_driver.py``."""
    path = Path(fake_cuda.__file__).with_name("check_driver.py")
    arguments = ("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(path))
    done = subprocess.run(
        fake_cuda.command(*arguments),
        env=fake_cuda.environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    with capsys.disabled():
        print(*re.findall(r"^.* us a call.*$", done.stdout, re.M), sep="\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.M), done.stdout


@needs_compiler
def test_a_gpu_is_there() -> None:
    assert printed(MISSING) == "None"


@pytest.mark.skipif(
    subprocess.run(
        [sys.executable, "-c", "import ctypes; ctypes.CDLL('libcuda.so.1')"],
        capture_output=True,
        check=False,
    ).returncode
    == 0,
    reason="libcuda is there",
)
def test_no_driver() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", MISSING], capture_output=True, text=True, check=True
    )
    assert "there is no NVIDIA driver here, which brings libcuda.so.1" in done.stdout


SITUATIONS = {
    "no device": ("device.devices = 0", "the NVIDIA driver finds no GPU"),
    "no device, without an error": (
        "device.cuDeviceGetCount = lambda given: None",
        "the NVIDIA driver finds no GPU",
    ),
    "old driver": (
        "device.version = 12040",
        "too old: it runs CUDA 12.4, and these kernels need 13.0 (driver 580 or newer)",
    ),
    "old device": (
        "device.capability = 7, 5",
        "Fake GPU has compute capability 7.5, and these kernels need 8.0 (Ampere) or newer",
    ),
    "other library": (
        "device.fail('cuInit', 'CUDA_ERROR_SYSTEM_DRIVER_MISMATCH')",
        "CUDA can't be initialised: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)",
    ),
    "forked elsewhere": (
        "device.fail('cuInit', 'CUDA_ERROR_NOT_INITIALIZED')",
        "If this process was forked: CUDA was initialised before",
    ),
    "unknown code": ("device.fail('cuInit', 4242)", "unknown (4242): unknown"),
    "device that fails": (
        "device.fail('cuDeviceGetAttribute', 'CUDA_ERROR_UNKNOWN')",
        "asking for attribute 75 of device 0: CUDA_ERROR_UNKNOWN (999)",
    ),
}


@needs_compiler
@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_missing(situation: str) -> None:
    setting, expected = SITUATIONS[situation]
    said = printed(
        f"""
        import fake_cuda
        device = fake_cuda.installed()
        {setting}
        {MISSING}
        calls = sum(device.counts.values())
        assert driver.missing() == driver.missing()
        if {situation!r} not in ("old device", "device that fails"):
            assert sum(device.counts.values()) == calls
            try:
                driver.allocate(8, 0)
            except driver.CudaError as error:
                assert str(error) == driver.missing()
            else:
                raise AssertionError
        """
    )
    assert expected in said
    assert "\n" not in said


@needs_compiler
@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_devices(visible: str) -> None:
    said = printed(MISSING, CUDA_VISIBLE_DEVICES=visible)
    assert f"shows no GPU, and CUDA_VISIBLE_DEVICES is {visible!r}: unset it" in said


@needs_compiler
def test_forked_children() -> None:
    """A child of a process that has used CUDA is told so, by every call; others can use it."""
    said = printed(
        """
        import os
        from cnnfast.kernels.numba_cuda import driver

        def child(*calls):
            pid = os.fork()
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
                return
            for call in calls:
                try:
                    print(call(), flush=True)
                except driver.CudaError as error:
                    print("CudaError:", error, flush=True)
            os._exit(0)

        child(driver.missing)
        function = driver.load(".version 9.0\\n.visible .entry f(.param .u32 a) {ret;}", "f")
        launcher = driver.Launcher(function, (1, 1, 1), 32, 0, 4)
        child(
            driver.missing,
            driver.context,
            lambda: driver.load("", "f"),
            lambda: launcher(0),
            lambda: driver.allocate(8, 0),
            lambda: driver.synchronize(0),
            lambda: driver.free(256, 0),  # is its parent's
        )
        print(driver.missing())
        """
    ).splitlines()
    forked = "CUDA was initialised before this process was forked, and can't be used in a forked"
    assert said[0] == said[-1] == "None"
    assert said[1].startswith(forked)
    assert len(said) == 9
    assert all(line.startswith(f"CudaError: {forked}") for line in said[2:-2])
    assert said[-2] == "None"


@needs_compiler
def test_the_context_that_is_there_is_used() -> None:
    said = printed(
        """
        import ctypes, threading
        import fake_cuda
        device = fake_cuda.installed()
        device.devices = 2
        from cnnfast.kernels.numba_cuda import driver
        assert driver.missing() is None
        assert "cuDevicePrimaryCtxRetain" not in device.calls  # to ask makes no context
        cuda = ctypes.CDLL("libcuda.so.1")
        context = ctypes.c_void_p()
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 1)
        cuda.cuCtxSetCurrent(context)
        ptx = ".version 9.0\\n.visible .entry f() {ret;}"
        assert driver.context() == context.value and driver.device() == 1
        second = driver.load(ptx, "f")
        pointer = driver.allocate(64, 0)
        assert driver.device_of(pointer) == driver.device_of(pointer + 63) == 1
        assert driver.device_of(pointer + 64) is None

        def elsewhere():
            assert driver.device() == 0
            first = driver.load(ptx, "f")
            assert first.context != second.context and first.handle != second.handle
            assert driver.device_of(driver.allocate(64, 0)) == 0
            driver.Launcher(first, (1, 1, 1), 32, 0, 0)(0)
            try:
                driver.Launcher(second, (1, 1, 1), 32, 0, 0)(0)
            except driver.CudaError as error:
                print(error)

        def nowhere():  # a thread without a context gets the kernel's
            driver.Launcher(second, (1, 1, 1), 32, 0, 0)(0)
            assert driver.device() == 1

        for target in (elsewhere, nowhere):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        assert len(device.launched) == 2, device.launched
        """
    )
    assert said == (
        "launching f on (1, 1, 1) blocks of 32 threads with 0 bytes of shared memory: "
        "CUDA_ERROR_INVALID_HANDLE (400): invalid handle"
    )


@needs_compiler
def test_without_memory_pools() -> None:
    printed(
        """
        import numpy as np
        import fake_cuda
        device = fake_cuda.installed()
        device.pools = False
        from cnnfast.kernels.numba_cuda import driver
        pointer = driver.allocate(64, 0)
        x = np.arange(16, dtype=np.float32)
        driver.to_device(pointer, x, 0)
        y = np.zeros_like(x)
        driver.to_host(y, pointer, 0)
        np.testing.assert_array_equal(x, y)
        driver.free(pointer, 0)
        assert device.counts["cuMemAlloc_v2"] == device.counts["cuMemFree_v2"] == 1
        assert not device.allocations and "cuMemPoolCreate" not in device.counts
        stream = device.stream()
        with device.capture(stream) as graph:
            try:
                driver.allocate(64, stream)
            except driver.CudaError as error:
                assert "no memory pools" in str(error), error
            else:
                raise AssertionError
        graph.launch()
        """
    )


@needs_compiler
def test_what_kills_a_kernel_is_told() -> None:
    """A launch that the machine refuses fails, with its words, as does everything after it."""
    done = fake_cuda.run(
        textwrap.dedent(
            """
            import fake_cuda
            device = fake_cuda.installed()
            from cnnfast.kernels.numba_cuda import driver

            def broken(*launch):
                raise ZeroDivisionError("warp 3 divides by zero")

            device.machine.launch = broken
            function = driver.load(".version 9.0\\n.visible .entry f() {ret;}", "f")
            for call in (driver.Launcher(function, (1, 1, 1), 32, 0, 0), driver.synchronize):
                try:
                    call(0)
                except driver.CudaError as error:
                    print(error.code, error)
            """
        )
    )
    first, second = done.stdout.splitlines()
    told = "CUDA_ERROR_LAUNCH_FAILED (719): ZeroDivisionError: warp 3 divides by zero. This or"
    assert first.startswith("719 launching f on (1, 1, 1) blocks")
    assert told in first
    # Whatever is called first after it fails.
    assert second.startswith("719 looking for the thread's CUDA context")
    assert told in second
    assert "Traceback" in done.stderr
