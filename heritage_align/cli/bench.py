"""``heritage-align bench``: the kernels against their peers on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from heritage_align.cli.options import FileOrFolder
from heritage_align.errors import ConfigError


@click.command(name="bench")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to run.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=None,
    help="Time for each case.  [default: 10 on the CPU, 1.5 on a GPU, with --quick 2 and 0.5]",
)
@click.option("--quick", is_flag=True, help="Only the cases that a goal is about, without torch.compile.")
@click.option(
    "--out",
    type=FileOrFolder(),
    default="benchmarks/results",
    show_default=True,
    help="Folder for the JSON and the plot.",
)
def command(device: str, seconds: float | None, quick: bool, out: Path) -> None:
    """Time the kernels against their peers: parity first, then all in turn; ratios of one run.

    Prints every case, then one table with the goals; writes one JSON with hardware, versions and commit, and on the CPU
    a plot of cost against the number of images. Ends with status 1 if a case failed.

    Example: heritage-align bench --quick --out bench-output
    """
    import torch

    from heritage_align.bench import run_benchmark

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError([f"--device cuda: torch {torch.__version__} finds no GPU; use cpu"], "bench")
    if run_benchmark(device, seconds=seconds, quick=quick, out=out)["failed"]:
        raise SystemExit(1)
