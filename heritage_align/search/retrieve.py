"""Answer queries from a store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.errors import DataError, StoreError
from heritage_align.pipeline import Pipeline
from heritage_align.planning import takes_features
from heritage_align.search.candidates import order_of, score_candidates
from heritage_align.store import Store
from heritage_align.types import Hit, Run, TextItem


def search(
    pipeline: Pipeline,
    store: Store,
    items: Sequence[TextItem],
    *,
    top_k: int | None = None,
    candidates: int | None = None,
) -> Run:
    """Answer text queries.

    Where the similarity folds (global, LACLIP, WCA) the first stage is the exact answer. Else it picks `candidates`
    images by the global cosine, and the full similarity ranks these.

    Args:
        pipeline: of the configuration that the store was made with.
        store: the features.
        items: queries; their phrases, if they have any, are used by `annotated` fragments.
        top_k: answers a query; `search.top_k` of the configuration by default. A smaller store gives fewer.
        candidates: images handed to the full similarity; `search.candidates` by default, at least `top_k`.

    Raises:
        DataError: no query, a blank one, or a number below 1.
        StoreError: the store holds no images.
    """
    settings = pipeline.config.search
    top_k = settings.top_k if top_k is None else top_k
    candidates = settings.candidates if candidates is None else candidates
    _check(store, top_k, candidates)
    if not items:
        raise DataError("search: there is no query")
    start = time.perf_counter()
    texts = pipeline.encode_texts(items)
    blocks, exact = store.first_stage()
    with torch.inference_mode():
        depth = top_k if exact else max(candidates, top_k)
        rows, scores = pipeline.index.search(blocks, texts.global_features, depth)
        rows, scores = rows.cpu(), scores.cpu()
    if not exact:
        scores = score_candidates(pipeline, store, texts, rows)
        rows, scores = order_of(scores, rows, top_k)
    pipeline.finished("search", len(items), time.perf_counter() - start)
    return _run(pipeline, store, texts.ids, rows, scores)


def search_images(
    pipeline: Pipeline, store: Store, images: Sequence[Image], ids: Sequence[str], *, top_k: int | None = None
) -> Run:
    """Answer image queries with similar images: the cosine of the whole images' vectors.

    A picture that is in the store itself comes first, with a cosine of 1 but for the rounding of the storage.

    Args:
        images: upright RGB pictures.
        ids: names of the queries, by which features that were computed before are looked up.
        top_k: answers a query; `search.top_k` by default.

    Raises:
        DataError: no query, or `top_k` below 1.
        StoreError: the store holds no images.
    """
    top_k = pipeline.config.search.top_k if top_k is None else top_k
    _check(store, top_k, top_k)
    if not images:
        raise DataError("search: there is no query")
    with torch.inference_mode():
        if takes_features(pipeline.config):
            vectors = pipeline.encode_images(images, ids).global_features
        else:
            pixels = torch.stack([pipeline.encoder.prepare(image) for image in images])
            vectors = pipeline.encoder.encode_pixels(pixels).global_features
        rows, scores = pipeline.index.search(store.blocks("global"), vectors, top_k)
    return _run(pipeline, store, tuple(ids), rows.cpu(), scores.cpu())


def _check(store: Store, top_k: int, candidates: int) -> None:
    for name, value in (("top_k", top_k), ("candidates", candidates)):
        if value < 1:
            raise DataError(f"search: {name} is {value}, expected at least 1")
    if not len(store):
        raise StoreError(f"{store.path}: holds no images")


def _run(pipeline: Pipeline, store: Store, ids: tuple[str, ...], rows: Tensor, scores: Tensor) -> Run:
    found = [[store.ids[row] for row in line] for line in rows.tolist()]
    return Run(ids, found, scores.tolist(), tag=pipeline.config.name)


def with_regions(pipeline: Pipeline, store: Store, item: TextItem, run: Run) -> list[Hit]:
    """Return the hits of one query, each with the best region of every phrase where the store has regions."""
    hits = run.hits(item.id)
    texts = pipeline.encode_texts([item])
    explained = []
    for hit in hits:
        images = store.gather(torch.tensor([store.row(hit.id)]), texts.global_features.device)
        if images.regions is None or images.boxes is None or not images.regions.total:
            explained.append(hit)
            continue
        responses = pipeline.similarity.respond(images, texts).float().cpu()
        phrases = texts.phrases[0] if texts.phrases and len(responses) == len(texts.phrases[0]) else (item.text,)
        values, best = responses.max(1)
        boxes = images.boxes[best].tolist()
        answers = tuple((p, tuple(b), float(v)) for p, b, v in zip(phrases, boxes, values))
        explained.append(replace(hit, regions=answers))
    return explained
