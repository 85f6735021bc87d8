"""nvcc takes every CUDA source for every target, and no kernel keeps its accumulators in slow memory."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CUDA = ROOT / "csrc" / "cuda"
INCLUDE = Path(torch.__file__).parent / "include"
TARGETS = {
    "sm_80": "-gencode=arch=compute_80,code=sm_80",
    "sm_90a": "-gencode=arch=compute_90a,code=sm_90a",
    "compute_90": "-gencode=arch=compute_90,code=compute_90",
}
FLAGS = [
    "-O3",
    "-std=c++17",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC",
    "-Xptxas=-v",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",
]
HEADERS = [f"-I{INCLUDE}", f"-I{INCLUDE}/torch/csrc/api/include"]

pytestmark = [pytest.mark.cuda_build, pytest.mark.slow]


def nvcc() -> str:
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = shutil.which("nvcc") or shutil.which(f"{home}/bin/nvcc")
    if found is None:
        pytest.skip("no nvcc: set CUDA_HOME")
    return found


def compile_report(compiler: str, source: Path) -> str:
    """What ptxas says of a source. Kept with the object in build/cuda_check until a source changes."""
    inputs = [path.read_bytes() for path in sorted([*CUDA.iterdir(), *(ROOT / "csrc").rglob("*.h")])]
    digest = hashlib.sha256(b"".join([*inputs, source.name.encode(), torch.__version__.encode()])).hexdigest()[:16]
    report = ROOT / "build" / "cuda_check" / f"{source.stem}-{digest}.txt"
    if not report.exists():
        report.parent.mkdir(parents=True, exist_ok=True)
        command = [
            compiler,
            *FLAGS,
            *TARGETS.values(),
            *HEADERS,
            "-c",
            str(source),
            "-o",
            str(report.with_suffix(".o")),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        report.write_text(done.stdout + done.stderr)
    return report.read_text()


def test_every_source_compiles_for_every_target_and_keeps_accumulators_in_registers() -> None:
    compiler = nvcc()
    sources = sorted(CUDA.glob("*.cu"))
    assert sources
    with ThreadPoolExecutor(2) as pool:
        reports = dict(zip(sources, pool.map(lambda source: compile_report(compiler, source), sources)))
    entries = [entry for report in reports.values() for entry in re.split(r"Compiling entry function ", report)[1:]]
    for target in ("sm_80", "sm_90a"):  # the third is not assembled before it meets a GPU
        assert any(f"for '{target}'" in entry for entry in entries)
    for entry in entries:
        stores = re.search(r"(\d+) bytes spill stores", entry)
        assert stores is not None
        # A few values around a call are no loss; 72 or more accumulators of a thread would be 288 bytes.
        assert int(stores.group(1)) <= 64, entry
