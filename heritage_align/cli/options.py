"""Options and helpers that several commands share; those that are listed serve commands of plugins too.

>>> import click
>>> from click.testing import CliRunner
>>> from heritage_align.cli.options import config_argument, print_json, read_config
>>> @click.command()
... @config_argument
... def command(config):
...     print_json({"similarity": read_config(config, ()).similarity.spec.name})
>>> print(CliRunner().invoke(command, ["scan"]).output)
{
  "similarity": "scan"
}
<BLANKLINE>
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heritage_align.cli.network import ALLOW_NETWORK, network_allowed, network_option

if TYPE_CHECKING:
    from heritage_align.config import Config

__all__ = ["config_argument", "json_option", "print_json", "read_config", "set_option"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class FileOrFolder(click.Path):
    """A path; an empty one is refused: an unset shell variable gives it, and it would mean the folder we are in."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        not_blank(ctx, param, str(value))
        return super().convert(value, param, ctx)


def not_blank(_context: click.Context | None, parameter: click.Parameter | None, value: str | None) -> str | None:
    """Refuse an empty path, which an unset shell variable gives and which would mean the folder we are in."""
    if value is not None and not value.strip():
        raise click.BadParameter("is empty; name a file or folder", param=parameter)
    return value


def has_words(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse a text, or one of several, that shows nothing."""
    from heritage_align.text import is_blank

    texts = value if isinstance(value, tuple) else () if value is None else (value,)
    if any(map(is_blank, texts)):
        raise click.BadParameter("is empty; give a text", param=parameter)
    return value


config_argument = click.argument("config", metavar="CONFIG")
"""Argument ``config``: a YAML file or the name of a recipe, for `read_config`."""
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting, e.g. similarity.temperature=9. Another name of a component begins with its own defaults.",
)
"""Option ``--set KEY=VALUE``, any number of times, as ``overrides`` for `read_config`."""
data_option = click.option(
    "--data",
    metavar="PATH",
    callback=not_blank,
    help="A CSV or JSON-lines table of paths and texts, a folder with one, a folder of pictures, or a IIIF manifest; "
    "instead of the config's data. Columns by --set, e.g. data.text=title.",
)
phrase_option = click.option(
    "--phrase",
    "phrases",
    multiple=True,
    callback=has_words,
    help="A phrase of the text; may be given several times.",
)
features_option = click.option(
    "--features",
    metavar="FILE",
    callback=not_blank,
    help="Precomputed region features (.safetensors, .npz, bottom-up .tsv, SCAN's .npy, a store) of the pictures of "
    "--data.",
)
ks_option = click.option("--ks", default="1,5,10", show_default=True, help="Cut-offs of the recalls.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
"""Option ``--json``, as ``as_json``."""


def collection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data, --allow-network and --features."""
    return data_option(network_option(features_option(function)))


def read_config(name: str, overrides: tuple[str, ...], data: str | None = None, features: str | None = None) -> Config:
    """Load a config file, or a recipe where no file of that name exists.

    Args:
        name: path of a YAML file, or the name of a recipe.
        overrides: ``key=value`` settings, applied in their order.
        data: a collection given on the command line (`collection.evaluation`), replacing the config's own.
        features: a file of region features for it.
    """
    from heritage_align.cli import collection
    from heritage_align.config import resolve
    from heritage_align.document import apply_overrides
    from heritage_align.plugins import default_registry
    from heritage_align.recipes import read_document

    source, document = read_document(name)
    collection.rename(document, overrides)
    if data is not None or features is not None:
        collection.evaluation(document, data, features)
    if network_allowed():
        overrides = (*overrides, ALLOW_NETWORK)
    apply_overrides(document, overrides, source)
    return resolve(document, default_registry(), source)


def check_folder(folder: Path) -> Path:
    """Make an output folder; raises DataError, before hours of work, where it cannot be made or written to."""
    from heritage_align.errors import DataError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"{folder}: cannot be made: it, or a part of its path, is a file") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK):
        raise DataError(f"{folder}: cannot be written to")
    return folder


def check_file(path: Path, suffixes: tuple[str, ...] = ()) -> Path:
    """Look, before the work, whether an output file can be written; raises DataError that says why not."""
    from heritage_align.errors import DataError

    if suffixes and path.suffix.lower() not in suffixes:
        raise DataError(f"{path}: its name must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected the name of a file to write")
    if not path.parent.is_dir():
        raise DataError(f"{path}: cannot be written: there is no folder {str(path.parent)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise DataError(f"{path}: cannot be written to")
    return path


def print_json(value: Any) -> None:
    """Print JSON with Chinese text as it is."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def cut_offs(text: str) -> tuple[int, ...]:
    """Read --ks; raises ConfigError where it is not ascending numbers from 1."""
    from heritage_align.errors import ConfigError

    try:
        ks = tuple(int(part) for part in text.split(","))
    except ValueError:
        ks = ()
    if not ks or any(k < 1 for k in ks) or list(ks) != sorted(set(ks)):
        raise ConfigError(
            [f"--ks: expected ascending numbers from 1, for example 1,5,10; got {text!r}"], "command line"
        )
    return ks
