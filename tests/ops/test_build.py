"""What the build made: symbols, the planner, the fall-backs; and the CUDA sources compile without a GPU."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heritage_align import ops
from heritage_align.ops import planner
from heritage_align.ops.backend import LIBRARY, MISSING

ROOT = Path(__file__).parents[2]
built = pytest.mark.skipif(not LIBRARY.exists(), reason="the kernels are not built")


@built
def test_library_uses_the_stable_abi_alone() -> None:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(LIBRARY)], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in listed.stdout.splitlines()]
    shims = [name for name in names if name.startswith(("aoti_torch_", "torch_"))]
    assert shims, "the library calls torch through its C shims"
    foreign = [name for name in names if re.search(r"c10|_ZN2at|_ZNK2at|_ZN5torch|_ZNK5torch|pybind|_Py", name)]
    assert foreign == []


@built
def test_facts_say_what_was_built() -> None:
    facts = ops.build_info()
    assert facts.cpu
    assert facts.torch
    assert facts.target == "2.10"
    assert facts.cuda or facts.cuda_reason


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    full = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=full, cwd=ROOT, check=False)


def test_without_a_library_the_reference_runs_and_says_so_once(tmp_path: Path) -> None:
    package = tmp_path / "heritage_align"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copytree(ROOT / "heritage_align" / "ops", package / "ops", ignore=shutil.ignore_patterns("*.so", "*.json"))
    code = """
import warnings, torch
warnings.simplefilter("always")
from heritage_align import ops
rows = ops.Ragged(torch.eye(4), torch.tensor([0, 4]))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        print(ops.maxsim_score(rows, rows).item())
print([str(w.message)[:60] for w in caught])
try:
    ops.maxsim_score(rows, rows, backend="cpu")
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env={"PATH": ""}
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["4.0", "4.0", "4.0"], done.stderr
    assert lines[3] == "['heritage_align.ops: no compiled cpu kernels, the slow refere']"
    assert lines[4].startswith("backend 'cpu' is not available: the extension has not been built")


def test_build_none_installs_without_kernels(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path)]
    environment = {**os.environ, "HERITAGE_ALIGN_BUILD": "none"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "heritage_align" / "ops" / "_build_info.json").read_text())
    assert facts["reason"] == "HERITAGE_ALIGN_BUILD=none"
    assert not list(tmp_path.rglob("*.so"))


def test_unknown_cpu_level_is_named() -> None:
    if MISSING["cpu"] is not None:
        pytest.skip(f"no CPU kernels: {MISSING['cpu']}")
    code = (
        "import torch; from heritage_align import ops; r = ops.Ragged(torch.eye(2), torch.tensor([0, 2]));"
        "ops.maxsim_score(r, r)"
    )
    done = run_python(code, HERITAGE_ALIGN_CPU_LEVEL="mmx")
    assert "HERITAGE_ALIGN_CPU_LEVEL=mmx is none of what runs here" in done.stderr


lengths_lists = st.lists(st.integers(0, 100), max_size=60)


def one_by_one(lengths: list[int], capacity: int) -> tuple[list[int], list[int]]:
    """First fit, longest first, item by item, as it is defined."""
    bins: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        used = [sum(lengths[other] for other in members) for members in bins]
        found = [b for b in range(len(bins)) if used[b] <= capacity and used[b] + lengths[item] <= capacity]
        if found:
            bins[found[0]].append(item)
        else:
            bins.append([item])
    return [item for members in bins for item in members], [0, *accumulate(map(len, bins))]


@given(lengths_lists, st.integers(1, 64))
def test_bins_are_those_of_first_fit(lengths: list[int], capacity: int) -> None:
    order, starts = planner.first_fit_decreasing(np.array(lengths, dtype=np.int64), capacity)
    assert (order.tolist(), starts.tolist()) == one_by_one(lengths, capacity)
    for first, last in pairwise(starts):
        members = [lengths[item] for item in order[first:last]]
        assert sum(members) <= capacity or len(members) == 1


@pytest.mark.cuda_build
def test_cuda_sources_compile_without_a_gpu(cuda_build: Path) -> None:
    facts = json.loads((cuda_build / "_build_info.json").read_text())
    assert facts["cuda"] is True
    assert facts["cuda_targets"] == ["sm_80", "sm_90a", "compute_90"]
    code = (
        f"import torch; torch.ops.load_library({str(cuda_build / '_kernels.so')!r});"
        "print(all(torch._C._dispatch_has_kernel_for_dispatch_key('heritage_align::' + op, 'CUDA') for op in"
        " ('focal_attention', 'patch_weighted', 'maxsim', 'fold_patches', 'triangular_factor')))"
    )
    loaded = run_python(code)
    assert loaded.stdout == "True\n", loaded.stderr
