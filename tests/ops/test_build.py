"""What the build made: symbols, the planner, the fall-backs; and the CUDA sources compile without a GPU."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heritage_align import ops
from heritage_align.ops import planner
from heritage_align.ops.backend import LIBRARY, MISSING
from heritage_align.ops.candidates import pairs_by_image

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


@given(lengths_lists, st.integers(1, 64))
def test_bins_hold_every_caption_once_and_do_not_overflow(lengths: list[int], capacity: int) -> None:
    order, starts = planner.first_fit_decreasing(lengths, capacity)
    assert sorted(order) == list(range(len(lengths)))
    assert starts[0] == 0
    assert starts[-1] == len(lengths)
    for first, last in pairwise(starts):
        members = [lengths[item] for item in order[first:last]]
        assert sum(members) <= capacity or len(members) == 1


@given(lengths_lists, st.integers(1, 64))
def test_compiled_planner_equals_python(lengths: list[int], capacity: int) -> None:
    compiled = pytest.importorskip("heritage_align.ops._planner")
    assert tuple(compiled.first_fit_decreasing(lengths, capacity)) == planner.plain_first_fit_decreasing(
        lengths, capacity
    )


@given(st.lists(st.integers(-1, 4), max_size=40))
def test_pairs_sorted_by_image(ids: list[int]) -> None:
    compiled = pytest.importorskip("heritage_align.ops._planner")
    order, starts = pairs_by_image(torch.tensor(ids, dtype=torch.int64), 5)
    listed, listed_starts = compiled.pairs_by_image(ids, 5)
    assert starts.tolist() == listed_starts
    assert order.tolist()[: listed_starts[-1]] == listed
    assert [ids[position] for position in listed] == sorted(i for i in ids if i >= 0)


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
