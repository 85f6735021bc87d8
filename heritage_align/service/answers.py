"""From questions to answers, in the batcher's thread: what of a request the searcher is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from heritage_align.encoding.reading import TextsRead, collected
from heritage_align.errors import StoreError
from heritage_align.features import one_image, one_text
from heritage_align.report.explain import answered_phrases
from heritage_align.report.heat import best_regions, counted_regions
from heritage_align.search import Detail, Searcher
from heritage_align.search.relevance import fitting
from heritage_align.service.problems import Refused
from heritage_align.service.served import Opened, Served, refusing
from heritage_align.types import Hit, TextFeatures, TextItem


@dataclass(frozen=True)
class TextQuestion:
    """A text query; those of one `kind` are asked together.

    Attributes:
        text, phrases: as of `TextItem`.
        top_k: answers.
        candidates: pictures handed to the full similarity.
        min_relevance: None asks for all.
    """

    text: str
    phrases: tuple[str, ...]
    top_k: int
    candidates: int
    min_relevance: float | None = None


@dataclass(frozen=True)
class PictureQuestion:
    """A query with pictures, or regions of the store by number, and maybe a text."""

    details: tuple[Detail, ...]
    regions: tuple[tuple[str, int], ...]
    text: TextItem | None
    weight: float
    whole: bool
    top_k: int
    candidates: int


@dataclass(frozen=True)
class RerankQuestion:
    """A text, and pictures to rank: of the store by id, or given ones."""

    query: str
    documents: tuple[str | Image, ...]


@dataclass(frozen=True)
class Found:
    """Answers of a search.

    Attributes:
        store: identity of what was searched.
        hits: best first.
        best: the best hit where none was relevant enough.
        notes: what the user should know.
    """

    store: str
    hits: list[Hit]
    best: Hit | None = None
    notes: tuple[str, ...] = ()


def search_texts(served: Served, questions: Sequence[TextQuestion]) -> list[Found | Refused]:
    """Answer text queries of one number of answers and candidates."""
    return served.use(lambda opened: _search_texts(served, opened, questions))


def _search_texts(served: Served, opened: Opened, questions: Sequence[TextQuestion]) -> list[Found | Refused]:
    first, searcher = questions[0], opened.searcher
    _refuse_empty(served, searcher)
    items = [TextItem(str(n), question.text, phrases=question.phrases) for n, question in enumerate(questions)]
    hits_of = partial(searcher.hits, top_k=first.top_k, candidates=first.candidates)
    bound = first.min_relevance if served.looks_last else None  # of all questions: they are of one kind
    with collected() as read:
        answers = hits_of(items, last_look=bound is None)
        told = bool(read.messages())  # of some: then each is looked at alone
        found = [
            _judged(served, opened, question, hits, _notes(served, question.text) if told else ())
            for question, hits in zip(questions, answers)
        ]
        if bound is None:
            return found
        # What does not fit is not looked at: the others are asked again.
        fits = {n: one for n, one in enumerate(found) if isinstance(one, Found) and one.hits}
        looked = hits_of([items[n] for n in fits], min_relevance=bound) if fits else []
    for (number, one), hits in zip(fits.items(), looked, strict=True):
        found[number] = replace(one, hits=hits)
    return found


def _judged(
    served: Served, opened: Opened, question: TextQuestion, hits: list[Hit], notes: tuple[str, ...]
) -> Found | Refused:
    if question.min_relevance is None:
        return Found(opened.identity, hits, notes=notes)
    try:
        opened.searcher.calibration(question.top_k, question.candidates)
    except StoreError as error:
        return Refused(422, served.told(error))
    found = fitting(hits, question.min_relevance)
    return Found(opened.identity, found, hits[0] if hits and not found else None, notes)


def search_pictures(served: Served, question: PictureQuestion) -> Found:
    """Answer a query with pictures."""
    return served.use(lambda opened: _search_pictures(served, opened, question))


def _search_pictures(served: Served, opened: Opened, question: PictureQuestion) -> Found:
    searcher, notes = opened.searcher, list[str]()
    _refuse_empty(served, searcher)
    top_k, candidates = question.top_k, question.candidates
    with collected() as read:
        if question.regions:
            with refusing(served):
                hits = searcher.search_regions(question.regions, top_k=top_k, candidates=candidates)
                return Found(opened.identity, hits)
        whole = question.whole
        if not whole and not searcher.store.has_regions:
            if len(question.details) > 1:
                raise Refused(422, f"recipe {served.name!r} has no regions; it compares one picture, or one box of it")
            whole = True
            notes.append("the recipe has no regions that a detail could be matched with: whole pictures are compared")
        if whole:
            if len(question.details) > 1:
                raise Refused(422, "whole compares one picture, or one box of it")
            [detail] = question.details
            run = searcher.search_images(
                [detail.crop()], ["picture"], text=question.text, weight=question.weight, top_k=question.top_k
            )
            hits = run.hits("picture")
        else:
            notes += [searcher.note_on_details] if searcher.note_on_details else []
            details, weight = question.details, question.weight
            hits = searcher.search_details(
                details, text=question.text, weight=weight, top_k=top_k, candidates=candidates
            )
    return Found(opened.identity, hits, notes=(*notes, *read.messages()))


def rerank(served: Served, questions: Sequence[RerankQuestion]) -> list[list[float] | Refused]:
    """Return for every question the scores of its documents in their order; -inf for a picture without regions."""
    return served.use(lambda opened: _rerank(served, opened, questions))


def _rerank(served: Served, opened: Opened, questions: Sequence[RerankQuestion]) -> list[list[float] | Refused]:
    searcher = opened.searcher
    found: dict[int, list[float] | Refused] = {}
    rows: dict[int, list[int]] = {}
    for number, question in enumerate(questions):
        try:
            rows[number] = [_row(searcher, place, document) for place, document in enumerate(question.documents)]
        except Refused as error:
            found[number] = error
    items = [TextItem(str(number), questions[number].query) for number in rows]
    if not items:
        return [found[number] for number in range(len(questions))]
    with collected(), torch.inference_mode():
        texts = served.pipeline.encode_texts(items)
        longest = max(map(len, rows.values()))
        padded = torch.tensor([line + [-1] * (longest - len(line)) for line in rows.values()], dtype=torch.int64)
        scores = searcher.score(texts, padded).tolist()
        for line, (number, of_documents) in enumerate(rows.items()):
            values, documents = scores[line][: len(of_documents)], questions[number].documents
            images = [document for document in documents if not isinstance(document, str)]
            if images:
                given = iter(_score_images(served, images, one_text(texts, line)))
                values = [
                    value if isinstance(document, str) else next(given) for value, document in zip(values, documents)
                ]
            found[number] = values
    return [found[number] for number in range(len(questions))]


def _score_images(served: Served, images: Sequence[Image], text: TextFeatures) -> list[float]:
    """Score pictures that are not in the store against one text."""
    with refusing(served):  # of a recipe whose features are read from a file
        features = served.pipeline.encode_images(images, [f"document {number}" for number in range(len(images))])
    scores: list[float] = served.pipeline.score(features, text)[:, 0].tolist()
    return scores


def _row(searcher: Searcher, place: int, document: str | Image) -> int:
    if not isinstance(document, str):
        return -1
    try:
        return searcher.store.row(document)
    except StoreError:
        raise Refused(
            422,
            f"documents.{place}: the store holds no picture {document[:80]!r}; a document is the id of one, or a "
            "picture, and texts are not ranked here",
        ) from None


def explain(served: Served, image_id: str, item: TextItem) -> dict[str, Any]:
    """Say how every region of an image of the store answers every phrase of a text."""
    return served.use(lambda opened: _explain(served, opened, image_id, item))


def _explain(served: Served, opened: Opened, image_id: str, item: TextItem) -> dict[str, Any]:
    searcher, pipeline = opened.searcher, served.pipeline
    row = row_of(opened, image_id)
    with collected(), torch.inference_mode():
        texts = pipeline.encode_texts([item])
        score = float(searcher.score(texts, torch.tensor([[row]]))[0, 0])
        image = one_image(searcher.store.gather(torch.tensor([row]), pipeline.device), 0)
        if image.regions is None or not image.regions.total:
            return {"score": finite(score), "phrases": []}
        responses = pipeline.similarity.respond(image, texts).float().cpu().numpy()
    counted = counted_regions(responses.shape[1], None if image.keep is None else image.keep.cpu().numpy())
    lines = np.where(counted, responses, -np.inf)
    phrases = answered_phrases(pipeline, texts, item, len(responses))
    return {
        "score": finite(score),
        "phrases": [
            {
                "phrase": phrase,
                "region": best,
                "score": finite(float(line[best])),
                "scores": [finite(v) for v in line.tolist()],
            }
            for phrase, best, line in zip(phrases, best_regions(responses, counted), lines)
        ],
    }


def regions_of(opened: Opened, image_id: str) -> list[dict[str, Any]]:
    """Return the regions of an image of the store, boxes as fractions."""
    store = opened.searcher.store
    image = store.gather(torch.tensor([row_of(opened, image_id)]))
    if image.boxes is None:
        return []
    kept = [True] * len(image.boxes) if image.keep is None else image.keep.tolist()
    return [
        {"number": number, "box": [round(value, 6) for value in box], "kept": keep}
        for number, (box, keep) in enumerate(zip(image.boxes.tolist(), kept))
    ]


def row_of(opened: Opened, image_id: str) -> int:
    """Return the row of an image; raises Refused (404) for an unknown one."""
    try:
        return opened.searcher.store.row(image_id)
    except StoreError:
        raise Refused(404, f"the store holds no picture {image_id[:80]!r}") from None


def finite(value: float) -> float | None:
    """Return a score as JSON can have it: -inf, of a picture without regions, is null."""
    return value if math.isfinite(value) else None


def _refuse_empty(served: Served, searcher: Searcher) -> None:
    if not len(searcher.store):
        raise Refused(422, f"the store of recipe {served.name!r} holds no pictures")


def _notes(served: Served, text: str) -> tuple[str, ...]:
    """Return what the encoder does not read of a text."""
    place = "encoder" if served.pipeline.config.text_encoder is None else "text_encoder"
    read = TextsRead()
    read.add(served.pipeline.text_encoder, [TextItem("query", text)], place)
    return tuple(read.messages())
