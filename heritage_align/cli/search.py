"""``heritage-align search``: answer queries from a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heritage_align.cli.options import (
    PICTURE_SUFFIXES,
    check_file,
    config_argument,
    data_option,
    json_option,
    network_option,
    not_blank,
    print_json,
    read_config,
    set_option,
)
from heritage_align.cli.queries import SUFFIXES, check_source
from heritage_align.errors import ConfigError, DataError

if TYPE_CHECKING:
    from heritage_align.config import Config
    from heritage_align.search import Searcher


@click.command(name="search")
@config_argument
@click.argument("text", required=False)
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@click.option("--image", type=click.Path(path_type=Path), help="A picture as the query instead of TEXT.")
@click.option(
    "--queries",
    metavar="FILE",
    callback=not_blank,
    help="Many queries, one a line (a text, or an id, a tab and a text), - for standard input; answers are JSON lines.",
)
@click.option("--out", type=click.Path(path_type=Path), help="With --queries: a .jsonl or .trec file for the answers.")
@click.option("--phrase", "phrases", multiple=True, help="A phrase of the text; may be given several times.")
@click.option("--top-k", type=int, help="Answers; the config's search.top_k by default.")
@click.option(
    "--candidates", type=int, help="Images that are scored in full; the config's search.candidates by default."
)
@click.option(
    "--min-relevance",
    type=float,
    help="Leave out answers that score no better than this share of unrelated queries' best, e.g. 0.95; after "
    "heritage-align calibrate.",
)
@click.option(
    "--explain",
    "explain_to",
    type=click.Path(path_type=Path),
    help="Picture of why the first answer was found; needs the config's data or --data.",
)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="Write the hits as a IIIF AnnotationPage too (.json): a Web Annotation for each region that answered.",
)
@set_option
@data_option
@network_option
@json_option
def command(
    config: str,
    text: str | None,
    store: Path,
    image: Path | None,
    queries: str | None,
    out: Path | None,
    phrases: tuple[str, ...],
    top_k: int | None,
    candidates: int | None,
    min_relevance: float | None,
    explain_to: Path | None,
    annotations: Path | None,
    overrides: tuple[str, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Find the pictures of a store that TEXT (or --image) asks for, or those of many texts (--queries).

    CONFIG must be the one that the store was made with, or differ only in how it compares.

    Example: heritage-align search laclip.yaml --store store "蓝地缠枝莲纹"

    Example: heritage-align search scan.yaml --store store --queries queries.txt --out answers.trec
    """
    if sum(query is not None for query in (text, image, queries)) != 1:
        raise DataError("search: give a text, --image or --queries, one of the three")
    if text is None and (explain_to is not None or phrases):
        option = "--explain" if explain_to is not None else "--phrase"
        raise ConfigError([f"{option} is about the phrases of a text; it needs a text query"], "search")
    if min_relevance is not None:
        from heritage_align.search.relevance import check_bound

        check_bound(min_relevance)
        if image is not None:
            raise ConfigError(["--min-relevance: calibrations are of text queries, not of --image"], "search")
    if out is not None:
        if queries is None:
            raise ConfigError(["--out: is for the answers to --queries"], "search")
        check_file(out, SUFFIXES)
    if queries is not None:
        check_source(queries)
    if annotations is not None:
        if queries is not None:
            raise ConfigError(["--annotations: is for the hits of one query"], "search")
        check_file(annotations, (".json", ".jsonld"))
    resolved = read_config(config, overrides, data)
    if queries is not None:
        _answer(resolved, store, queries, out, top_k, candidates, min_relevance)
    else:
        _find(resolved, store, text, image, phrases, top_k, candidates, min_relevance, explain_to, annotations, as_json)


def _answer(
    config: Config,
    store: Path,
    queries: str,
    out: Path | None,
    top_k: int | None,
    candidates: int | None,
    min_relevance: float | None,
) -> None:
    from heritage_align.cli.progress import upload_bar
    from heritage_align.cli.queries import answer_queries
    from heritage_align.pipeline import Pipeline
    from heritage_align.search import Searcher

    pipeline = Pipeline(config)
    with upload_bar() as progress:
        searcher = Searcher.open(pipeline, store, progress=progress)
    with searcher:
        _check_calibration(searcher, top_k, candidates, min_relevance)
        count = answer_queries(searcher, queries, out, top_k, candidates, min_relevance)
    if out is not None:
        click.echo(f"wrote {out}: {count} queries")


def _find(
    config: Config,
    store: Path,
    text: str | None,
    image: Path | None,
    phrases: tuple[str, ...],
    top_k: int | None,
    candidates: int | None,
    min_relevance: float | None,
    explain_to: Path | None,
    annotations: Path | None,
    as_json: bool,
) -> None:
    from heritage_align.annotations import page_of_hits, write_page
    from heritage_align.cli.collection import canvas_sizes
    from heritage_align.cli.queries import load_query
    from heritage_align.pipeline import Pipeline, build_dataset
    from heritage_align.report.explain import explain
    from heritage_align.search import Searcher
    from heritage_align.search.relevance import fitting
    from heritage_align.types import TextItem

    if explain_to is not None:
        check_file(explain_to, PICTURE_SUFFIXES)
    query = load_query(image, config) if image is not None else None
    pipeline = Pipeline(config)
    searcher = Searcher.open(pipeline, store, resident=False)
    item = TextItem("query", str(image) if text is None else text, phrases=phrases)
    if query is not None:
        hits = searcher.search_images([query], [str(image)], top_k=top_k).hits(str(image))
    else:
        _check_calibration(searcher, top_k, candidates, min_relevance)
        [hits] = searcher.hits([item], top_k=top_k, candidates=candidates)
    found = hits if min_relevance is None else fitting(hits, min_relevance)
    if as_json:
        record = {"query": text or str(image), "hits": [hit.asdict() for hit in found]}
        print_json(record if found else {**record, "nothing_fits": {"best": hits[0].asdict()}})
    elif not found:
        click.echo(
            f"nothing here fits: the best of {len(searcher.store)} pictures, {hits[0].id} ({hits[0].score:.4f}), has "
            f"relevance {hits[0].relevance:.3f}, less than {min_relevance}"
        )
    else:
        for hit in found:
            relevance = "" if hit.relevance is None else f"{hit.relevance:.3f}  "
            answers = ", ".join(f"{phrase} {score:+.2f}" for phrase, _, score in hit.regions) if hit.regions else ""
            click.echo(f"{hit.rank:>3}  {hit.score:.4f}  {relevance}{hit.id}{'  [' + answers + ']' if answers else ''}")
    if annotations is not None:
        write_page(annotations, page_of_hits([(item, found)], canvas_sizes(config), config.name))
        if not as_json:
            click.echo(f"wrote {annotations}")
    if explain_to is not None and not found:
        click.echo(f"note: {explain_to} is not written: there is no answer to explain", err=True)
    elif explain_to is not None:  # after the hits, which need no picture: an error here does not cost them
        first = found[0].id
        explain(pipeline, build_dataset(config).load_image(first), first, item).picture().save(explain_to)
        if not as_json:
            click.echo(f"wrote {explain_to}")


def _check_calibration(
    searcher: Searcher, top_k: int | None, candidates: int | None, min_relevance: float | None
) -> None:
    """Refuse ``--min-relevance`` without a calibration, before any query; without it say why one is not used."""
    if min_relevance is not None:
        searcher.calibration(top_k, candidates)
    elif searcher.calibration_fault is not None:
        click.echo(f"note: no relevance is said: {searcher.calibration_fault}", err=True)
