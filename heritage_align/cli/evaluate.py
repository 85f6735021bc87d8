"""``heritage-align evaluate``: recall of one or more systems on a data set."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from heritage_align.cli.options import (
    check_folder,
    collection_options,
    json_option,
    print_json,
    read_config,
    set_option,
)
from heritage_align.cli.progress import encoding_bar
from heritage_align.errors import ConfigError


@click.command(name="evaluate")
@click.argument("configs", nargs=-1, required=True, metavar="CONFIG...")
@set_option
@collection_options
@click.option("--ks", default="1,5,10", show_default=True, help="Cut-offs of the recalls.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for metrics.json, runs, configs and report.html.")
@json_option
def command(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    data: str | None,
    features: str | None,
    ks: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Evaluate each CONFIG (a file or a recipe's name) in both directions, in the papers' form.

    All systems run on the data set of the first CONFIG, or on --data. With several, each is tested against the first:
    paired randomisation test over queries, captions of one image together. Bad pictures are named and count as missed.

    Example: heritage-align evaluate global laclip scan --out results
    """
    from heritage_align.evaluation.comparison import compare_systems
    from heritage_align.evaluation.results import metrics_of, print_comparison, write_results
    from heritage_align.pipeline import build_dataset

    cut_offs = _cut_offs(ks)
    resolved = [read_config(name, overrides, data, features) for name in configs]
    names = [config.name for config in resolved]
    if len(set(names)) != len(names):
        raise ConfigError([f"name: two configs have the same name among {', '.join(names)}"], "evaluate")
    dataset = build_dataset(resolved[0])
    if out is not None:
        check_folder(out)
    with encoding_bar(len(dataset.image_ids), show=not as_json) as started:
        outcomes = compare_systems(resolved, dataset, ks=cut_offs, started=started)
    for image_id, reason in outcomes[0].encoded.skipped:
        click.echo(f"left out {image_id}: {reason}", err=True)
    if out is not None:
        write_results(outcomes, dataset, out, command=shlex.join(["heritage-align", *sys.argv[1:]]))
    if as_json:
        print_json(metrics_of(outcomes, dataset))
        return
    click.echo(print_comparison(outcomes))
    if out is not None:
        click.echo(f"wrote {out / 'report.html'}, metrics.json, runs and configs beside it")


def _cut_offs(text: str) -> tuple[int, ...]:
    try:
        ks = tuple(int(part) for part in text.split(","))
    except ValueError:
        ks = ()
    if not ks or any(k < 1 for k in ks) or list(ks) != sorted(set(ks)):
        raise ConfigError([f"--ks: expected ascending numbers from 1, for example 1,5,10; got {text!r}"], "evaluate")
    return ks
