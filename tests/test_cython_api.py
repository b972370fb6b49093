"""Other people's Cython and C against the installed wheel: the page's programs, every function."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from building import ROOT, run
from c_pointers import CONV_FIELDS, POOL_FIELDS, function

pytest.importorskip("cnnfast.kernels.cython_cpu.conv", reason="the extensions aren't built")
pytest.importorskip("Cython", reason="Cython isn't installed")
pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="the sources aren't here: the tests run elsewhere"
)

PAGE = ROOT / "docs" / "cython.md"
C_TYPES = {"float32": "float", "float64": "double"}


def files_of_the_page() -> dict[str, str]:
    """Its files by name."""
    found = re.findall(
        r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    return dict(found)


def shown_behind(name: str) -> str:
    """The text block that follows a file."""
    rest = PAGE.read_text().partition(f"<!-- file: {name} -->")[2]
    return re.findall(r"^```text\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL)[0]


def every_function() -> str:
    """A module that calls each function of memoryviews, in and out of ``prange``."""
    lines = [
        "# cython: language_level=3, boundscheck=False",
        "from cython.parallel cimport prange",
        "from libc.stdint cimport int64_t",
        "from cnnfast.kernels.cython_cpu.conv cimport *",
        "from cnnfast.kernels.cython_cpu.pool cimport *",
        "from cnnfast.kernels.cython_cpu.views cimport *",
    ]
    for rank in (1, 2, 3):
        axes = ", ".join([":"] * (2 + rank))
        for dtype, real in C_TYPES.items():
            view = f"{real}[{axes}]"
            for name in (f"conv{rank}d_{dtype}", f"conv_transpose{rank}d_{dtype}"):
                lines += [
                    f"def {name}_(const {view} x, const {view} w, const {real}[::1] b, {view} out,",
                    "    int64_t stride, int64_t padding, int64_t dilation, int64_t groups):",
                    "    cdef int status",
                    "    with nogil:",
                    f"        status = {name}(x, w, &b[0], out,",
                    "            conv_steps(stride, padding, dilation, groups), 0, 2)",
                    "    return status",
                ]
            name = f"max_pool{rank}d_{dtype}"
            lines += [
                f"def {name}_(const {view} x, {view} out, int64_t[{axes}] indices, int64_t window,",
                "    int64_t stride, int64_t padding):",
                "    cdef int worst = 0",
                "    cdef Py_ssize_t n",
                "    for n in prange(x.shape[0], nogil=True):",
                f"        worst += {name}(x[n:n + 1], out[n:n + 1],",
                "            indices[n:n + 1],",
                "            pool_steps(window, stride, padding))",
                "    return worst",
            ]
            name = f"avg_pool{rank}d_{dtype}"
            lines += [
                f"def {name}_(const {view} x, {view} out, int64_t window, int64_t stride,",
                "    int64_t padding):",
                "    cdef PoolShape steps = pool_steps(window, stride, padding)",
                "    steps.count_include_pad = 0",
                f"    return {name}(x, out, steps, 2)",
            ]
    return "\n".join(lines) + "\n"


USE_EVERY_FUNCTION = """
import itertools
import numpy as np
import cnnfast
import every

