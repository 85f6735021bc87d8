"""Options and helpers that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from heritage_align.config import Config

config_argument = click.argument("config", metavar="CONFIG")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, e.g. similarity.temperature=9."
)
data_option = click.option(
    "--data",
    metavar="PATH",
    help="A folder of pictures, or a CSV or JSON-lines table of paths and texts; instead of the config's data. "
    "Columns by --set, e.g. data.text=title.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")


def read_config(name: str, overrides: tuple[str, ...], data: str | None = None) -> Config:
    """Load a config file, or a recipe where no file of that name exists.

    Args:
        name: path of a YAML file, or the name of a recipe.
        overrides: ``key=value`` settings, applied in their order.
        data: a collection given on the command line (`data_slot`), replacing the config's own.
    """
    from heritage_align.config import load_config
    from heritage_align.document import parse_yaml
    from heritage_align.errors import ConfigError
    from heritage_align.recipes import recipe_names, recipe_text

    path = Path(name)
    if path.is_file():
        source, text = name, path.read_text(encoding="utf-8")
    elif name in recipe_names():
        source, text = f"recipe {name}", recipe_text(name)
    else:
        raise ConfigError([f"there is no file {name!r} and no recipe of that name (heritage-align recipes list)"], name)
    document = parse_yaml(text, source)
    if data is not None:
        document["data"] = data_slot(data)
    return load_config(document, overrides, label=source)


def data_slot(path: str) -> dict[str, Any]:
    """Return the data section for a path: a folder of pictures, or a CSV or JSON-lines table of paths and texts."""
    if Path(path).is_dir():
        return {"name": "folder", "folder": path}
    return {"name": "table", "file": path}


def print_json(value: Any) -> None:
    """Print JSON with Chinese text as it is."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
