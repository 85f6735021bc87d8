"""An sdist, the wheel made from it, and environments of a few distributions; nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]
Environment = Callable[..., Path]


@pytest.fixture(scope="session")
def run() -> Run:
    """``run(*command, cwd, **environment)``: neither PYTHONPATH nor settings of ours lend the command anything."""

    def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        left_out = ("PYTHON", "HERITAGE_ALIGN", "CXX")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        return subprocess.run(
            [str(part) for part in command], cwd=cwd, env={**clean, **environment}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def sdist(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this tree, as `python -m build` makes it."""
    folder = tmp_path_factory.mktemp("sdist")
    made = run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert made.returncode == 0, made.stdout + made.stderr
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="session")
def wheel(run: Run, sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip makes of the sdist, with the kernels of the CPU: a minute on two cores."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir"]
    made = run(*pip, "--wheel-dir", folder, sdist, cwd=folder, HERITAGE_ALIGN_BUILD="cpu")
    assert made.returncode == 0, made.stdout + made.stderr
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """``environment(*names)``: the Python of a new environment with these distributions and what they ask for.

    They are links to those that run the tests, so that torch is neither downloaded nor copied.
    """

    def make(*names: str) -> Path:
        folder = tmp_path / "environment"
        venv.create(folder, symlinks=True)
        (site,) = (folder / "lib").glob("python3.*/site-packages")
        for found in _closure(names).values():
            for top in {Path(file).parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(Path(str(found.locate_file(top))))
        return folder / "bin" / "python"

    return make


def _closure(names: tuple[str, ...]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    ahead = list(names)
    while ahead:
        name = ahead.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        for line in found[name].requires or ():
            asked = Requirement(line)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                ahead.append(asked.name)
    return found
