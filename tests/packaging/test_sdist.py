"""The sdist holds what git holds; nothing that a build or a test run left behind comes with it."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = {"PKG-INFO", "setup.cfg"}


def test_the_sdist_is_the_tree(sdist: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    tree = {name for name in listed if (ROOT / name).exists()}
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive if member.isfile()}
    packed = {name for name in packed - GENERATED if not name.startswith("heritage_align.egg-info/")}
    assert sorted(tree - packed) == [], "not in the sdist: add it to MANIFEST.in"
    assert sorted(packed - tree) == [], "in the sdist, but not in git"
