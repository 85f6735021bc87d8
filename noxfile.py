"""One wheel on every Python and between the bounds of pyproject.toml; `make matrix` builds the wheel and runs this.

An environment is made with uv, so that what two of them share is stored once. The Python interpreters must be there
(those of pyenv are found); one that is missing is an error. The wheel is tested as users install it, with the libraries
that uv picks on that day, and with the oldest that are allowed.

    make matrix                                    # all five
    make matrix NOX="-s newest-3.13"               # one
    make matrix NOX="-s oldest -- tests/search"    # other tests
"""

from __future__ import annotations

from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
# Kernels, formulas, encoder, stores, search, the conformance kit: six minutes on two cores. The emulation of the CUDA
# kernels is left out: it tests sources and not the wheel, and needs a torch newer than 2.10.
TESTS = ["tests/ops", "tests/search", "tests/store", "tests/testing", "tests/plugins/cn_clip", "tests/test_pipeline.py"]
TESTS += ["--ignore-glob=*emulation*"]

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = True


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The newest of every library."""
    check(session)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The oldest of every library that pyproject.toml allows, on the oldest Python."""
    check(session, "--resolution", "lowest-direct")


def check(session: nox.Session, *how: str) -> None:
    """Install the wheel and run doctor, the demo and the tests."""
    (wheel,) = Path("build/matrix").resolve().glob("*.whl")
    session.install(*how, "--extra", "test", "-r", "pyproject.toml")
    session.install("--no-deps", str(wheel))
    session.run("heritage-align", "doctor")
    session.run("heritage-align", "demo", "--artworks", "2", "--out", str(Path(session.create_tmp()) / "demo"))
    chosen = "not slow and not cuda_build and not gpu"
    session.run("pytest", "-q", "-m", chosen, "-o", "pythonpath=", *(session.posargs or TESTS))
