"""Every named system as a YAML file in this folder: copy one and change it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from heritage_align.config import Config, load_config
from heritage_align.document import parse_yaml
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
