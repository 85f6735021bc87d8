"""No import goes in a circle: neither between files nor between the packages of the core, or between plugins."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Return every module of the core and of the built-in plugins, by its dotted name."""
    found = {}
    for top in (ROOT / "heritage_align", ROOT / "plugins" / "heritage_align_plugins"):
        for path in top.rglob("*.py"):
            parts = path.relative_to(top.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, package: str, known: set[str]) -> set[str]:
    """Return the modules of `known` that code imports, in functions too, but not for type checkers alone.

    A name that is imported from a package is its module if there is one of that name, else the package.
    """
    found: set[str] = set()
    for node in _run(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                found.add(inner if inner in known else origin)
    return found & known


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree that are run: not those under ``if TYPE_CHECKING``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _run(other)
        else:
            yield from _run(child)


def graph(place: Callable[[str], str]) -> Graph:
    """Return what imports what, each module at its place: the module itself, or the package that it is in."""
    files = modules()
    found: Graph = {place(name): set() for name in files}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        targets = {place(target) for target in imported(path.read_text(encoding="utf-8"), package, set(files))}
        found[place(name)] |= targets - {place(name)}
    return found


def circle(found: Graph) -> list[str]:
    """Return modules that import each other in a circle, [] where there is none."""
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_file_imports_itself_by_way_of_others() -> None:
    found = graph(lambda name: name)
    assert sum(map(len, found.values())) > 500, "the imports are not seen"
    assert circle(found) == []


def test_no_package_imports_itself_by_way_of_others() -> None:
    """A package is what lies in `heritage_align` or `heritage_align_plugins`: a folder, or a file."""
    found = graph(lambda name: ".".join(name.split(".")[:2]))
    assert "heritage_align.data" in found["heritage_align.encoding"], "the imports are not seen"
    assert circle(found) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b", {"a.b"}),
        ("from a import b, Name", {"a", "a.b"}),
        ("from a.b import Name", {"a.b"}),
        ("from . import b", {"a.b"}),
        ("from .b import Name", {"a.b"}),
        ("from .. import b", {"a.b"}),
        ("def f():\n    if x:\n        from a import b", {"a.b"}),
        ("if TYPE_CHECKING:\n    import a.b\nelse:\n    import a", {"a"}),
        ("import typing\nif typing.TYPE_CHECKING:\n    import a.b", set()),
        ("import os, torch", set()),
    ],
)
def test_imports_are_seen(source: str, expected: set[str]) -> None:
    package = "a.inner" if ".." in source else "a"
    assert imported(source, package, {"a", "a.b"}) == expected


def test_circles_are_seen() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
