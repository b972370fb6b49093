"""What pyproject.toml can't declare: where the packages lie, and how the Cython rows are built.

``kernels/`` and ``benchmarks/`` install as ``cnnfast.kernels`` and ``cnnfast.benchmarks``. Cython
resolves ``cimport cnnfast.kernels...`` by folders and knows nothing of that mapping, so the kernels
are copied into a tree that has the installed names, ``build/cython/``, and translated there: no C
file ever appears among the sources. ``CNNFAST_NO_EXTENSIONS=1`` builds without the Cython rows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

ROOT = Path(__file__).resolve().parent
STAGE = Path("build", "cython")
MAPPED = {"cnnfast.kernels": "kernels", "cnnfast.benchmarks": "benchmarks"}

#: Contraction into fused multiply-adds is meant, and NaN, infinities and the order of sums count;
#: integers wrap around as NumPy's do. Vectors are passed within a file alone: no note on that.
COMPILE_ARGS = ["-O3", "-ffp-contract=fast", "-fwrapv", "-g0", "-Wno-psabi"]
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}
#: What the kernels ask of a compiler: Python's headers and vector types.
PROBE = """
#include <Python.h>
typedef float vector __attribute__((vector_size(32)));
void twice(vector *x) { *x += *x; }
"""


def packages() -> list[str]:
    """Every package under its installed name."""
    found = find_packages(str(ROOT), include=["cnnfast", "cnnfast.*"])
    for name, folder in MAPPED.items():
        below = find_packages(str(ROOT), include=[folder, f"{folder}.*"])
        found += [name + package.removeprefix(folder) for package in below]
    return found


def extensions() -> list[Extension]:
    """An extension per .pyx file of the kernels, or none if they aren't wanted."""
    if os.environ.get("CNNFAST_NO_EXTENSIONS", "0") not in ("", "0"):
        return []
    import numpy

    folder = Path("kernels", "cython_cpu")
    headers = [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).glob("*.h"))]
    return [
        Extension(
            f"cnnfast.kernels.cython_cpu.{path.stem}",
            [str(folder / path.name)],
            depends=headers,
            include_dirs=[numpy.get_include()],
            define_macros=[("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")],
            extra_compile_args=COMPILE_ARGS,
        )
        for path in sorted((ROOT / folder).glob("*.pyx"))
    ]


def stage_sources() -> None:
    """Copy what Cython reads into the tree of installed names; unchanged files keep their times."""
    for pattern in ("cnnfast/__init__.py", *(f"kernels/**/*.{end}" for end in ("pyx", "pxd", "h"))):
        for source in ROOT.glob(pattern):
            path = source.relative_to(ROOT)
            copy = STAGE / ("cnnfast" if path.parts[0] == "kernels" else "") / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists() or copy.stat().st_mtime != source.stat().st_mtime:
                shutil.copy2(source, copy)
    for folder in ("kernels", "kernels/cython_cpu"):
        (STAGE / "cnnfast" / folder / "__init__.py").touch()


class BuildExtensions(build_ext):
    """``build_ext`` that translates from the staged tree, after a look at the compiler, and
    compiles on all cores."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self) -> None:
        self.try_compiler()
        from Cython.Build import cythonize

        stage_sources()
        translated = cythonize(
            [
                Extension(ext.name, [str(STAGE.joinpath(*ext.name.split(".")).with_suffix(".pyx"))])
                for ext in self.extensions
            ],
            include_path=[str(STAGE)],
            compiler_directives=DIRECTIVES,
        )
        for ext, made in zip(self.extensions, translated, strict=True):
            ext.sources = made.sources
        super().build_extensions()

    def try_compiler(self) -> None:
        """Fail in one line if there is no compiler that can build the kernels."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(PROBE)
            try:
                self.compiler.compile([str(source)], folder, include_dirs=self.include_dirs)
            except (CCompilerError, ExecError, OSError):
                command = getattr(self.compiler, "compiler_so", None) or [
                    self.compiler.compiler_type
                ]
                raise PlatformError(
                    f"cnnfast's kernels need GCC or Clang and Python's headers, and {command[0]!r} "
                    "could not compile a test file; install them, or set CNNFAST_NO_EXTENSIONS=1 "
                    "to go without the Cython kernels"
                ) from None


setup(
    packages=packages(),
    package_dir={"cnnfast": "cnnfast", **MAPPED},
    package_data={"": ["py.typed", "*.pxd", "*.h", "include/*.h", "*.toml"]},
    include_package_data=False,
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExtensions},
)
