"""``heritage-align absent``: pictures in which no region answers a phrase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from heritage_align.cli.options import config_argument, json_option, print_json, read_config, set_option
from heritage_align.plugin import ConfigError

BATCH = 256
"""Pictures looked at together."""


@click.command(name="absent")
@config_argument
@click.argument("text")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@click.option(
    "--below", type=float, default=0.3, show_default=True, help="A phrase is absent if no region scores this much."
)
@set_option
@json_option
def command(config: str, text: str, store: Path, below: float, overrides: tuple[str, ...], as_json: bool) -> None:
    """Name the pictures of a store that lack a phrase of TEXT, with the score of its best region.

    CONFIG is the one that the store was made with. Its fragmenter makes the phrases.

    Example: heritage-align absent scan --store store "blue pine trees, purple daisy" --below 0.4
    """
    import torch

    from heritage_align import Pipeline, TextItem
    from heritage_align.plugin import needs
    from heritage_align.search import Searcher

    resolved = read_config(config, overrides)
    if "image.regions" not in needs(resolved.similarity):
        name = resolved.similarity.spec.name
        raise ConfigError([f"similarity.name: {name!r} does not say which region answers a phrase"], resolved.source)
    pipeline = Pipeline(resolved)
    item = TextItem("text", text)
    texts = pipeline.encode_texts([item])
    found: list[dict[str, Any]] = []
    with Searcher.open(pipeline, store, resident=False) as searcher:
        for rows in torch.arange(len(searcher.store)).split(BATCH):
            [answers] = searcher.regions(rows[None], texts, [item])
            for row, regions in zip(rows.tolist(), answers):
                lacking = {phrase: score for phrase, _, score in regions if score < below}
                if lacking or not regions:
                    found.append({"image": searcher.store.ids[row], "phrases": lacking})
    if as_json:
        print_json({"text": text, "below": below, "pictures": found})
        return
    for picture in found:
        scores = ", ".join(f"{phrase} {score:+.2f}" for phrase, score in picture["phrases"].items())
        click.echo(f"{picture['image']}  {scores or 'no regions'}")
    click.echo(f"{len(found)} of {len(searcher.store)} pictures", err=True)
