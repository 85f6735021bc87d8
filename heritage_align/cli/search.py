"""``heritage-align search``: answer queries from a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heritage_align.cli.annotated import Annotations, annotation_options, check_annotations
from heritage_align.cli.details import check_boxes, load_details, place_of
from heritage_align.cli.network import network_option
from heritage_align.cli.options import (
    PICTURE_SUFFIXES,
    FileOrFolder,
    check_file,
    config_argument,
    data_option,
    has_words,
    json_option,
    not_blank,
    phrase_option,
    print_json,
    read_config,
    set_option,
)
from heritage_align.cli.queries import SUFFIXES, check_source
from heritage_align.document import read_override
from heritage_align.errors import ConfigError, DataError, PluginError

if TYPE_CHECKING:
    from heritage_align.config import Config
    from heritage_align.search import Detail, Searcher
    from heritage_align.types import Hit


@click.command(name="search")
@config_argument
@click.argument("text", required=False)
@click.option("--store", type=FileOrFolder(), required=True, help="Folder of the store.")
@click.option(
    "--image",
    "images",
    multiple=True,
    help="A picture, or the id of one of the data, as the query: it is looked for among the regions of the store's "
    "pictures. Several are looked for together.",
)
@click.option(
    "--box",
    "boxes",
    metavar="X,Y,W,H",
    multiple=True,
    help="The part of --image that is looked for, in pixels, or pct:X,Y,W,H in per cent; several of one picture, or "
    "one for each.",
)
@click.option("--whole", is_flag=True, help="Compare --image with whole pictures, not with their regions.")
@click.option(
    "--no-last-look",
    is_flag=True,
    help="Rank the answers to --image by their vectors alone: quicker, and without opening a picture.",
)
@click.option("--text", "besides", callback=has_words, help="With --image: what the pictures should show besides.")
@click.option("--weight", type=float, help="Of --text, 0 to 1; 0.5 by default.")
@click.option(
    "--queries",
    metavar="FILE",
    callback=not_blank,
    help="Many queries, one a line (a text, or an id, a tab and a text), - for standard input; answers are JSON lines.",
)
@click.option("--out", type=FileOrFolder(), help="With --queries: a .jsonl or .trec file for the answers.")
@phrase_option
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
    type=FileOrFolder(),
    help="Picture of why the first answer was found, where the store's pictures can be opened (--data says where).",
)
@annotation_options
@set_option
@data_option
@network_option
@json_option
def command(
    config: str,
    text: str | None,
    store: Path,
    images: tuple[str, ...],
    boxes: tuple[str, ...],
    whole: bool,
    no_last_look: bool,
    besides: str | None,
    weight: float | None,
    queries: str | None,
    out: Path | None,
    phrases: tuple[str, ...],
    top_k: int | None,
    candidates: int | None,
    min_relevance: float | None,
    explain_to: Path | None,
    annotations: Path | None,
    annotated_manifest: Path | None,
    overrides: tuple[str, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Find the pictures of a store that TEXT (or --image) asks for, or those of many texts (--queries).

    A picture is a detail that other pictures may show; each answer says where. The best answers are looked at and
    ranked by the detail's shapes, where the store's pictures can be opened (--data, the config's data, or where they
    were when the store was made). With --whole, or where the store has no regions, it is a picture that others are
    like.

    CONFIG must be the one that the store was made with, or differ only in how it compares.

    Example: heritage-align search laclip.yaml --store store "蓝地缠枝莲纹"

    Example: heritage-align search scan.yaml --store store --queries queries.txt --out answers.trec

    Example: heritage-align search scan.yaml --store store --image plate.jpg --box 400,120,180,180 --text "blue ground"
    """
    if sum(map(bool, (text is not None, images, queries is not None))) != 1:
        raise DataError("search: give a text, --image or --queries, one of the three")
    if text is None and (explain_to is not None or phrases):
        option = "--explain" if explain_to is not None else "--phrase"
        raise ConfigError([f"{option} is about the phrases of a text; it needs a text query"], "search")
    _check_details(images, boxes, whole=whole, no_last_look=no_last_look, besides=besides, weight=weight)
    parts = check_boxes(boxes, len(images))
    if min_relevance is not None:
        from heritage_align.search.relevance import check_bound

        check_bound(min_relevance)
        if images:
            raise ConfigError(["--min-relevance: calibrations are of text queries, not of --image"], "search")
    if out is not None:
        if queries is None:
            raise ConfigError(["--out: is for the answers to --queries"], "search")
        check_file(out, SUFFIXES)
    if queries is not None:
        check_source(queries)
    for option, path in (("--annotations", annotations), ("--annotated-manifest", annotated_manifest)):
        if path is not None and queries is not None:
            raise ConfigError([f"{option}: is for the hits of one query"], "search")
    check_annotations(annotations, annotated_manifest)
    resolved = read_config(config, overrides, data)
    written = Annotations(annotations, annotated_manifest, resolved)
    if queries is not None:
        _answer(resolved, store, queries, out, top_k, candidates, min_relevance)
    elif images:
        details = load_details(images, parts, resolved)
        weighed = 0.5 if weight is None else weight
        look = not no_last_look and ("search.last", None) not in map(read_override, overrides)
        hits = _find_alike(resolved, store, details, besides, weighed, top_k, candidates, whole=whole, look=look)
        asked = _asked(details, besides, weighed)
        _show(asked, hits, as_json=as_json, boxes=not whole)
        _annotate(written, resolved, asked["query"], hits, as_json=as_json)
    else:
        assert text is not None
        _find(resolved, store, text, phrases, top_k, candidates, min_relevance, explain_to, written, as_json)


