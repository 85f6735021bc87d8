"""The pages: links lead somewhere, and what they show of configurations is what the components take."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from heritage_align.cli.options import read_config
from heritage_align.config import load_config, resolve_component
from heritage_align.errors import ConfigError
from heritage_align.plugins import default_registry
from heritage_align.recipes import recipe_names

ROOT = Path(__file__).parents[1]
FOLDERS = ("", "docs", "csrc", "csrc/cuda", "csrc/cuda/kernels", "examples/*")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/*.md".lstrip("/")))
OF_EXAMPLES = {"saliency_boxes", "bridge"}
"""Components of the example plugins, which are not installed here."""
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def dead_links(page: Path) -> list[str]:
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def components(text: str) -> Iterator[str]:
    """Yield the components that a text shows in one line or more, ``{name: ...}``, nested ones too."""
    for match in re.finditer(r"\{name: ", text):
        depth = 0
        for place in range(match.start(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                yield text[match.start() : place + 1]
                break


def fault_of(shown: str) -> str | None:
    """Why no kind of component takes what is shown; None where one does, or where the page leaves something out."""
    if "..." in shown:
        return None
    document: dict[str, Any] = yaml.safe_load(shown)
    registry = default_registry()
    kinds = [spec.kind for spec in registry.components() if spec.name == document["name"]]
    if not kinds:
        return None if document["name"] in OF_EXAMPLES else f"{shown}: there is no such component"
    faults = []
    for kind in kinds:
        try:
            resolve_component(kind, document, registry)
        except ConfigError as error:
            faults.append(str(error))
    return "; ".join(faults) if len(faults) == len(kinds) else None


def changed_recipes() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the recipes of the pages' lines with the settings that these change; those of data come with the data."""
    for page in PAGES:
        for line in re.findall(r"^ *(heritage-align [a-z].*--set.*)$", text_of(page), re.MULTILINE):
            words = shlex.split(line.partition(" > ")[0], comments=True)
            settings = tuple(value for option, value in pairwise(words) if option == "--set")
            recipes = [name for word in words for name in recipe_names() if word in (name, f"runs/{name}/config.yaml")]
            kept = tuple(setting for setting in settings if not setting.startswith(("data.", "train.data.")))
            if recipes and kept:
                yield recipes[0], kept


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_components_are_shown_as_they_are_taken(page: Path) -> None:
    assert [fault for shown in components(text_of(page)) if (fault := fault_of(shown)) is not None] == []


@pytest.mark.parametrize(("recipe", "settings"), sorted(set(changed_recipes())))
def test_recipes_take_the_settings_of_the_lines(recipe: str, settings: tuple[str, ...]) -> None:
    read_config(recipe, settings)


def test_configurations_of_the_pages_are_whole() -> None:
    whole = []
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
            if block.startswith("version:"):
                whole.append(load_config(yaml.safe_load(block)).name)
    assert "my-collection" in whole


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `page` of 2\n[one](#a-page-of-2) [two](#b) [three](gone.md) [four](https://example.org)\n")
    assert dead_links(page) == ["#b", "gone.md"]
    assert [bool(fault_of(shown)) for shown in ("{name: scan}", "{name: scan, lambda: 9}", "{name: scam}")] == [
        False,
        True,
        True,
    ]
    assert list(components("a {name: x, of: {name: y}} b")) == ["{name: x, of: {name: y}}", "{name: y}"]


def test_every_page_is_looked_at() -> None:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout")
    assert {*listed.stdout.split()} <= {named(page) for page in PAGES}
