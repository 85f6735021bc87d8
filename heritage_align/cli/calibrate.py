"""``heritage-align calibrate``: what a store's scores mean, for ``search --min-relevance``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heritage_align.cli.options import (
    FileOrFolder,
    config_argument,
    data_option,
    json_option,
    not_blank,
    print_json,
    read_config,
    set_option,
)
from heritage_align.cli.queries import batches_of_queries, check_source
from heritage_align.errors import ConfigError

if TYPE_CHECKING:
    from heritage_align.config import Config
    from heritage_align.search import Calibration
    from heritage_align.store import Store
    from heritage_align.types import TextItem

BOUNDS = (0.5, 0.9, 0.95, 0.99)
USUAL = 0.95
"""The bound that the everyday sentences are compared at."""
SCRIPTS = {"any": "all texts", "han": "with Chinese characters", "other": "without"}
CONTROLS = 200
"""Everyday sentences that are asked besides, to see whether the calibration holds for texts of another form."""
TOO_MANY = 0.15
"""Three times what a bound of 0.95 lets pass; of 200 sentences that is no chance."""


@click.command(name="calibrate")
@config_argument
@click.option("--store", type=FileOrFolder(), required=True, help="Folder of the store.")
@click.option(
    "--texts",
    metavar="FILE",
    callback=not_blank,
    help="Texts, one a line, that nothing in the store answers; - for standard input.",
)
@click.option("--everyday", is_flag=True, help="Ask built-in sentences of everyday life, Chinese and English.")
@click.option("--count", type=int, default=1000, show_default=True, help="Texts that are asked at most.")
@set_option
@data_option
@json_option
def command(
    config: str,
    store: Path,
    texts: str | None,
    everyday: bool,
    count: int,
    overrides: tuple[str, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Find out how well texts score that nothing in a store answers, and keep it beside the store.

    From then on `search` says with every answer its relevance, the share of such texts whose best answer scores lower,
    and with --min-relevance that nothing fits. The texts are those of --data (or of CONFIG's data), each asked of all
    pictures but its own; where the store holds no picture of CONFIG's data, everyday sentences. A store is calibrated
    for every recipe by itself, and again when its pictures change.

    Example: heritage-align calibrate laclip.yaml --store store --data captions.csv

    Example: heritage-align calibrate laclip.yaml --store store --everyday
    """
    if sum([data is not None, texts is not None, everyday]) > 1:
        raise ConfigError(["give one of --data, --texts and --everyday"], "calibrate")
    if texts is not None:
        check_source(texts)
    resolved = read_config(config, overrides, data)

    from tqdm import tqdm

    from heritage_align.pipeline import Pipeline
    from heritage_align.search import Searcher, calibrate, everyday_texts, write_calibration

    pipeline = Pipeline(resolved)
    with Searcher.open(pipeline, store) as searcher:
        items, source = _unrelated(resolved, searcher.store, texts, everyday=everyday, given=data is not None)
        with tqdm(total=min(count, len(items)), desc="asking", unit="text", leave=False, disable=None) as bar:
            found = calibrate(searcher, items, source, count=count, progress=bar.update)
        control = calibrate(searcher, everyday_texts(), "everyday sentences", count=CONTROLS)
        path = write_calibration(pipeline, searcher.store, found)
        images = len(searcher.store)
    passed = _passed(found, control)
    laws = {script: law for script, law in found.laws.items() if script != "any" or len(found.laws) < 3}
    if as_json:
        kept = {
            script: {str(b): law.share_known(b) for b in BOUNDS} if law.known else None for script, law in laws.items()
        }
        record = {"file": str(path), "source": source, "texts": len(found.laws["any"].best), "images": images}
        print_json({**record, "everyday_passed": passed, "kept": kept})
        return
    click.echo(f"asked {images} pictures for {len(found.laws['any'].best)} of {source}; the best answers score")
    for script, law in laws.items():
        middle, high = (law.best[int(len(law.best) * share)] for share in (0.5, 0.95))
        click.echo(
            f"  {SCRIPTS[script]}: {middle:.4f} in the middle, {high:.4f} at 95 of 100, {law.best[-1]:.4f} at most"
        )
        if law.known:
            kept_at = ", ".join(f"{law.share_known(bound):.0%} at {bound}" for bound in BOUNDS)
            click.echo(f"    with their own pictures an answer is left by search --min-relevance to {kept_at}")
    click.echo(f"of {CONTROLS} everyday sentences {passed:.0%} pass {USUAL}")
    click.echo(f"wrote {path}")
    if passed > TOO_MANY:
        click.echo(
            f"note: more than {TOO_MANY:.0%}: this recipe scores texts of another form on another scale; calibrate it "
            "with texts like the queries that you expect (--texts)",
            err=True,
        )


def _passed(found: Calibration, control: Calibration) -> float:
    """Return the share of everyday sentences that pass `USUAL`, each by the law of its script."""
    passed = [
        found.laws.get(script, found.laws["any"]).relevance(score) >= USUAL
        for script in ("han", "other")
        for score in control.laws[script].best
    ]
    return sum(passed) / len(passed)


def _unrelated(
    config: Config, store: Store, texts: str | None, *, everyday: bool, given: bool
) -> tuple[list[TextItem], str]:
    """Return texts that nothing in the store answers, or that nothing answers but their `image_ids`; and their name."""
    from heritage_align.pipeline import build_dataset
    from heritage_align.search import everyday_texts, known_texts

    if texts is not None:
        return [item for batch in batches_of_queries(texts) for item in batch], f"the texts of {texts}"
    if not everyday and (given or config.data is not None):
        dataset = build_dataset(config)
        items = known_texts(dataset, store)
        if items or given:
            return items, f"the texts of {dataset.name}, each without its own pictures"
    return everyday_texts(), "the everyday sentences"
