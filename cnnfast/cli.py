"""The command line: ``cnnfast demo | slide | train | bench | explain | info``.

Exit status 0 for success, 1 for a wrong result, a missing extra or a file that can't be written,
2 for bad usage, 130 if Ctrl-C stopped it.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cnnfast
from cnnfast._core.extras import EXTRAS
from cnnfast.inspection import operations
from cnnfast.kernels import KERNELS
from cnnfast.kernels.registry import row_missing


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser(words).parse_args(words)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"cnnfast: {error.name} is missing: pip install 'cnnfast[{extra}]'", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has gone (``cnnfast info | head``); nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("cnnfast: stopped", file=sys.stderr)
        return 130
    except (ValueError, TypeError, cnnfast.BackendUnavailableError) as error:
        print(f"cnnfast: {error}", file=sys.stderr)
        return 2
    return status


def _parser(words: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cnnfast", description="Convolution and pooling for NumPy.")
    parser.add_argument("--version", action="version", version=f"cnnfast {cnnfast.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    demo = commands.add_parser("demo", help="a photograph through every backend: table and picture")
    _add_photo(demo, "demo.png")
    demo.set_defaults(run=_demo)
    slide = commands.add_parser("slide", help="a classifier of patches over a whole photograph")
    _add_photo(slide, "slide.png")
    slide.set_defaults(run=_slide)
    train = commands.add_parser("train", help="LeNet-5 on handwritten digits")
    if words[:1] == ["train"]:
        from cnnfast.training import command as training

        training.add_arguments(train)
    bench = commands.add_parser("bench", help="every backend and installed library, side by side")
    if words[:1] == ["bench"]:  # the other commands don't pay for its imports
        from cnnfast.benchmarks import command

        command.add_arguments(bench)
        bench.set_defaults(run=command.run)
    explain = commands.add_parser("explain", help="what a layer would run on, and why")
    _add_explain(explain)
    info = commands.add_parser("info", help="versions, settings, and the kernels that are here")
    info.set_defaults(run=_info)
    return parser


def _add_photo(parser: argparse.ArgumentParser, picture: str) -> None:
    parser.add_argument(
        "image", nargs="?", default="china", help="a file, or china (default) or flower"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help=f"folder of {picture} (out)")
    parser.add_argument("--threads", type=int, help="threads (default: the cores of this process)")


def _demo(arguments: argparse.Namespace) -> int:
    from cnnfast import demo

    cnnfast.set_num_threads(arguments.threads)
    photo = demo.load_photo(arguments.image)
    _make_folder(arguments.out)
    return demo.run(photo, arguments.out, cnnfast.get_num_threads())


def _slide(arguments: argparse.Namespace) -> int:
    from cnnfast.demo import load_photo, slide

    cnnfast.set_num_threads(arguments.threads)
    photo = load_photo(arguments.image)
    _make_folder(arguments.out)
    return slide.run(photo, arguments.out)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"can't make the folder {path}: {error.strerror}") from None


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(extent) for extent in text.split(","))
    except ValueError:
        message = f"a shape is integers and commas, such as 1,64,56,56, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _padding(text: str) -> Any:
    return text if text.isidentifier() else _shape(text)


def _explained() -> list[str]:
    """Functions of an input and a second size: a weight, a window, or an output's."""
    seconds = ("weight", "kernel_size", "output_size")
    return [
        name
        for name, function in operations().items()
        if (parameters := list(inspect.signature(function).parameters))[0] == "input"
        and parameters[1] in seconds
    ]


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("op", choices=_explained())
    parser.add_argument("input", type=_shape, help="its shape, such as 1,64,56,56")
    parser.add_argument(
        "weight",
        type=_shape,
        help="its shape, such as 64,64,3,3; pools: the window, or output size",
    )
    parser.add_argument("--stride", type=_shape)
    parser.add_argument("--padding", type=_padding, help="numbers, valid, same, same_upper, ...")
    parser.add_argument("--dilation", type=_shape)
    parser.add_argument("--groups", type=int)
    parser.add_argument("--layout")
    parser.add_argument("--weight-layout")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--backend")
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    given = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("op", "input", "weight", "run") and value is not None
    }
    found = cnnfast.explain(arguments.op, arguments.input, arguments.weight, **given)
    print(found)
    print(_roofline(found))
    return 0


def _roofline(found: cnnfast.Explanation) -> str:
    """The least time that the measured machine allows."""
    from cnnfast.benchmarks import machine

    peak, bandwidth = machine.fma_peak(found.geometry.dtype.name), machine.copy_bandwidth()
    if peak is None:
        return "  roofline unknown: no compiled engine is here to measure the machine with"
    seconds = found.roofline_seconds(peak * found.threads, bandwidth)
    bound = (
        "arithmetic"
        if found.flops * bandwidth > found.bytes_moved * peak * found.threads
        else "memory"
    )
    return (
        f"  roofline {seconds * 1e3:.3g} ms at {peak * found.threads / 1e9:.0f} GFLOP/s and "
        f"{bandwidth / 1e9:.0f} GB/s as measured here: bound by {bound}"
    )


def _info(arguments: argparse.Namespace) -> int:
    print(cnnfast.show_config())
    print()
    width = max(len(row.name) for row in KERNELS)
    for row in KERNELS:
        dtypes = ", ".join(row.dtypes)
        print(f"{row.family:<6} {row.name:<{width}} {row_missing(row) or dtypes}")
    return 0
