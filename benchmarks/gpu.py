"""Everything about the GPU in one call: the card, correctness, times beside cuDNN, overheads.

    python3 benchmarks/gpu.py --json gpu.json --sanitize

It runs from a checkout: where cnnfast isn't installed, a folder of links is made that has the
installed names (``cnnfast/kernels`` is ``kernels/``) and put on Python's path; rows in Cython are
left out. Needed are NumPy, numba, numba-cuda and a CUDA toolkit that it finds; torch is what times
and large layers are compared with, CuPy and pytest (for the tests' cases) are used where they are.

What is compiled is kept until the end, or in CNNFAST_CACHE_DIR for another call if that is set.
Each section runs in a process of its own, which is started again behind an item that hangs or loses
the device, and each has a share of --seconds. The exit status is 1 if anything failed. --dry tries
all of it on tiny layers without a GPU, on the tests' stand-in for the driver.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: What a folder of links has under the names that are installed.
MAPPED = {"kernels": "kernels", "benchmarks": "benchmarks"}
SECONDS = 480.0
#: Section -> module and function that its process calls with a journal and whether it is dry.
RUNS = {
    "machine": "machine:run",
    "conformance": "conformity:run",
    "libraries": "oddities:run",
    "sizes": "real_sizes:run",
    "ceilings": "ceilings:run",
    "times": "contests:run",
    "overhead": "overhead:run",
    "memcheck": "conformity:sweep",
    "racecheck": "conformity:sweep",
}
SANITIZER = "compute-sanitizer"
#: Exit status of the sanitizer where it found something.
FOUND = 97


def main(words: list[str] | None = None) -> int:
    """The script: ``words`` of the command line to an exit status."""
    # Modules here have names of the tests' modules, which are needed.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != ROOT / "benchmarks"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(words)
    if args.section:
        return work(args)
    with importable() as paths:
        return conduct(args, paths)


def bench(args: argparse.Namespace) -> int:
    """``cnnfast bench --gpu``: the script with the options that both have."""
    words = ["--seconds", str(args.seconds or SECONDS)]
    return main(words + (["--json", str(args.json)] if args.json else []))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The script's options."""
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="in all, about (%(default)g)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was found there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument(
        "--sections", nargs="+", choices=list(RUNS), default=[], help="these alone, in this order"
    )
    parser.add_argument(
        "--sanitize", action="store_true", help=f"also a small sweep under {SANITIZER}"
    )
    parser.add_argument(
        "--dry", action="store_true", help="tiny, without a GPU; times mean nothing"
    )
    parser.add_argument("--section", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)


@contextlib.contextmanager
def importable() -> Iterator[list[Path]]:
    """Folders for Python's path with which cnnfast and the tests' modules are found."""
    tests = [ROOT / "tests"] if (ROOT / "tests" / "conformance.py").exists() else []
    try:
        importlib.import_module("cnnfast.benchmarks.on_gpu")
        yield tests
        return
    except ImportError:
        for name in [n for n in sys.modules if n.partition(".")[0] == "cnnfast"]:
            del sys.modules[name]
    with tempfile.TemporaryDirectory(prefix="cnnfast-") as folder:
        package = Path(folder, "cnnfast")
        package.mkdir()
        for path in (ROOT / "cnnfast").iterdir():
            package.joinpath(path.name).symlink_to(path)
        for name, where in MAPPED.items():
            package.joinpath(name).symlink_to(ROOT / where)
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        importlib.import_module("cnnfast.benchmarks.on_gpu")
        yield [Path(folder), *tests]


def work(args: argparse.Namespace) -> int:
    """A section, in the process that was started for it."""
    from cnnfast.benchmarks.on_gpu.journal import Journal
    from cnnfast.kernels.numba_cuda import driver

    reason = driver.missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    journal = Journal(args.journal, args.seconds, lambda: driver.synchronize(0))
    module, _, function = RUNS[args.section].partition(":")
    run = getattr(importlib.import_module(f"cnnfast.benchmarks.on_gpu.{module}"), function)
    run(journal, args.dry)
    return 0


def sections(args: argparse.Namespace) -> list[Any]:
    """What is to run, in the order of importance."""
    from cnnfast.benchmarks.on_gpu.conductor import Section

    tool = shutil.which(SANITIZER) or f"/usr/local/cuda/bin/{SANITIZER}"
    under = [
        (tool, "--tool", name, "--error-exitcode", str(FOUND)) for name in RUNS if "check" in name
    ]
    every = [
        Section("machine", 5, "the card, and every entry compiled and loaded"),
        Section("conformance", 4, "every row on the tests' cases"),
        Section("libraries", 1, "odd inputs, arrays of libraries, streams, graphs"),
        Section("sizes", 4, "every row on layers of real sizes, against float64"),
        Section("ceilings", 0.7, "what the card reaches"),
        Section("times", 6, "every row beside torch's cuDNN"),
        Section("overhead", 0.7, "host time of calls, and memory"),
        *(
            Section(words[2], 2, f"a few cases under {SANITIZER}", words, stall=200.0)
            for words in under
        ),
    ]
    chosen = args.sections or [
        section.name for section in every if args.sanitize or not section.tool
    ]
    by_name = {section.name: section for section in every}
    return [by_name[name] for name in chosen]


def conduct(args: argparse.Namespace, paths: list[Path]) -> int:
    """Run the sections, write and print what they found; 1 if anything failed."""
    from cnnfast.benchmarks.on_gpu import conductor, summary
    from cnnfast.benchmarks.tables import write_json

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="cnnfast-gpu-") as name:
        started = start(args, paths, Path(name))
        for section, result in conductor.conduct(sections(args), started, args.seconds):
            found[section] = result
            # Whatever ends this process later, what was found is there.
            if args.json:
                write_json(args.json, {"words": sys.argv[1:], "sections": found})
    tables = summary.markdown(found)
    if args.markdown:
        args.markdown.write_text(tables + "\n", encoding="utf-8")
    print(f"\n{tables}\n", flush=True)
    for title, lines in (("spills", summary.spills(found)), ("failures", summary.failures(found))):
        print(f"{title}: {len(lines) or 'none'}")
        for line in lines:
            print(f"  {line}")
    return 1 if summary.failures(found) else 0


def start(args: argparse.Namespace, paths: list[Path], folder: Path) -> Any:
    """How the sections' processes are started; in a dry run on the tests' driver."""
    from cnnfast.benchmarks.on_gpu import conductor

    environment = conductor.environment(paths, PYTHONUNBUFFERED="1")
    script = str(Path(__file__).resolve())
    if not args.dry:
        # Compiled for the first time, whatever was compiled before: that is timed, too.
        environment.setdefault("CNNFAST_CACHE_DIR", str(folder / "cache"))
        return conductor.Start(conductor.python(script), environment, folder)
    sys.path.extend(map(str, paths))
    fake = importlib.import_module("fake_cuda")
    command = (*fake.command(script), "--dry")
    return conductor.Start(command, {**fake.environment(), **environment}, folder, patience=8.0)


if __name__ == "__main__":
    sys.exit(main())
