"""``heritage-align models``: the files of models, before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from heritage_align.cli.options import json_option, print_json, read_config, set_option

if TYPE_CHECKING:
    from heritage_align.model_files import ModelFile, ModelReport


@click.group(name="models")
def command() -> None:
    """Say which files a model needs and which are here.

    Example: heritage-align models check fg-clip-regions
    """


@command.command()
@click.argument("name", metavar="NAME")
@set_option
@json_option
def check(name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the files of the models of NAME: a config, a recipe, or a model's own name.

    Nothing is fetched or loaded: a name on the Hugging Face hub is looked for in its local cache, one of Chinese-CLIP
    (ViT-B-16) in cn_clip's. Says of each file size and sha256, of each model the commit that is here and the license
    that its card names, and how to get what is missing. Exit status 2 if a file is missing or is something else.

    Example: heritage-align models check OFA-Sys/chinese-clip-vit-base-patch16
    """
    from heritage_align.errors import ConfigError
    from heritage_align.model_files import models_of, named_model
    from heritage_align.plugins import default_registry
    from heritage_align.recipes import recipe_names

    if os.path.isfile(name) or name in recipe_names() or name.endswith((".yaml", ".yml")):
        reports = models_of(read_config(name, overrides))
    elif overrides:
        raise ConfigError(["--set: changes a config or recipe, and this is neither"], name or "NAME")
    else:
        reports = named_model(name, default_registry())
    if as_json:
        print_json([_record(report) for report in reports])
    else:
        _print(name, reports)
    if not all(report.whole for report in reports):
        raise click.exceptions.Exit(2)


def _record(report: ModelReport) -> dict[str, object]:
    return {**report._asdict(), "whole": report.whole, "files": [file._asdict() for file in report.files]}


def _print(name: str, reports: Sequence[ModelReport]) -> None:
    if not reports:
        click.echo(f"{name}: reads no model from a file")
    for report in reports:
        click.echo(f"{report.place}: {report.component}, {report.model}")
        click.echo(f"  folder    {report.folder or 'none here'}")
        if report.revision is not None:
            click.echo(f"  revision  {report.revision}")
        click.echo(f"  license   {report.license or 'no card here says'}")
        for file in report.files:
            click.echo(f"  {_line(file)}")
        if report.get is not None:
            click.echo(f"  get it    {report.get}")


def _line(file: ModelFile) -> str:
    mark = {"ok": "ok", "missing": "--", "broken": "!!"}[file.state]
    said = f"{mark}  {file.part:<11}{file.name}"
    if file.bytes is not None:
        said += f"  {file.bytes:,} bytes  sha256:{file.sha256}"
    return f"{said}  {file.detail or ('is missing' if file.state == 'missing' else '')}".rstrip()