def _check_details(
    images: Sequence[str],
    boxes: Sequence[str],
    *,
    whole: bool,
    no_last_look: bool,
    besides: str | None,
    weight: float | None,
) -> None:
    faults = []
    if not images:
        given = {"--box": bool(boxes), "--whole": whole, "--no-last-look": no_last_look}
        given |= {"--text": besides is not None, "--weight": weight is not None}
        faults += [f"{option}: is about a picture; it needs --image" for option, there in given.items() if there]
    elif whole and len(boxes or images) > 1:
        faults.append("--whole: compares one picture, or one --box of it")
    if not all(image.strip() for image in images):
        faults.append("--image: is empty; name a picture")
    if images and weight is not None and besides is None:
        faults.append("--weight: is that of --text, which is missing")
    if weight is not None and not 0 <= weight <= 1:
        faults.append(f"--weight: expected 0 to 1, got {weight}")
    if faults:
        raise ConfigError(faults, "search")


def _find_alike(
    config: Config,
    store: Path,
    details: Sequence[Detail],
    text: str | None,
    weight: float,
    top_k: int | None,
    candidates: int | None,
    *,
    whole: bool,
    look: bool,
) -> list[Hit]:
    from heritage_align.pipeline import Pipeline
    from heritage_align.search import Searcher

    offered = False
    if look and not whole:
        config, offered = _looking(config)
    searcher = Searcher.open(Pipeline(config), store, resident=False)
    if not whole and len(details) == 1 and not searcher.store.has_regions:
        said = "whole pictures are compared, as with --whole; recipe late-interaction or scan indexes regions"
        click.echo(f"note: {store} has no regions that a detail could be matched with: {said}", err=True)
        whole = True
    if not whole:
        if offered and (fault := searcher.last_look_fault):
            look = _not_looked(fault)
        hits = searcher.search_details(
            details, text=text, weight=weight, top_k=top_k, candidates=candidates, last_look=look
        )
        if hits and hits[0].last == 0:
            said = "no picture that was looked at shows the detail itself; the answers are alike by their vectors"
            click.echo(f"note: {said}", err=True)
        return hits
    [detail] = details
    run = searcher.search_images([detail.crop()], [detail.name], text=text, weight=weight, top_k=top_k)
    return run.hits(detail.name)


def _looking(config: Config) -> tuple[Config, bool]:
    """Return a configuration that looks for details, and whether it is not the user's own that does."""
    from heritage_align.search.last_look import looking_for_details

    try:
        looking = looking_for_details(config)
    except ConfigError as error:
        return config, _not_looked("; ".join(error.problems))
    except PluginError as error:
        return config, _not_looked(str(error))
    return looking, looking is not config


