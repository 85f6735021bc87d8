"""``heritage-align recipes``: list, show and copy the named systems."""

from __future__ import annotations

from pathlib import Path

import click

from heritage_align.cli.options import FileOrFolder, json_option, print_json
from heritage_align.errors import ConfigError
from heritage_align.recipes import recipe_names, recipe_summary, recipe_text


@click.group(name="recipes")
def command() -> None:
    """Named systems as configs to start from.

    Example: heritage-align recipes copy laclip
    """


@command.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the recipes with one line each.

    Example: heritage-align recipes list
    """
    rows = {name: recipe_summary(name) for name in recipe_names()}
    if as_json:
        print_json(rows)
        return
    for name, summary in rows.items():
        click.echo(f"{name:<20}{summary}")


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe.

    Example: heritage-align recipes show bfan
    """
    click.echo(recipe_text(name), nl=False)


@command.command()
@click.argument("name")
@click.option("--to", type=FileOrFolder(), help="File to write; NAME.yaml here by default.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def copy(name: str, to: Path | None, force: bool) -> None:
    """Copy a recipe to a file of your own.

    Example: heritage-align recipes copy laclip --to my-collection.yaml
    """
    text = recipe_text(name)
    path = to or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise ConfigError([f"{path} exists already; --force overwrites it"], "recipes copy")
    path.write_text(text, encoding="utf-8")
    click.echo(f"wrote {path}")
