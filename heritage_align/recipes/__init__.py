"""Every named system as a YAML file in this folder: copy one and change it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from heritage_align.config import Config, load_config
from heritage_align.document import parse_yaml, read_yaml
from heritage_align.errors import ConfigError, did_you_mean


def recipe_names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(f.name.removesuffix(".yaml") for f in files(__name__).iterdir() if f.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """Return a recipe's YAML with its comments; raises ConfigError for an unknown name."""
    if name not in recipe_names():
        known = recipe_names()
        raise ConfigError([f"unknown recipe {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}"], "recipe")
    return (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")


def recipe_summary(name: str) -> str:
    """Return the recipe's first comment line."""
    return recipe_text(name).splitlines()[0].lstrip("# ")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Config:
    """Load a recipe as a validated configuration."""
    return load_config(parse_yaml(recipe_text(name), f"recipe {name}"), overrides, label=f"recipe {name}")


def read_document(name: str) -> tuple[str, dict[str, Any]]:
    """Read a config file, or a recipe where no file of that name exists, as a plain document.

    Returns:
        What errors call it, and the document.

    Raises:
        ConfigError: there is neither, or it is not YAML.
    """
    if os.path.isfile(name):
        return name, read_yaml(Path(name))
    if name in recipe_names():
        return f"recipe {name}", parse_yaml(recipe_text(name), f"recipe {name}")
    if os.path.isdir(name):
        raise ConfigError(["is a folder; a config is a YAML file or the name of a recipe"], name)
    hint = did_you_mean(name, recipe_names()) or " The recipes: heritage-align recipes list"
    raise ConfigError([f"there is no such file and no recipe of that name.{hint}"], name or "CONFIG")