rng = np.random.default_rng(0)
for rank, dtype in itertools.product((1, 2, 3), ("float32", "float64")):
    x = rng.standard_normal((3, 4, *(9, 8, 7)[:rank])).astype(dtype)[:, :, ::-1]
    bias = rng.standard_normal(6).astype(dtype)
    for steps in ((1, 0, 1, 1), (2, 1, 1, 2), (1, 1, 2, 1)):
        stride, padding, dilation, groups = steps
        for name, shape in (("conv", (6, 4 // groups)), ("conv_transpose", (4, 6 // groups))):
            weight = rng.standard_normal((*shape, *(3,) * rank)).astype(dtype)
            more = {} if name == "conv" else {"backend": "tiled/cython"}
            wanted = getattr(cnnfast, f"{name}{rank}d")(
                x, weight, bias, stride, padding, dilation=dilation, groups=groups, **more
            )
            out = np.full_like(wanted, np.nan)
            call = getattr(every, f"{name}{rank}d_{dtype}_")
            assert call(x, weight, bias, out, *steps) == 0
            assert np.array_equal(out, wanted), (name, rank, dtype, steps)
            # Extents that don't belong together, in one array after the other.
            assert call(x, weight, bias, out[:, :, 1:], *steps) == -8
            assert call(x, weight, bias, out[:1], *steps) == -8
            assert call(x, weight[:, :1], bias, out, *steps) == -8
            assert call(x, weight[1:], bias, out, *steps) == -8
            assert call(x, weight, bias, out, 0, 0, 1, 1) == -3
            assert call(x[:0], weight, bias, out[:0], *steps) == 0
    wanted, places = getattr(cnnfast, f"max_pool{rank}d")(x, 3, 2, 1, return_indices=True)
    out, indices = np.full_like(wanted, np.nan), np.full(wanted.shape, -7)
    call = getattr(every, f"max_pool{rank}d_{dtype}_")
    assert call(x, out, indices, 3, 2, 1) == 0
    assert np.array_equal(out, wanted) and np.array_equal(indices, places)
    assert call(x, out, indices[:, :, 1:], 3, 2, 1) == 3 * -8
    wanted = getattr(cnnfast, f"avg_pool{rank}d")(x, 3, 2, 1, count_include_pad=False)
    out = np.full_like(wanted, np.nan)
    call = getattr(every, f"avg_pool{rank}d_{dtype}_")
    assert call(x, out, 3, 2, 1) == 0
    assert np.array_equal(out, wanted)
    assert call(x, out[:, 1:], 3, 2, 1) == -8
    assert call(x, out, 3, 2, 2) == -4
print("all")
"""


@pytest.fixture(scope="module")
def built(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files and extensions built against the installed wheel."""
    folder = tmp_path_factory.mktemp("other people's code")
    for name, text in files_of_the_page().items():
        (folder / name).write_text(text)
    (folder / "every.pyx").write_text(every_function())
    setup = (folder / "setup.py").read_text()
    setup = setup.replace("cythonize([stage])", "cythonize([stage, every], nthreads=2)").replace(
        "blur = Ext",
        'every = Extension("every", ["every.pyx"], extra_compile_args=["-fopenmp"], '
        'extra_link_args=["-fopenmp"])\nblur = Ext',
    )
    (folder / "with_every.py").write_text(setup)
    run(
        sys.executable, "-P", "with_every.py", "build_ext", "--inplace", "--parallel", "2",
        cwd=folder, PYTHONPATH=str(installed), CFLAGS="-O0 -Wno-unused-function",
    )  # fmt: skip
    return folder


def run_in(folder: Path, installed: Path, *arguments: str) -> str:
    path = f"{installed}:{folder}"
    command = (sys.executable, "-P", "-W", "error", *arguments)
    return run(*command, cwd=folder, PYTHONPATH=path).stdout


def test_the_pages_extensions_do_what_the_page_shows(built: Path, installed: Path) -> None:
    assert run_in(built, installed, "use.py") == shown_behind("use.py")
    where = "import cnnfast, stage, blur; print(cnnfast.__file__, cnnfast.get_include())"
    package, include = run_in(built, installed, "-c", where).split()
    assert Path(package).is_relative_to(installed)
    assert Path(include, "cnnfast.h").is_file()


def test_every_function_of_memoryviews(built: Path, installed: Path) -> None:
    assert run_in(built, installed, "-c", USE_EVERY_FUNCTION) == "all\n"


@pytest.mark.parametrize("name", ["with_numba.py", "with_ctypes.py"])
def test_the_pages_pointers_do_what_the_page_shows(name: str, tmp_path: Path) -> None:
    if name == "with_numba.py":
        pytest.importorskip("numba", reason="Numba isn't installed")
    (tmp_path / name).write_text(files_of_the_page()[name])
    done = run(sys.executable, "-W", "error", name, cwd=tmp_path)
    assert done.stdout == shown_behind(name)


def test_the_pages_cast_for_cffi() -> None:
    cffi = pytest.importorskip("cffi", reason="cffi isn't installed")
    import numpy as np

    from cnnfast.kernels.cython_cpu import pool

    from c_pointers import POOL_FIELDS, Struct

    (signature,) = re.findall(r'ffi\.cast\("(.*?)"', PAGE.read_text())
    prototype = function(pool, "avg_pool_float64", ctypes.c_int)
    address = ctypes.cast(prototype, ctypes.c_void_p).value
    ffi = cffi.FFI()
    call = ffi.cast(signature, address)
    x, out = np.ones((1, 1, 1, 4, 4)), np.zeros((1, 1, 1, 2, 2))
    shape = Struct(POOL_FIELDS, h=4, w=4, r=2, s=2, stride_h=2, stride_w=2, count_include_pad=1)
    ints = shape.ints
    pointers = (ffi.from_buffer("int64_t[]", ints), ffi.NULL)
    arrays = ffi.from_buffer("double[]", x), ffi.from_buffer("double[]", out)
    assert call(*pointers, *arrays, 1, ffi.NULL) == 0
    assert (out == 1).all()


def fields_of(body: str) -> list[str]:
    """The members of a struct in order, whatever the language."""
    return re.findall(r"\b([a-z]\w*)(?:\[5\])?(?=[,;\n]|$)", body)


def test_the_header_is_as_the_pxd() -> None:
    folder = ROOT / "kernels"
    header = (folder / "include" / "cnnfast.h").read_text()
    texts = {
        name: (folder / "cython_cpu" / f"{name}.pxd").read_text()
        for name in ("conv", "pool", "status")
    }
    codes = re.findall(r"(CNNFAST_\w+) = (-?\d+)", texts["status"])
    header_codes = re.findall(r"(CNNFAST_\w+) = (-?\d+)", header)
    header_codes += re.findall(r"#define (CNNFAST_API_VERSION) (\d+)", header)
    assert sorted(codes) == sorted(header_codes)
    for name, fields in (("conv", [*CONV_FIELDS]), ("pool", [*POOL_FIELDS])):
        for kind in ("shape", "strides"):
            struct = f"cdef struct {name.title()}{kind.title()}:"
            ours = fields_of(texts[name].partition(struct)[2].partition("\n\n")[0])
            before = header.partition(f"}} cnnfast_{name}_{kind};")[0]
            assert fields_of(before.rpartition("typedef struct {")[2]) == ours != []
            assert kind == "strides" or ours == fields
    declared = re.findall(r"FUNCTION\([\w\s*]+?, (\w+),.*, (conv|pool)\)", header)
    for name, module in declared:
        assert re.search(rf"^cdef [\w *]*\b{name}\(", texts[module], re.MULTILINE), name
    assert len(declared) == 15


@pytest.mark.parametrize("standard", ["c99", "c++11"])
def test_the_header_is_c_and_cpp_without_warnings(standard: str, tmp_path: Path) -> None:
    compiler = shutil.which("g++" if "++" in standard else "gcc")
    if compiler is None:
        pytest.skip("there is no such compiler of GNU's")
    source = tmp_path / ("use.cpp" if "++" in standard else "use.c")
    source.write_text("#include <cnnfast.h>\nint imported(void) { return import_cnnfast(); }\n")
    run(
        compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c", source,
        "-isystem", sysconfig.get_path("include"), "-I", ROOT / "kernels" / "include",
        "-o", tmp_path / "use.o", cwd=tmp_path,
    )  # fmt: skip


def test_get_include_names_the_headers_folder() -> None:
    import cnnfast

    assert Path(cnnfast.get_include(), "cnnfast.h").is_file()
    assert importlib.util.find_spec("cnnfast.kernels.cython_cpu.conv") is not None
