"""Turn a comparison of systems into the data of a report page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import torch
from PIL.Image import Image

from heritage_align.errors import HeritageAlignError, ImageError
from heritage_align.evaluation.comparison import SystemOutcome
from heritage_align.evaluation.facts import run_facts
from heritage_align.planning import compares_regions
from heritage_align.protocols import Dataset
from heritage_align.report.explain import Explanation, explain
from heritage_align.report.model import QueryExample, ReportData, SystemAnswers, SystemRow
from heritage_align.types import Hit, TextItem

SHOWN_HITS = 5
EXAMPLES = 6
"""Queries shown: first those on which the systems differ most."""
EXPLAINED = 3
"""Of them, those whose right picture is explained by the best system that can."""


def assemble(
    outcomes: Sequence[SystemOutcome],
    dataset: Dataset,
    *,
    title: str,
    command: str,
    summary: str = "",
) -> ReportData:
    """Gather table, examples, explanations and facts of a comparison.

    Args:
        outcomes: the systems, the baseline first.
        dataset: what was searched.
        title: heading of the page.
        command: the command line that makes it again.
        summary: below the heading.
    """
    first = outcomes[0]
    chosen = _telling_queries(outcomes, EXAMPLES)
    shown = [_example(outcomes, column) for column in chosen]
    needed = {hit.id for example in shown for answer in example.answers for hit in answer.hits}
    readable = set(first.encoded.images.ids)
    needed |= {image_id for example in shown for image_id in sorted(example.right)[:2] if image_id in readable}
    pictures, lacking = _thumbnails(dataset, sorted(needed))
    notes = [f"Left out, cannot be read: {reason}" for _, reason in first.encoded.skipped]
    if lacking:
        notes.append(f"{len(lacking)} of {len(needed)} pictures above are shown by their names alone: {lacking[0]}")
    if any(outcome.encode_seconds is None for outcome in outcomes):
        notes.append("Systems over the same regions were encoded once; that time is shown with each of them.")
    return ReportData(
        title=title,
        created=datetime.now(timezone.utc),
        systems=[_row(outcome) for outcome in outcomes],
        summary=summary,
        dataset=f"{dataset.name}: {len(first.encoded.images)} pictures, {len(first.encoded.items)} texts",
        baseline=first.evaluation.result.system if len(outcomes) > 1 else "",
        examples=shown,
        pictures=pictures,
        explanations=_explanations(outcomes, dataset, [first.encoded.items[c] for c in chosen[:EXPLAINED]]),
        facts=run_facts(first.pipeline.config.runtime.seed),
        configs={o.evaluation.result.system: o.pipeline.config.to_yaml() for o in outcomes},
        notes=notes,
        command=command,
    )


def _thumbnails(dataset: Dataset, image_ids: Sequence[str]) -> tuple[dict[str, Image], list[str]]:
    """Load the pictures that can be read, and say what is wrong with the others: features may come without pictures."""
    pictures, lacking = {}, []
    for image_id in image_ids:
        try:
            pictures[image_id] = dataset.load_image(image_id)
        except ImageError as error:
            lacking.append(str(error))
    return pictures, lacking


def _row(outcome: SystemOutcome) -> SystemRow:
    return SystemRow.from_result(
        outcome.evaluation.result,
        summary=" -> ".join(c.spec.name for c in outcome.pipeline.config.components() if c.spec.kind != "index"),
        encode_seconds=outcome.encoded.seconds,
        score_seconds=outcome.evaluation.seconds,
        tests=outcome.tests,
    )


def _telling_queries(outcomes: Sequence[SystemOutcome], count: int) -> list[int]:
    """Return the columns of queries on which the systems differ most, by the spread of their log ranks."""
    ranks = torch.stack([_right_ranks(outcome) for outcome in outcomes]).float()
    answered = torch.isfinite(ranks).all(0)
    spread = ranks.log().amax(0) - ranks.log().amin(0)
    spread[~answered] = -1.0
    order = spread.argsort(descending=True, stable=True)
    return [int(column) for column in order[:count] if answered[column]]


def _right_ranks(outcome: SystemOutcome) -> torch.Tensor:
    """Return ``(n_texts,)`` ranks from 1 of each text's first right image; inf where there is none."""
    rows = {image_id: row for row, image_id in enumerate(outcome.encoded.images.ids)}
    ranks = torch.full((len(outcome.encoded.items),), torch.inf)
    for column, item in enumerate(outcome.encoded.items):
        right = [rows[i] for i in item.image_ids if i in rows]
        if right:
            scores = outcome.evaluation.t2i_scores[:, column]
            best = scores[right].max()
            ranks[column] = int((scores > best).sum()) + 1
    return ranks


def _example(outcomes: Sequence[SystemOutcome], column: int) -> QueryExample:
    item = outcomes[0].encoded.items[column]
    answers = []
    for outcome in outcomes:
        scores, rows = outcome.evaluation.t2i_scores[:, column].sort(descending=True, stable=True)
        ids = [outcome.encoded.images.ids[row] for row in rows.tolist()]
        hits = [Hit(i, float(s), r) for r, (i, s) in enumerate(zip(ids[:SHOWN_HITS], scores.tolist()), start=1)]
        right = next((r for r, i in enumerate(ids, start=1) if i in item.image_ids), None)
        answers.append(SystemAnswers(outcome.evaluation.result.system, hits, right))
    return QueryExample(item.id, item.text, frozenset(item.image_ids), answers, item.language)


def _explanations(outcomes: Sequence[SystemOutcome], dataset: Dataset, items: Sequence[TextItem]) -> list[Explanation]:
    """Explain the right picture of each text by the best system that can (fragments before whole texts)."""
    able = [o for o in outcomes if compares_regions(o.pipeline.config)]
    able.sort(key=lambda o: (o.pipeline.fragmenter is None, -o.evaluation.result.mean_recall))
    if not able:
        return []
    pictures = []
    for item in items:
        image_id = item.image_ids[0]
        try:
            pictures.append(explain(able[0].pipeline, dataset.load_image(image_id), image_id, item))
        except HeritageAlignError:
            continue  # a picture that cannot be read is among the notes already
    return pictures
