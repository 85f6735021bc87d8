"""``heritage-align bench``: the kernels against their peers on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from heritage_align.errors import ConfigError


@click.command(name="bench")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to run.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Time for each case.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="benchmarks/results",
    show_default=True,
    help="Folder for the JSON and the plot.",
)
def command(device: str, seconds: float, out: Path) -> None:
    """Time the kernels against their peers: parity first, then all in turn; ratios of one run.

    Prints one table with the bare matrix product, GB/s against the copy bandwidth of the same process and the goals;
    writes one JSON with hardware and versions, and a plot of cost against the number of images.

    Example: heritage-align bench --seconds 2 --out bench-output
    """
    import torch

    from heritage_align.bench import run_benchmark

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError([f"--device cuda: torch {torch.__version__} finds no GPU; use cpu"], "bench")
    run_benchmark(device, seconds=seconds, out=out)
