"""The emulation itself: a kernel that follows the PTX manual comes out right, one that breaks a rule of it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

EMULATION = Path(__file__).parent / "emulation"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    made = tmp_path_factory.mktemp("rules") / "rules"
    sources = [str(EMULATION / "rules.cpp"), str(EMULATION / "cuda_emulation.cpp")]
    flags = ["-std=c++17", "-O1", "-U_FORTIFY_SOURCE", "-Wno-unknown-pragmas", f"-I{EMULATION}"]
    subprocess.run([compiler, *flags, *sources, "-o", str(made)], check=True)
    return made


def run(program: Path, rule: str) -> str:
    return subprocess.run([program, rule], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_a_kernel_that_breaks_no_rule(program: Path) -> None:
    assert run(program, "none") == "right"


@pytest.mark.parametrize(
    "rule",
    [
        "wait for operands",
        "wait for the right phase",
        "publish writes",
        "keep operands while they are read",
        "wait for products",
        "wait for copies",
        "meet before reading what others brought",
        "meet before writing what others read",
        "keep what is read until all have read it",
        "meet before a room is used again",
    ],
)
def test_a_broken_rule_gives_wrong_numbers(rule: str, program: Path) -> None:
    assert run(program, rule) == "wrong"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("publish barriers", "a copy tells a barrier that was not published"),
        ("fence before products", "a product without a fence since the last wait"),
        ("announce all bytes", "a thread waits in a loop for what never comes"),
        ("wait for all copies", "a block ends while the copy engine still writes to it"),
        ("let all threads meet", "threads wait for partners that never come"),
        ("meet in whole warps", "a named barrier of no whole number of warps"),
        ("copy no more than there is", "a background copy of less than nothing or more than its size"),
    ],
)
def test_a_broken_rule_ends_the_launch(rule: str, message: str, program: Path) -> None:
    assert run(program, rule).startswith(f"CUDA emulation: {message} (block 0, thread ")
