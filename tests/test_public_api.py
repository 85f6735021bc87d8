"""The public API: its lists, its page, its examples, what may import what, and how a name is replaced."""

from __future__ import annotations

import ast
import doctest
import re
import runpy
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from heritage_align.exports import look_up
from heritage_align.hookspecs import KINDS
from heritage_align.scaffold import create_plugin

ROOT = Path(__file__).parents[1]
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_api.py"))
PUBLIC = [module for modules in GENERATOR["AUDIENCES"].values() for module in modules]
USERS = sorted([*(ROOT / "plugins").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def imports_of(source: str) -> Iterator[tuple[str, str]]:
    """Yield what a file imports of heritage_align: module and name, an empty one for the module itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "heritage_align")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "heritage_align":
            yield from ((str(node.module), alias.name) for alias in node.names)


def not_public(source: str) -> list[str]:
    """Return what a file imports of heritage_align that is not public."""
    found = []
    for module, name in imports_of(source):
        listed = module in PUBLIC and (not name or name in import_module(module).__all__)
        if not listed and f"{module}.{name}" not in PUBLIC:
            found.append(f"{module}.{name}".rstrip("."))
    return found


def test_what_is_not_public_is_found() -> None:
    lines = ["import heritage_align.config", "from heritage_align.plugin import Registry, plan", "import numpy"]
    lines += ["from heritage_align import ops, pipeline", "from heritage_align.training import distributed"]
    assert not_public("\n".join(lines)) == [
        "heritage_align.config",
        "heritage_align.plugin.plan",
        "heritage_align.pipeline",
    ]


@pytest.mark.parametrize("path", USERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_and_examples_import_public_names_alone(path: Path) -> None:
    assert not_public(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_show_public_names_alone(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    sources = [doctest.script_from_examples(block) if block.startswith(">>>") else block for block in blocks]
    assert [not_public(source) for source in sources] == [[] for _ in blocks]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_imports_public_names_alone(kind: str, tmp_path: Path) -> None:
    create_plugin("silk-colours", kind, tmp_path)
    files = list(tmp_path.rglob("*.py"))
    assert any(imports_of(path.read_text(encoding="utf-8")) for path in files)
    assert [not_public(path.read_text(encoding="utf-8")) for path in files] == [[] for _ in files]


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_list_is_what_the_module_has(module: str) -> None:
    """The list, the imports that a type checker reads, and the places of names imported on first use agree."""
    public = import_module(module)
    assert len(set(public.__all__)) == len(public.__all__)
    for name in public.__all__:
        assert getattr(public, name) is not None
    if hasattr(public, "_PLACES"):
        places = {(home, name) for home, names in public._PLACES.items() for name in names}
        assert places == {*imports_of(Path(str(public.__file__)).read_text())} - {("heritage_align.exports", "look_up")}
        assert {name for _, name in places} == {name for name in public.__all__ if not name.startswith("__")}
        assert {*public.__all__} <= {*dir(public)}
        modules = [name for name in public.__all__ if hasattr(public, "__path__") and find_spec(f"{module}.{name}")]
        assert not modules, f"once a module of {modules} is imported, it hides the name of first use"
        with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Pipelin'"):
            public.Pipelin  # noqa: B018


def test_every_public_name_is_described() -> None:
    entries = re.findall(r"^- `([^`]+)`:(\s+(?!-)\S)?", GENERATOR["page"](), re.MULTILINE)
    assert len(entries) == sum(not name.startswith("__") for m in PUBLIC for name in import_module(m).__all__)
    assert [name for name, described in entries if not described] == []


def test_the_page_is_what_the_generator_writes() -> None:
    assert GENERATOR["PAGE"].read_text(encoding="utf-8") == GENERATOR["page"](), "run `make api`"


@pytest.mark.parametrize("module", PUBLIC)
def test_the_examples_of_a_module_run(module: str) -> None:
    public = import_module(module)
    test = doctest.DocTestParser().get_doctest(str(public.__doc__), {}, module, None, 0)
    assert test.examples
    report: list[str] = []
    doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A public module in which ``Answer`` became ``heritage_align.types.Hit``."""
    module = ModuleType("silk_public")
    module.__getattr__ = lambda name: look_up(  # type: ignore[method-assign]
        "silk_public", name, {"heritage_align.types": ("Run",)}, {"Answer": "heritage_align.types.Hit"}
    )
    monkeypatch.setitem(sys.modules, "silk_public", module)
    return module


def test_a_former_name_gives_its_successor_with_a_warning(renamed: ModuleType) -> None:
    from heritage_align.types import Hit

    with pytest.warns(DeprecationWarning, match=r"silk_public\.Answer is now heritage_align\.types\.Hit") as caught:
        assert renamed.Answer is Hit
    assert len(caught) == 1


def test_a_present_name_gives_no_warning_and_an_unknown_one_an_error(renamed: ModuleType) -> None:
    from heritage_align.types import Run

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert renamed.Run is Run
        with pytest.raises(AttributeError, match="module 'silk_public' has no attribute 'Runs'"):
            renamed.Runs  # noqa: B018
