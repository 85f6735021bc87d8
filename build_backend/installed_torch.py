"""Which torch the kernels are built against: its headers and libraries, found without importing it."""

from __future__ import annotations

import re
import site
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

OLDEST = (2, 10)  # its stable ABI is what the library uses; the library then runs on every later torch


class Torch(NamedTuple):
    """Where a torch is installed, and its version, e.g. ``2.14.1+cu130``."""

    root: Path
    version: str


def installed_torch() -> Torch | None:
    """Return the torch of this Python, 2.10 or newer, or None.

    pip hides the environment from an isolated build, but builds with that environment's Python. Its folders are looked
    through as well: only headers and the names of two libraries are used, of an ABI that does not change, so nothing of
    what isolation protects from can happen. (uv builds in an environment of its own, where nothing is found.)
    """
    paths = [*sys.path, sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), site.getusersitepackages()]
    for path in dict.fromkeys(paths):
        root = Path(path) / "torch"
        try:
            found = re.search(r"__version__ = '(\d+)\.(\d+)([^']*)'", (root / "version.py").read_text())
        except OSError:
            continue
        if found and (int(found[1]), int(found[2])) >= OLDEST and (root / "include").is_dir():
            return Torch(root, f"{found[1]}.{found[2]}{found[3]}")
    return None
