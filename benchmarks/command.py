"""The options of ``cnnfast bench``, and which of its comparisons they choose."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnfast.benchmarks import (
    compare,
    forward,
    gpu,
    gradients,
    memory,
    sliding,
    training,
    versus,
    workloads,
)
from cnnfast.benchmarks.drop_ins import command as drop_ins

#: Option -> what runs instead of the comparison of all rows, and what that is.
MODES = {
    "peers": (versus.run, "the default backend beside the best other library, and the bars"),
    "gradients": (gradients.run, "gradients of convolutions, compared with their forward pass"),
    "memory": (memory.run, "scratch of the default backend on the large layers"),
    "sliding": (sliding.run, "a classifier over a large image in one pass, and over all its crops"),
    "training": (training.run, "LeNet-5's training step beside torch's"),
    "gpu": (gpu.bench, "every row on a GPU, checked, and timed beside torch's cuDNN"),
    "drop-ins": (drop_ins.run, "the drop-ins beside what they replace"),
    "models": (forward.run, "forward passes of models beside torch's"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``cnnfast bench``."""
    modes = parser.add_mutually_exclusive_group()
    for name, (run_mode, what) in MODES.items():
        modes.add_argument(
            f"--{name}", action="store_const", dest="mode", const=run_mode, help=f"instead: {what}"
        )
    parser.add_argument(
        "--layers",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"layers by name or tag ({', '.join(workloads.tags())}); all by default "
        f"(but those tagged long without --peers); with --drop-ins: {', '.join(drop_ins.SUITES)}",
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[], metavar="N", help="numbers of threads"
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=("float32", "float64"),
        default=[],
        help="dtypes to run the layers in; by default each in its own",
    )
    parser.add_argument(
        "--backends",
        nargs="+",
        default=[],
        metavar="NAME",
        help="parts of names, such as tiled, cython, default, torch; all by default",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"per backend and layer, about (default {compare.SECONDS}, with --peers "
        f"{versus.SECONDS}); with --gpu in all (default {gpu.SECONDS:g})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--png", type=Path, metavar="FILE", help="with --peers: write a roofline")
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help="with --peers or --drop-ins: replace their tables in FILE",
    )
    parser.set_defaults(mode=compare.run)


def run(args: argparse.Namespace) -> int:
    """Run what was chosen; ValueError for bad values."""
    if args.png and args.mode is not versus.run:
        raise ValueError("--png goes with --peers")
    if args.readme and args.mode not in (versus.run, drop_ins.run):
        raise ValueError("--readme goes with --peers or --drop-ins")
    if args.mode is not compare.run and args.backends:
        raise ValueError("--backends doesn't go with --peers and other kinds of benchmark")
    status: int = args.mode(args)
    return status
