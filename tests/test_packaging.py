"""What is built and what is in it: sdist, wheel, the wheel without extensions, no compiler."""

from __future__ import annotations

import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from building import ROOT, run

pytest.importorskip("build", reason="build, of the test extra, isn't installed")


pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="the sources aren't here: the tests run elsewhere"
)


def size_of(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files)


def names_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_sdist_holds_the_sources_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile",
        "pyproject.toml", "setup.py", "conftest.py", "cnnfast/py.typed",
        "kernels/cython_cpu/_tiled.pyx", "kernels/cython_cpu/_problem.pxd",
        "kernels/cython_cpu/microkernel.h", "tests/conformance.py", "benchmarks/workloads.toml",
        "examples/derivation.py", "docs/derivation/edges.png",
    }  # fmt: skip
    assert wanted <= names
    assert not [name for name in names if re.search(r"\.(c|so|pyc|nbi|nbc)$", name)]


def test_the_wheel_holds_the_package_and_no_c(wheel: Path) -> None:
    names = names_of(wheel)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cnnfast"}
    for wanted in (
        "cnnfast/py.typed",
        "cnnfast/kernels/registry.py",
        "cnnfast/kernels/cython_cpu/_problem.pxd",
        "cnnfast/kernels/cython_cpu/conv.pxd",
        "cnnfast/kernels/cython_cpu/microkernel.h",
        "cnnfast/kernels/include/cnnfast.h",
        "cnnfast/kernels/numba_cpu/tiled.py",
        "cnnfast/benchmarks/workloads.toml",
    ):
        assert wanted in names
    assert [name for name in names if re.match(r"cnnfast/kernels/cython_cpu/_tiled\..*\.so$", name)]
    assert not [name for name in names if name.endswith((".c", ".pyc"))]


def test_the_wheel_imports_and_runs_from_any_folder(installed: Path, tmp_path: Path) -> None:
    code = (
        "import numpy as np, cnnfast; x = np.ones((1, 2, 6, 6), np.float32);"
        "y = cnnfast.conv2d(x, np.ones((3, 2, 3, 3), np.float32), backend='cython');"
        "print(cnnfast.__file__, y[0, 0, 0, 0])"
    )
    done = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    path, value = done.stdout.split()
    assert Path(path).is_relative_to(installed)
    assert value == "18.0"


def test_the_plain_install_is_small(
    installed: Path, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cnnfast and NumPy on disk together stay under 90 MB."""
    import numpy

    site = Path(numpy.__file__).parent.parent
    parts = {
        "cnnfast": [installed / "cnnfast"],
        "numpy": [site / "numpy", *site.glob("numpy.libs")],
    }
    sizes = {name: sum(map(size_of, folders)) for name, folders in parts.items()}
    with capsys.disabled():
        megabytes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
        print(f"\nwheel {wheel.stat().st_size / 1e6:.2f} MB; installed: {megabytes}")
    assert sum(sizes.values()) < 90e6


def test_without_extensions(sources: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sources"
    shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("dist"))
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        cwd=copy,
        CNNFAST_NO_EXTENSIONS="1",
    )
    wheel = next((copy / "dist").glob("*.whl"))
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in names_of(wheel) if name.endswith(".so")]
    target = tmp_path / "installed"
    run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--target", target, wheel, cwd=tmp_path
    )
    code = (
        "import numpy as np, cnnfast; x = np.ones((1, 1, 4, 4));"
        "print(cnnfast.conv2d(x, x[:, :, :2, :2], backend='numpy').sum());"
        "cnnfast.conv2d(x, x, backend='cython')"
    )
    done = run(sys.executable, "-P", "-c", code, cwd=tmp_path, check=False, PYTHONPATH=str(target))
    assert done.stdout.strip() == "36.0"
    assert "reinstall cnnfast with a C compiler and without CNNFAST_NO_EXTENSIONS" in done.stderr


def test_without_a_compiler_the_build_fails_in_one_clear_line(
    sources: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "sources"
    shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("dist"))
    done = run(sys.executable, "setup.py", "build_ext", cwd=copy, check=False, CC="/no/such/cc")
    assert done.returncode != 0
    assert re.search(r"^error: .*'/no/such/cc'.*CNNFAST_NO_EXTENSIONS=1", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
