"""The core names no first-party component: what it needs of one, the component declares (`ComponentSpec.role`)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from heritage_align.plugins import BUILTIN, Registry

CORE = Path(__file__).parents[1] / "heritage_align"

ABOUT_THEM = ("bench/", "cli/demo.py")
"""What times, or shows, certain systems may name them."""

WORDS = {
    "global": "the features of a whole image or text, and the tensor of a store",
    "crops": "what a proposer gives",
    "fragments": "what a fragmenter gives",
    "focal": "a setting of the ops",
    "folder": "a setting of a data set of role pictures",
    "fold": "a setting of a data set of role part",
    "patch_grid": "an attribute of encoders",
    "exact": "a value of runtime.preprocess",
    "captions": "a usual name of a table's column",
    "keypoints": "the points of regions that a features file counts",
    "details": "what a reranker may look for",
}
"""Names that are words of the core too; as a component's name they are found all the same."""

LIBRARIES = {
    ("health.py", "cn_clip"),
    ("health.py", "faiss"),
    ("health.py", "qdrant"),
    ("health.py", "ray"),
    ("health.py", "transformers"),
    ("testing/checks/settings.py", "cn_clip"),
    ("testing/checks/settings.py", "open_clip"),
    ("testing/checks/settings.py", "sentence_transformers"),
    ("testing/checks/settings.py", "transformers"),
}
"""Packages of the index that are called as plugins are."""


def names_in(source: str, names: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name of the components that code names; documentation strings may."""
    tree = ast.parse(source)
    texts = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from ((node.lineno, m) for m in modules if m.split(".")[0] == BUILTIN)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values):
                if isinstance(key, ast.Constant) and key.value == "name":
                    yield from ((value.lineno, name) for name in _constants(value) & names)
        elif isinstance(node, ast.Compare) and "name" in ast.unparse(node):
            yield from ((node.lineno, name) for name in _constants(node) & names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            if node.value.startswith("heritage_align."):
                continue  # a module of the core
            for name in names - set(WORDS):
                # In a sentence only what is no word of English: "table" and "scan" are.
                if node.value == name or ("_" in name and re.search(rf"\b{name}\b", node.value)):
                    yield node.lineno, name


def _constants(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_the_core_names_no_component(ha_registry: Registry) -> None:
    names = {spec.name for spec in ha_registry.components()} | {plugin.name for plugin in ha_registry.plugins}
    found, unused = [], set(LIBRARIES)
    for path in sorted(CORE.rglob("*.py")):
        file = path.relative_to(CORE).as_posix()
        if not file.startswith(ABOUT_THEM):
            for line, name in names_in(path.read_text(encoding="utf-8"), names):
                unused.discard((file, name))
                if (file, name) not in LIBRARIES:
                    found.append(f"{file}:{line}: {name}")
    assert not found, found
    assert not unused, "the list of exceptions is longer than it need be"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('kept = [s for s in steps if s.get("name") == "sift"]', {"sift"}),
        ('if spec.name in ("global", "other"): pass', {"global"}),
        ('index = {"name": "exact"}', {"exact"}),
        ('hint = f"take {{name: random_crops}} of {config}"', {"random_crops"}),
        ("from heritage_align_plugins.sift import filter", {"heritage_align_plugins.sift"}),
        ("def f():\n    from heritage_align_plugins import sift", {"heritage_align_plugins"}),
        ('"""random_crops, as the sift does."""\nfolder = store["global"]', set()),
        ('raise ValueError("a table in a folder")', set()),
    ],
)
def test_what_is_found(source: str, found: set[str]) -> None:
    names = {"sift", "global", "exact", "random_crops", "table", "folder"}
    assert {name for _, name in names_in(source, names)} == found
