"""Write docs/api.md from the docstrings of the public modules: ``python docs/generate_api.py`` (``make api``)."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).with_name("api.md")
AUDIENCES = {
    "Run pipelines": (
        "heritage_align",
        "heritage_align.search",
        "heritage_align.evaluation",
        "heritage_align.encoding",
    ),
    "Write plugins": ("heritage_align.plugin", "heritage_align.testing", "heritage_align.data", "heritage_align.text"),
    "Write trainers": ("heritage_align.training", "heritage_align.training.distributed"),
    "Write commands": ("heritage_align.cli", "heritage_align.cli.options"),
    "Use the kernels": ("heritage_align.ops",),
}
"""Audience -> its public modules. Everything else of the package is internal."""
INTRODUCTION = """\
# The public API

Written by `make api` from the docstrings; a test compares. What is listed here is public, under the module that lists
it. Everything else of `heritage_align` is internal and changes without notice, and so do names that begin with `_`. The
first-party plugins import nothing else. `__all__` of a module is its list; the examples run as tests.

**Changes.** A public name that is renamed or moved stays for one minor version: asking for it gives a
`DeprecationWarning` that names its successor, and the changelog says so. Configurations, stores and the contracts of
plugins carry versions of their own (`version: 1` of a config, the store's format, `API_VERSION`, which is raised when a
method of a contract changes).

**Words.** One word has one meaning, where the field allows:

| word | meaning |
|---|---|
| fold (noun) | a part in cross-validation: `artwork_folds`, data set `fold` |
| to fold, folded | to sum an image's weighted patches into one vector whose dot product is the score: `fold_patches` |
| `t2i`, `i2t` as a `direction` of scores | attention: words attend to regions, regions to words |
| `t2i`, `i2t` in results | retrieval: images searched by text, texts by image |
| global | of a vector: the one of the whole image or text |
| whole | of a picture or text: as opposed to its regions or fragments |
"""


def page() -> str:
    """Return what `PAGE` should hold."""
    parts = [INTRODUCTION]
    for audience, modules in AUDIENCES.items():
        parts.append(f"## {audience}\n")
        for name in modules:
            module = import_module(name)
            parts.append(f"### `{name}`\n")
            parts.append(_module_text(module))
            constants = _constant_docs(module)
            names = [public for public in module.__all__ if not public.startswith("__")]
            parts.append(
                "".join(_entry(public, getattr(module, public), constants.get(public, "")) for public in names)
            )
    return "\n".join(parts)


def _module_text(module: ModuleType) -> str:
    """Return a module's docstring as Markdown, its examples as code."""
    assert module.__doc__ is not None
    blocks = []
    for block in re.split(r"\n\n", inspect.cleandoc(module.__doc__)):
        code = textwrap.dedent(block)
        blocks.append(f"```python\n{code}\n```" if code.startswith(">>>") or block != code else _wrapped(block))
    return "\n\n".join(blocks) + "\n"


def _entry(name: str, value: Any, constant: str) -> str:
    """Return one name: its signature, its first paragraph, and the methods of a class."""
    if constant or not (inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value))):
        return _item(f"`{name}`", constant or getattr(value, "help", ""))  # of a command of click
    text = _item(f"`{name}{_signature(value)}`", value.__doc__ or "")
    return text + "".join(f"  - {method}\n" for method in _methods(value)) if inspect.isclass(value) else text


def _item(signature: str, doc: str) -> str:
    return _wrapped(f"- {signature}: " + inspect.cleandoc(doc).partition("\n\n")[0], "  ") + "\n"


def _wrapped(text: str, indent: str = "") -> str:
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", text.replace("``", "`"))
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _methods(kind: type) -> Iterator[str]:
    """Yield the attributes of a contract, and the signatures of the public methods that a class itself defines."""
    if getattr(kind, "_is_protocol", False):
        yield from (f"`{name}`" for name in kind.__annotations__)
    for name, member in vars(kind).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        yield f"`{name}{_signature(function, drop_first=not isinstance(member, staticmethod))}`"


def _signature(value: Any, *, drop_first: bool = False) -> str:
    """Return names and defaults; annotations are left to the docstring, they differ between versions of Python."""
    if inspect.isclass(value) and (getattr(value, "_is_protocol", False) or value.__init__ is Exception.__init__):
        return ""
    try:
        found = inspect.signature(value)
    except ValueError:
        return ""
    parameters = [p for p in found.parameters.values() if not p.name.startswith("_")][drop_first:]
    if [p.kind for p in parameters] == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
        return ""
    plain = [p.replace(annotation=p.empty, default=p.default if _plain(p.default) else ...) for p in parameters]
    return str(found.replace(parameters=plain, return_annotation=found.empty)).replace("Ellipsis", "...")


def _plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is inspect.Parameter.empty or value is None or isinstance(value, bool | int | float | str)


def _constant_docs(module: ModuleType) -> dict[str, str]:
    """Return what is written beneath the assignments of the constants that a public module lists."""
    found: dict[str, str] = {}
    for home in _homes(module):
        body = ast.parse(inspect.getsource(import_module(home))).body
        for statement, after in pairwise(body):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            target = statement.target if isinstance(statement, ast.AnnAssign) else target
            if isinstance(target, ast.Name) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found.setdefault(target.id, str(after.value.value))
    return found


def _homes(module: ModuleType) -> Iterator[str]:
    """Yield a public module and those from which it imports its names, at once or on first use."""
    yield module.__name__
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("heritage_align")):
            yield f"{module.__name__}.{node.module}" if node.level else str(node.module)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
