"""The wheel made from the sdist: one for every Python, with kernels that run where torch and numpy are all there is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.slow

KERNELS = """
import importlib.util
import torch
from heritage_align import ops
torch.manual_seed(0)
images = ops.Ragged(torch.randn(70, 32), torch.tensor([0, 36, 70]))
texts = ops.Ragged(torch.randn(9, 32), torch.tensor([0, 4, 9]))
for score, first, second in (
    (ops.focal_attention_score, images, texts),
    (ops.maxsim_score, texts, images),
    (ops.patch_weighted_score, texts.values, images),
):
    compiled = score(first, second, backend="cpu")
    torch.testing.assert_close(compiled, score(first, second, backend="reference"), atol=1e-5, rtol=1e-5)
rows = images.values.clone().requires_grad_()
ops.focal_attention_score(ops.Ragged(rows, images.offsets), texts, backend="cpu").sum().backward()
assert rows.grad.abs().sum() > 0
absent = [name for name in ("click", "pydantic", "pluggy", "yaml", "PIL") if importlib.util.find_spec(name) is None]
print(ops.__file__, len(absent), ops.build_info().cpu)
"""


def test_the_tag_names_no_python_and_nothing_inside_needs_one(wheel: Path) -> None:
    assert wheel.name.split("-")[2:4] == ["py3", "none"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [name for name in names if name.endswith((".so", ".pyd"))] == ["heritage_align/ops/_kernels.so"]
    assert [name for name in names if name.startswith(("tests/", "build_backend/", "csrc/"))] == []
    for kept in (
        "heritage_align/py.typed",
        "heritage_align/recipes/scan.yaml",
        "heritage_align/report/templates/page.css",
    ):
        assert kept in names


def test_kernels_run_where_torch_and_numpy_are_all_there_is(
    run: Run, wheel: Path, environment: Callable[..., Path], tmp_path: Path
) -> None:
    python = environment("torch", "numpy")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    installed = run(*pip, wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    done = run(python, "-W", "error", "-c", KERNELS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    place, absent, built = done.stdout.split()
    assert Path(place).is_relative_to(python.parents[1])
    assert (absent, built) == ("5", "True")
