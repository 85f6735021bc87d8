"""Measure the kernels against their peers: ``python benchmarks/kernels/run.py [--device cuda] [--seconds 10]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from heritage_align.bench import run_benchmark  # noqa: E402 (the package need not be installed)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="per case")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    run_benchmark(arguments.device, seconds=arguments.seconds, out=arguments.out)
