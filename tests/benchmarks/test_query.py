"""The benchmark of a query runs, checks its scores, and judges the goals of what it could measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pipeline" / "query.py"


def test_it_measures_every_stage(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "query.json"
    command = [sys.executable, SCRIPT, "--model", tiny_checkpoint, "--out", out, "--stores", tmp_path / "stores"]
    sizes = ["--rows", "40", "--regions", "5", "--candidates", "12", "--rounds", "3"]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    stages = report["cases"]["laclip by text"]["stages"]
    assert set(stages) == {"text", "first stage", "rerank", "candidates", "kernel", "regions", "whole", "search"}
    assert all(0 < times["p50"] <= times["p95"] for name, times in stages.items() if name != "candidates")
    verdicts = {goal["goal"]: goal["verdict"] for goal in report["goals"]}
    assert [verdict != "not measured" for verdict in verdicts.values()] == [True, True, False, False]
    assert {"ours", "torch, gather and score"} <= set(report["maxsim_rerank"]["times"])
    assert report["commit"] != "unknown"
