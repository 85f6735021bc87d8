"""Recipes begin better than their sources on small collections; their first lines say how to have the sources'."""

from __future__ import annotations

import shlex
from itertools import pairwise

import pytest
from heritage_align_plugins.alignment.settings import ModelSettings

from heritage_align.recipes import load_recipe, recipe_text

RECIPES = ("scan", "scan-sf", "scan-gb", "scan-sf-gb", "bfan", "bfan-sf", "bfan-sf-gb")


def published(name: str) -> tuple[str, ...]:
    """The settings that a recipe's comment names under "As the source"."""
    lines = [line.removeprefix("# ") for line in recipe_text(name).splitlines() if line.startswith("# ")]
    _, _, said = "\n".join(lines).partition("As the source, all of it from scratch:")
    words = shlex.split(said)
    return tuple(after for word, after in pairwise(words) if word == "--set")


@pytest.mark.parametrize("name", RECIPES)
def test_the_comment_gives_the_source(name: str) -> None:
    assert len(published(name)) == 4
    config = load_recipe(name, published(name))
    assert config.train is not None
    settings = config.train.settings
    assert settings.model == ModelSettings(dim=1024 if name in ("scan", "bfan") else 1000, text=("bigru",))
    assert (settings.warm_start, settings.patience, settings.refit, settings.loss) == (None, None, False, "hinge")
    # Without it they are ours.
    ours = load_recipe(name, ()).train
    assert ours is not None
    assert (ours.settings.model.regions, ours.settings.model.phrases, ours.settings.refit) == ("auto", "auto", True)
