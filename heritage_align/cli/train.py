"""``heritage-align train``: fit a system to a collection."""

from __future__ import annotations

import os
from pathlib import Path

import click

from heritage_align.cli.options import (
    FileOrFolder,
    check_folder,
    collection_options,
    json_option,
    print_json,
    set_option,
)


@click.command(name="train")
@click.argument("config", metavar="CONFIG")
@set_option
@collection_options
@click.option("--fold", metavar="I/K", help="Of K folds by artwork test on the Ith and train on the others.")
@click.option("--out", type=FileOrFolder(), help="Folder of the run; runs/<name> by default.")
@click.option("--fresh", is_flag=True, help="Refuse a folder that holds a run instead of going on with it.")
@json_option
def command(
    config: str,
    overrides: tuple[str, ...],
    data: str | None,
    features: str | None,
    fold: str | None,
    out: Path | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Train the system of CONFIG (a file or a recipe's name).

    A killed run goes on when the command is run again, to the same weights. --data names a table of pictures, texts
    and splits, or a folder with one and a file of region features beside it: rows of split train are learned from,
    val decides when to stop, test is what `evaluate` measures. Of a IIIF manifest, which has no splits, --fold makes
    them. Several GPUs: torchrun --nproc-per-node N -m
    heritage_align train ...

    Example: heritage-align train scan-gb --data collection/ --out runs/scan-gb
    """
    from heritage_align.cli.collection import read_training_config
    from heritage_align.training.job import TRAINED
    from heritage_align.training.run import run_training, trainer_of

    resolved = read_training_config(config, overrides, data, features, fold)
    folder = out or Path("runs") / resolved.name
    check_folder(folder)
    first = os.environ.get("RANK", "0") == "0"  # of several processes under torchrun one speaks
    outcome = run_training(resolved, folder, resume=not fresh, quiet=as_json)
    if not first:
        return
    files = {name: str(path) for name, path in {"config": folder / TRAINED, **outcome.files}.items()}
    if as_json:
        print_json({"metrics": dict(outcome.metrics), "files": files})
        return
    measured = ", ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items())
    click.echo(f"best: {measured}" if measured else "trained")
    for name, path in files.items():
        click.echo(f"wrote {path} ({name})")
    learned = trainer_of(resolved).nested.get("data")
    if resolved.data is not None and learned is not None and resolved.data.as_dict() == learned.as_dict():
        click.echo(
            "note: there are no rows to test on, so evaluate measures what was learned from; give the table a column "
            "split (train, test), or train with --fold 1/4",
            err=True,
        )
    click.echo(f"next: heritage-align evaluate {folder / TRAINED}")
