"""``heritage-align rerank``: TREC run in, TREC run out."""

from __future__ import annotations

from pathlib import Path

import click

from heritage_align.cli.options import FileOrFolder, check_file, config_argument, data_option, read_config, set_option


@click.command(name="rerank")
@config_argument
@click.argument("run", type=FileOrFolder())
@click.option("--store", type=FileOrFolder(), required=True, help="Folder of the store.")
@click.option("--out", type=FileOrFolder(), required=True, help="Run to write.")
@set_option
@data_option
def command(config: str, run: Path, store: Path, out: Path, overrides: tuple[str, ...], data: str | None) -> None:
    """Rescore the candidates of a TREC RUN with CONFIG's similarity; queries are the data set's texts, by id.

    Example: heritage-align rerank scan first-stage.trec --store store --data captions.jsonl --out scan.trec
    """
    from heritage_align.pipeline import Pipeline, build_dataset
    from heritage_align.runs import from_trec, to_trec
    from heritage_align.search import Searcher

    check_file(out)
    resolved = read_config(config, overrides, data)
    before = from_trec(run)
    texts = {item.id: item for item in build_dataset(resolved).texts}
    pipeline = Pipeline(resolved)
    after = Searcher.open(pipeline, store, resident=False).rerank(before, texts)
    to_trec(after, out)
    click.echo(f"wrote {out}: {len(after.query_ids)} queries")
