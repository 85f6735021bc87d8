"""On a machine with a GPU: build against its torch, run the GPU tests, measure, all within twelve minutes.

Each stage has its own share of the time and leaves its outcome in ``gpu.json`` at once, so that a stage that fails or
overruns costs only its own result. Exit status 0 if all stages did.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "heritage_align" / "ops" / "_kernels.so"
OUT = Path(os.environ.get("OUT", ROOT / "benchmarks" / "results"))
# Only these tests and their own conftest: such a machine has neither hypothesis nor what the plugins need.
TESTS = ["tests/ops/test_cuda_gpu.py", "tests/encoding/test_preparation_gpu.py"]
PYTEST = ["-m", "pytest", "-q", "-m", "gpu", *TESTS, "--confcutdir=tests/ops"]
PYTEST += ["-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
ENCODING = ["benchmarks/pipeline/encode.py", "--goals", "--device", "cuda", "--precision", "fp16", "--batch", "128"]
ENCODING += ["--rounds", "3", "--pictures", "64", "--output", str(OUT / "encode-gpu.json")]
QUERY = ["benchmarks/pipeline/query.py", "--device", "cuda", "--rounds", "9", "--out", str(OUT / "query-gpu.json")]
STAGES: list[tuple[str, list[str], int]] = [
    ("build", ["setup.py", "-q", "build_ext", "--inplace"], 130),
    ("tests", [*PYTEST, "-o", "timeout=0"], 110),
    ("benchmark", ["benchmarks/kernels/run.py", "--device", "cuda", "--limit", "200", "--out", str(OUT)], 240),
    ("encoding", ENCODING, 120),
    ("query", QUERY, 150),
]
# What the last two stages import beyond torch, numpy and Pillow; without them they are left out.
PACKAGES = ("cn_clip", "torchvision", "pydantic", "pluggy", "yaml", "packaging")


def run(command: list[str], limit: int) -> dict[str, object]:
    """Run one stage with a limit in seconds; its output goes to the terminal and its end into the result."""
    begin = time.perf_counter()
    environment = {
        **os.environ,
        "HERITAGE_ALIGN_BUILD": "cuda",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
        "PYTHONUNBUFFERED": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, timeout=limit, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        status, output = 124, late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
    print(output, flush=True)
    return {"status": status, "seconds": round(time.perf_counter() - begin, 1), "output": output[-8000:]}


def main() -> int:
    """Run the stages in order; without a build there is nothing to test."""
    OUT.mkdir(parents=True, exist_ok=True)
    outcome: dict[str, object] = {}
    worst = 0
    for name, command, limit in STAGES:
        if name == "build" and shutil.which("nvcc") is None and KERNELS.exists():
            print("== build: no nvcc here, the kernels that are there serve", flush=True)
            continue
        if name in ("encoding", "query") and (
            absent := [package for package in PACKAGES if find_spec(package) is None]
        ):
            print(f"== {name}: left out, there is no {', '.join(absent)}", flush=True)
            continue
        print(f"== {name} (at most {limit} s)", flush=True)
        result = run([*command, *sys.argv[1:]] if name == "benchmark" else command, limit)
        outcome[name] = result
        (OUT / "gpu.json").write_text(json.dumps(outcome, indent=1) + "\n")
        worst = worst or int(str(result["status"]))
        if name == "build" and result["status"] != 0:
            break
    return worst


if __name__ == "__main__":
    sys.exit(main())
