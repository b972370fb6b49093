"""What the driver's layer says of libcuda, held against NVIDIA's cuda.h where there is one."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from cnnfast.kernels.numba_cuda import _device, _kernels, _libcuda, _memory

import fake_cuda


def headers() -> list[Path]:
    """Folders with a cuda.h of CUDA 13: a toolkit's, or the wheel's."""
    homes = [
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")),
        *Path("/usr/local").glob("cuda-*"),
    ]
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec else ():
        homes += Path(place).glob("*")
    found = [home / "include" / "cuda.h" for home in homes]
    return [
        path.parent
        for path in found
        if path.is_file() and re.search(r"define CUDA_VERSION 13\d+", path.read_text("latin1"))
    ]


HEADERS = headers()
pytestmark = [
    pytest.mark.skipif(not HEADERS, reason="no cuda.h of CUDA 13 here"),
    pytest.mark.skipif(fake_cuda.compiler() is None, reason="no C compiler"),
]


def test_signatures() -> None:
    """Each function exists under its versioned name, with the arguments of SIGNATURES."""
    command = [str(fake_cuda.compiler()), "-E", "-P", "-I", str(HEADERS[0]), "-include", "cuda.h"]
    text = subprocess.run(
        [*command, "-x", "c", "/dev/null"], capture_output=True, text=True, check=True
    ).stdout
    found = dict(re.findall(r"CUresult\s+(cu\w+)\s*\(([^)]*)\)\s*;", text))
    handles = {"CUcontext", "CUstream", "CUfunction", "CUmodule", "CUmemoryPool"}
    for name, letters in _libcuda.SIGNATURES.items():
        assert name in found
        kinds = ""
        for argument in found[name].split(","):
            words = argument.replace("const", " ").split()
            if "*" in argument or words[0] in handles:
                kinds += "p"
            else:
                by_type = {"CUdeviceptr": "q", "size_t": "z", "unsigned int": "u"}
                by_type |= {"unsigned char": "b", "int": "i", "CUdevice": "i", "CUresult": "i"}
                # What is left is an enumeration.
                enumeration = "i" if words[0].startswith("CU") else "?"
                kinds += by_type.get(" ".join(words[:-1]), enumeration)
        assert letters.replace("s", "p") == kinds, name


def printed(*expressions: str) -> list[int]:
    """Values of C expressions that cuda.h gives a meaning."""
    lines = "".join(f'printf("%lld\\n", (long long)({each}));' for each in expressions)
    include = "".join(f"#include <{name}.h>\n" for name in ("cuda", "stddef", "stdio"))
    folder = fake_cuda.build()
    program = folder / f"constants-{os.getpid()}"
    try:
        command = [str(fake_cuda.compiler()), "-x", "c", "-I", str(HEADERS[0]), "-o", str(program)]
        subprocess.run(
            [*command, "-"],
            input=f"{include}int main() {{{lines} return 0;}}",
            text=True,
            check=True,
        )
        out = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    finally:
        program.unlink(missing_ok=True)
    return [int(line) for line in out.split()]


CONSTANTS = {
    "CUDA_ERROR_INVALID_VALUE": _libcuda.INVALID_VALUE,
    "CUDA_ERROR_OUT_OF_MEMORY": _libcuda.OUT_OF_MEMORY,
    "CUDA_ERROR_NOT_INITIALIZED": _libcuda.NOT_INITIALIZED,
    "CUDA_ERROR_DEINITIALIZED": _libcuda.DEINITIALIZED,
    "CUDA_ERROR_NO_DEVICE": _libcuda.NO_DEVICE,
    "CUDA_ERROR_INVALID_CONTEXT": _libcuda.INVALID_CONTEXT,
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": min(_libcuda.CAPTURE),
    "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD": max(_libcuda.CAPTURE),
    "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT": _device.MULTIPROCESSOR_COUNT,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": _device.CAPABILITY_MAJOR,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": _device.CAPABILITY_MINOR,
    "CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL": _device.DEVICE_ORDINAL,
    "CU_STREAM_CAPTURE_MODE_RELAXED": _device.RELAXED,
    "CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": _kernels.SHARED_OPTIN,
    "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES": _kernels.MAX_DYNAMIC_SHARED,
    "CU_JIT_ERROR_LOG_BUFFER": _kernels.ERROR_LOG,
    "CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES": _kernels.ERROR_LOG_BYTES,
    "CU_LAUNCH_PARAM_END_AS_INT": 0,
    "CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT": 1,
    "CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT": 2,
    "CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED": _memory.POOLS_SUPPORTED,
    "CU_MEMPOOL_ATTR_RELEASE_THRESHOLD": _memory.RELEASE_THRESHOLD,
    "CU_MEM_ALLOCATION_TYPE_PINNED": 1,
    "CU_MEM_LOCATION_TYPE_DEVICE": 1,
}


def test_constants() -> None:
    assert printed(*CONSTANTS) == list(CONSTANTS.values())


def test_codes_of_the_fake() -> None:
    from fake_cuda.codes import CODES

    assert printed(*CODES) == list(CODES.values())


@pytest.mark.parametrize(
    ("structure", "type_name", "fields"),
    [
        (
            _kernels._Config,
            "CUlaunchConfig",
            ["gridDimX", "blockDimX", "sharedMemBytes", "hStream", "attrs", "numAttrs"],
        ),
        (
            _memory._PoolProps,
            "CUmemPoolProps",
            [
                "allocType",
                "handleTypes",
                "location",
                "location.id",
                "win32SecurityAttributes",
                "maxSize",
                "usage",
                "reserved",
            ],
        ),
    ],
)
def test_structures(structure: type[ctypes.Structure], type_name: str, fields: list[str]) -> None:
    offsets = [f"offsetof({type_name}, {field})" for field in fields]
    ours = [getattr(structure, name).offset for name, *_ in structure._fields_]
    assert printed(f"sizeof({type_name})", *offsets) == [ctypes.sizeof(structure), *ours]