def _not_looked(fault: str) -> bool:
    click.echo(f"note: the best answers are ranked by their vectors, and not looked at: {fault}", err=True)
    return False


def _asked(details: Sequence[Detail], text: str | None, weight: float) -> dict[str, Any]:
    """Return what of a query is printed before its hits."""
    pictures = [{"image": detail.name, **({"box": list(detail.box)} if detail.box else {})} for detail in details]
    query = ", ".join(dict.fromkeys(map(_written, details)))
    besides = {} if text is None else {"text": text, "weight": weight}
    return {"query": query, "pictures": pictures, **besides}


def _written(detail: Detail) -> str:
    """Return a picture's name, with its box as a media fragment."""
    if detail.box is None:
        return detail.name
    x0, y0, x1, y1 = detail.box
    return f"{detail.name}#xywh={x0:g},{y0:g},{x1 - x0:g},{y1 - y0:g}"


def _show(asked: dict[str, Any], hits: Sequence[Hit], *, as_json: bool, boxes: bool) -> None:
    if as_json:
        print_json({**asked, "hits": [hit.asdict() for hit in hits]})
        return
    for hit in hits:
        answers = ", ".join(
            f"{phrase} {score:+.2f}" + (f" {place_of(box)}" if boxes else "") for phrase, box, score in hit.regions
        )
        relevance = "" if hit.relevance is None else f"{hit.relevance:.3f}  "
        last = "" if hit.last is None else f"  last {hit.last:.4f}"
        click.echo(
            f"{hit.rank:>3}  {hit.score:.4f}  {relevance}{hit.id}{last}{'  [' + answers + ']' if answers else ''}"
        )


def _show_nothing(
    asked: dict[str, Any], best: Hit, pictures: int, min_relevance: float | None, *, as_json: bool
) -> None:
    if as_json:
        print_json({**asked, "hits": [], "nothing_fits": {"best": best.asdict()}})
    else:
        click.echo(
            f"nothing here fits: the best of {pictures} pictures, {best.id} ({best.score:.4f}), has "
            f"relevance {best.relevance:.3f}, less than {min_relevance}"
        )


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


def _annotate(written: Annotations, config: Config, query: str, hits: list[Hit], *, as_json: bool) -> None:
    from heritage_align.annotations import page_of_hits
    from heritage_align.types import TextItem

    answers = [(TextItem("query", query), hits)]
    written.write(lambda sizes: page_of_hits(answers, sizes, config.name), quiet=as_json)


def _find(
    config: Config,
    store: Path,
    text: str,
    phrases: tuple[str, ...],
    top_k: int | None,
    candidates: int | None,
    min_relevance: float | None,
    explain_to: Path | None,
    written: Annotations,
    as_json: bool,
) -> None:
    from heritage_align.pipeline import Pipeline
    from heritage_align.report.explain import explain
    from heritage_align.search import Searcher
    from heritage_align.search.pictures import pictures_of
    from heritage_align.types import TextItem

    if explain_to is not None:
        check_file(explain_to, PICTURE_SUFFIXES)
    pipeline = Pipeline(config)
    searcher = Searcher.open(pipeline, store, resident=False)
    item = TextItem("query", text, phrases=phrases)
    _check_calibration(searcher, top_k, candidates, min_relevance)
    [found] = searcher.hits([item], top_k=top_k, candidates=candidates, min_relevance=min_relevance)
    if not found:
        [[best, *_]] = searcher.hits([item], top_k=top_k, candidates=candidates, last_look=False)
        _show_nothing({"query": text}, best, len(searcher.store), min_relevance, as_json=as_json)
    else:
        _show({"query": text}, found, as_json=as_json, boxes=False)
    _annotate(written, config, text, found, as_json=as_json)
    if explain_to is not None and not found:
        click.echo(f"note: {explain_to} is not written: there is no answer to explain", err=True)
    elif explain_to is not None:  # after the hits, which need no picture: an error here does not cost them
        first, dataset = found[0].id, pictures_of(config, searcher.store, "--explain: draws on a picture")
        explain(pipeline, dataset.load_image(first), first, item).picture().save(explain_to)
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
