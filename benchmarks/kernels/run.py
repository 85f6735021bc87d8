"""Measure the kernels against their peers: ``python benchmarks/kernels/run.py [--device cuda] [--quick]``.

Needs torch and numpy alone; other libraries are measured where they are installed. Exit status 1 if a case failed.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from heritage_align.bench import run_benchmark  # noqa: E402 (the package need not be installed)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, help="per case; by default 10 on the CPU and 1.5 on a GPU")
    parser.add_argument("--quick", action="store_true", help="only the cases of the goals, fewer repeats")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which no further case begins")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    result = run_benchmark(given.device, seconds=given.seconds, quick=given.quick, limit=given.limit, out=given.out)
    sys.exit(1 if result["failed"] else 0)
