"""``heritage-align evaluate``: recall of one or more systems on a data set."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heritage_align.cli.options import (
    FileOrFolder,
    check_folder,
    collection_options,
    cut_offs,
    json_option,
    ks_option,
    print_json,
    read_config,
    set_option,
)
from heritage_align.cli.progress import encoding_bar
from heritage_align.errors import ConfigError

if TYPE_CHECKING:
    from heritage_align.config import Config
    from heritage_align.protocols import Dataset


@click.command(name="evaluate")
@click.argument("configs", nargs=-1, required=True, metavar="CONFIG...")
@set_option
@collection_options
@ks_option
@click.option(
    "--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds; random crops differ with each."
)
@click.option("--out", type=FileOrFolder(), help="Folder for metrics.json, runs, configs and report.html.")
@click.option(
    "--store",
    type=FileOrFolder(),
    help="Take the pictures' features from this store instead of encoding them.",
)
@click.option("--predictions", is_flag=True, help="Write Chinese-CLIP's prediction files below --out too.")
@json_option
def command(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    data: str | None,
    features: str | None,
    ks: str,
    repeats: int,
    out: Path | None,
    store: Path | None,
    predictions: bool,
    as_json: bool,
) -> None:
    """Evaluate each CONFIG (a file or a recipe's name) in both directions, in the papers' form.

    All systems run on the data set of the first CONFIG, or on --data. With several, each is tested against the first:
    paired randomisation test over queries, captions of one image together. Bad pictures are named and count as missed.

    With --repeats N each system runs at N seeds, from its runtime.seed on: mean and standard deviation, and the test of
    the queries' means over seeds. --out then gets metrics.json and configs alone.

    With --store the pictures are not opened: their features are read from a store that was made with these configs, or
    with ones that differ only in how they compare. Pictures that the store lacks count as missed.

    With search.last pictures searched by text are ranked after a last look, at the best of each text; texts searched by
    picture are not.

    --predictions writes {split}_predictions.jsonl and {split}_tr_predictions.jsonl for Chinese-CLIP's scorer, into
    predictions/<system>; where the right answers are not known (MUGE's test set), these alone.

    Example: heritage-align evaluate global laclip scan --out results
    """
    from heritage_align.evaluation.comparison import compare_systems, refuse_equal_names
    from heritage_align.evaluation.predictions import check_predictable, split_of, write_predictions
    from heritage_align.evaluation.results import metrics_of, print_comparison
    from heritage_align.pipeline import build_dataset
    from heritage_align.report.results import write_results

    at = cut_offs(ks)
    resolved = [read_config(name, overrides, data, features) for name in configs]
    refuse_equal_names(resolved)
    if predictions and (out is None or repeats > 1):
        raise ConfigError(["--predictions: needs --out, and one evaluation: no --repeats"], "evaluate")
    if store is not None and repeats > 1:
        raise ConfigError(["--store: holds the features of one seed; leave out --repeats"], "evaluate")
    dataset = build_dataset(resolved[0])
    if out is not None:
        check_folder(out)
    if predictions and out is not None:
        check_predictable(dataset)
        if not any(item.image_ids for item in dataset.texts):
            _predicted(resolved, dataset, out / "predictions", as_json)
            return
    if repeats > 1:
        _repeated(resolved, dataset, repeats, at, out, as_json)
        return
    with encoding_bar(len(dataset.image_ids), show=not as_json) as started:
        outcomes = compare_systems(resolved, dataset, ks=at, started=started, store=store)
    _name_skipped(outcomes[0].encoded.skipped, "--json")
    if out is not None:
        write_results(outcomes, dataset, out, command=shlex.join(["heritage-align", *sys.argv[1:]]))
    if predictions and out is not None:
        for outcome in outcomes:
            images, texts = outcome.encoded.images.ids, outcome.encoded.texts.ids
            folder = out / "predictions" / outcome.evaluation.result.system
            scores, looked = outcome.evaluation.scores, outcome.evaluation.looked
            write_predictions(scores, images, texts, folder, split_of(resolved[0]), looked)
    if as_json:
        print_json(metrics_of(outcomes, dataset))
        return
    click.echo(print_comparison(outcomes))
    if out is not None:
        more = ", predictions" if predictions else ""
        click.echo(f"wrote {out / 'report.html'}, metrics.json, runs, configs{more} beside it")


def _repeated(
    configs: Sequence[Config], dataset: Dataset, repeats: int, ks: tuple[int, ...], out: Path | None, as_json: bool
) -> None:
    from heritage_align.evaluation.repeats import print_repeats, repeat_systems, repeats_record, write_repeats

    with encoding_bar(len(dataset.image_ids), show=not as_json) as started:
        systems = repeat_systems(configs, dataset, repeats, ks=ks, started=started)
    _name_skipped(systems[0].skipped)
    if out is not None:
        write_repeats(systems, dataset, out)
    if as_json:
        print_json(repeats_record(systems, dataset))
        return
    click.echo(print_repeats(systems))
    if out is not None:
        click.echo(f"wrote {out / 'metrics.json'}, configs beside it")


def _predicted(configs: Sequence[Config], dataset: Dataset, folder: Path, as_json: bool) -> None:
    from heritage_align.evaluation.predictions import predict_systems

    with encoding_bar(len(dataset.image_ids), show=not as_json) as started:
        skipped = predict_systems(configs, dataset, folder, started=started)
    _name_skipped(skipped)
    if as_json:
        print_json({"dataset": dataset.name, "predictions": str(folder), "systems": [c.name for c in configs]})
        return
    click.echo(f"wrote {folder}; {dataset.name} names no right answers: there is nothing to evaluate")


def _name_skipped(skipped: Iterable[tuple[str, str]], names_all: str = "") -> None:
    from heritage_align.data.problems import left_out

    for line in left_out(list(skipped), names_all):
        click.echo(line, err=True)
