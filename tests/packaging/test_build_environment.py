"""What a build finds, asks for and refuses: torch in the environment, none, no compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
Environment = Callable[..., Path]

FINDS = (
    "import sys; sys.path.insert(0, sys.argv[1]); from installed_torch import installed_torch; print(installed_torch())"
)
# pip leaves an isolated build no more than this of its environment: the Python.
HIDDEN = "import sys; sys.path[:] = [path for path in sys.path if 'site-packages' not in path]; " + FINDS
ASKS = "import sys; sys.path.insert(0, sys.argv[1]); import backend; print(backend.get_requires_for_build_wheel())"


def test_an_isolated_build_finds_the_torch_of_the_environment(
    run: Run, environment: Environment, tmp_path: Path
) -> None:
    python = environment("torch")
    done = run(python, "-c", HIDDEN, ROOT / "build_backend", cwd=tmp_path, HOME=str(tmp_path))
    assert str(python.parents[1]) in done.stdout, done.stderr
    assert torch.__version__ in done.stdout


@pytest.mark.parametrize(
    ("installed", "setting", "asked"),
    [
        ((), "auto", ["torch>=2.10,<3"]),
        ((), "none", []),
        (("torch",), "auto", []),
    ],
)
def test_torch_is_asked_for_where_it_is_needed_and_missing(
    run: Run, environment: Environment, tmp_path: Path, installed: tuple[str, ...], setting: str, asked: list[str]
) -> None:
    python = environment("setuptools", *installed)
    done = run(
        python, "-c", ASKS, ROOT / "build_backend", cwd=_source(tmp_path), HOME=str(tmp_path),
        HERITAGE_ALIGN_BUILD=setting,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == [str(asked)], done.stderr


def test_an_old_torch_is_as_good_as_none(tmp_path: Path, run: Run, environment: Environment) -> None:
    python = environment()
    (site,) = python.parents[1].glob("lib/python3.*/site-packages")
    (site / "torch" / "include").mkdir(parents=True)
    for version, found in (("2.9.1+cu128", "None"), ("2.10.0", "2.10.0")):
        (site / "torch" / "version.py").write_text(f"__version__ = '{version}'\n")
        done = run(python, "-c", FINDS, ROOT / "build_backend", cwd=tmp_path, HOME=str(tmp_path))
        assert found in done.stdout, done.stderr


def test_without_torch_a_build_says_what_to_do(run: Run, environment: Environment, tmp_path: Path) -> None:
    done = _build(run, environment("setuptools", "ninja"), tmp_path, HERITAGE_ALIGN_BUILD="cpu")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("heritage_align: the kernels are built against torch 2.10 or newer")
    assert "pip install torch first" in done.stderr


def test_without_ninja_a_build_says_what_to_do(run: Run, environment: Environment, tmp_path: Path) -> None:
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "g++").symlink_to(str(shutil.which("g++") or shutil.which("true")))
    done = _build(run, environment("setuptools", "torch"), tmp_path, HERITAGE_ALIGN_BUILD="cpu", PATH=str(folder))
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "heritage_align: ninja was not found: pip install ninja"


def test_without_a_compiler_the_reference_is_installed_unless_kernels_were_asked_for(
    run: Run, environment: Environment, tmp_path: Path
) -> None:
    python = environment("setuptools", "torch", "ninja")
    done = _build(run, python, tmp_path, PATH="")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "lib" / "heritage_align" / "ops" / "_build_info.json").read_text())
    assert facts["reason"] == "no C++ compiler was found: install g++ 9 or newer"
    done = _build(run, python, tmp_path, PATH="", HERITAGE_ALIGN_BUILD="cpu")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].endswith("was not built: no C++ compiler was found: install g++ 9 or newer")


def _source(tmp_path: Path) -> Path:
    """What a build reads before it compiles, in a folder of its own: this checkout's build folder stays as it is."""
    folder = tmp_path / "source"
    if not folder.exists():
        (folder / "heritage_align").mkdir(parents=True)
        (folder / "plugins").mkdir()
        for name in ("build_backend", "csrc"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "heritage_align/__init__.py"):
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _build(run: Run, python: Path, tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [python, "setup.py", "-q", "build_ext", "--build-lib", tmp_path / "lib"]
    return run(*command, cwd=_source(tmp_path), HOME=str(tmp_path), **settings)
