"""Write a new plugin package: one small component that works, its settings, and its conformance test."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from heritage_align import __version__
from heritage_align.errors import PluginError, did_you_mean
from heritage_align.hookspecs import KINDS

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")

OUTPUTS = {
    "encoder": '("global", "texts")',
    "proposer": '("crops",)',
    "filter": '("keep",)',
    "fragmenter": '("fragments",)',
    "similarity": '("folds",)',
    "reranker": '("texts",)',
}
INPUTS = {"similarity": '("image.global", "text.global")'}


def create_plugin(name: str, kind: str, to: str | Path = ".") -> Path:
    """Write a plugin package into a new folder.

    Args:
        name: of the distribution, for example ``silk-colours``; the package and the component are then called
            ``silk_colours``.
        kind: of its component, one of `heritage_align.hookspecs.KINDS`.
        to: folder in which the new one is made.

    Returns:
        The new folder, ``to / name``.

    Raises:
        PluginError: the name is not fit for a package or taken, the kind is unknown, or the folder exists.
    """
    if kind not in KINDS:
        raise PluginError(f"unknown kind {kind!r}.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}")
    package = _package(name)
    root = Path(to) / name
    if root.exists():
        raise PluginError(f"{root} exists already; nothing is overwritten")
    words = {
        "name": name,
        "package": package,
        "kind": kind,
        "class_name": "".join(part.capitalize() for part in package.split("_")),
        "versions": _versions(__version__),
        "inputs": INPUTS.get(kind, "()"),
        "outputs": OUTPUTS.get(kind, "()"),
    }
    written = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{package}/__init__.py": "init.py",
        f"{package}/config.py": f"{kind}_config.py",
        f"{package}/{kind}.py": f"{kind}.py",
        "tests/test_conformance.py": "test_conformance.py",
    }
    for target, template in written.items():
        path = root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled(template, words), encoding="utf-8")
    return root


def _package(name: str) -> str:
    """Return the import name; raises PluginError that says what is wrong with the name."""
    if not _NAME.fullmatch(name):
        raise PluginError(
            f"{name!r} is no name for a plugin: expected small letters and digits in words joined by - or _, "
            "for example silk-colours"
        )
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or keyword.issoftkeyword(package) or package in sys.stdlib_module_names:
        raise PluginError(f"{name!r} is a word or module of Python; choose another name")
    if package.startswith("heritage_align") or find_spec(package) is not None:
        raise PluginError(f"{name!r}: a package {package!r} is installed already; choose another name")
    return package


def _versions(version: str) -> str:
    """Return the versions that a plugin written today asks for: this minor version, ``>=0.1,<0.2``."""
    major, minor, *_ = version.split(".")
    return f">={major}.{minor},<{major}.{int(minor) + 1}"


def _filled(template: str, words: dict[str, str]) -> str:
    text = (files(__name__) / "templates" / f"{template}.tmpl").read_text(encoding="utf-8")
    return Template(text).substitute(words)
