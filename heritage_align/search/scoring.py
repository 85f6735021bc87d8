"""Score candidates of a store: one interface, and the implementations for where the features lie."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from heritage_align.errors import StoreError
from heritage_align.features import dot
from heritage_align.pipeline import Pipeline
from heritage_align.planning import needs
from heritage_align.search.workers import Workers
from heritage_align.store import Store
from heritage_align.types import ImageFeatures, TextFeatures

GATHERED_BYTES = 2**29
"""Regions copied at once where a similarity does not score in place: the bound of a rerank's memory."""
PIECE = 128
"""Candidates of one query that a thread scores at once: enough that the call's 40 microseconds do not show, few enough
that threads end together."""
PICKED_BYTES = 2**26
"""fp32 vectors copied at once for dot products."""


class CandidateScorer(Protocol):
    """Scores rows of a store."""

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return fp32 ``(n_texts, k)`` on some device.

        Args:
            texts: features of the queries.
            rows: ``(n_texts, k)`` int64 rows of the store, on any device; -1 scores -inf.
        """

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Return fp32 ``(n_images, n_texts)`` on the CPU."""


class Holders(CandidateScorer, Protocol):
    """What a searcher asks where others hold its store: rows are those of the whole store."""

    def nearest(self, name: str, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return rows and scores ``(n_queries, min(k, n))`` on the CPU; see `Searcher.nearest`."""

    def close(self) -> None:
        """Let the store go."""


class Wanted(NamedTuple):
    """What a similarity reads of images besides their regions and masks."""

    global_features: bool
    factors: bool


def wanted_by(pipeline: Pipeline, store: Store) -> Wanted:
    """Return what the pipeline's similarity reads; factors only if every shard has them."""
    names = {name.removesuffix("?") for name in needs(pipeline.config.similarity)}
    return Wanted("image.global" in names, "image.factor" in names and store.has_factors)


def vector_scores(store: Store, name: str, queries: Tensor, rows: Tensor) -> Tensor:
    """Return fp32 ``(n_queries, k)`` on the CPU: dot products of queries with chosen vectors, of which alone is read.

    Args:
        store: whose vectors.
        name: ``global`` or ``folded``.
        queries: ``(n_queries, dim)``.
        rows: ``(n_queries, k)`` int64 rows of the store; -1 scores -inf.
    """
    rows, queries = rows.to("cpu", torch.int64), queries.cpu()
    scores = torch.full(rows.shape, -torch.inf)
    step = max(1, PICKED_BYTES // (4 * store.manifest.dim * max(1, rows.shape[1])))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        needed, place = rows[part].clamp_min(0).unique(return_inverse=True)
        vectors = store.vectors(name, needed)
        scores[part] = dot(vectors, queries[part], torch.where(rows[part] < 0, -1, place))
    return scores


class FoldedScorer:
    """Scores of a similarity that folds: dot products with one stored vector an image; no region is read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._name = store.first_stage_name

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_texts, k)``; see `CandidateScorer`."""
        return vector_scores(self._store, self._name, texts.global_features, rows)

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Return ``(n_images, n_texts)``; see `CandidateScorer`."""
        queries = texts.global_features.cpu()
        return torch.cat([dot(block, queries, None) for block in self._store.blocks(self._name)])


class MappedScorer:
    """Scores of a similarity that works in place: one call a shard on its mapped regions, nothing is copied."""

    def __init__(self, pipeline: Pipeline, store: Store) -> None:
        self._pipeline, self._store = pipeline, store
        self._global_features = wanted_by(pipeline, store).global_features
        self._workers = Workers()

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_texts, k)``; see `CandidateScorer`."""
        # In ascending order the candidates of a shard lie side by side, and those of -1 before all others.
        ordered, order = rows.to("cpu", torch.int64).sort(dim=1)
        starts = self._store.starts
        bounds = torch.searchsorted(ordered, starts.expand(len(ordered), -1).contiguous())
        asked = (bounds[:, 1:] > bounds[:, :-1]).any(0).nonzero().flatten().tolist()
        sorted_scores = torch.full(ordered.shape, -torch.inf)

        def score_one_text(images: ImageFeatures, first_row: int, places: slice) -> None:
            local = ordered[:, places] - first_row
            sorted_scores[:, places] = self._pipeline.score(images, texts, local)

        def score_texts(images: ImageFeatures, first_row: int, first: Tensor, last: Tensor) -> None:
            places = first[:, None] + torch.arange(int((last - first).max()))
            inside = places < last[:, None]
            places.clamp_max_(ordered.shape[1] - 1)
            local = torch.where(inside, ordered.gather(1, places) - first_row, -1)
            part = self._pipeline.score(images, texts, local)
            queries = torch.arange(len(ordered))[:, None].expand_as(places)
            sorted_scores[queries[inside], places[inside]] = part[inside]

        tasks: list[Callable[[], None]] = []
        for number in asked:
            images = self._store.shard_features(number, global_features=self._global_features)
            start = int(starts[number])
            if len(ordered) > 1:
                tasks.append(partial(score_texts, images, start, bounds[:, number], bounds[:, number + 1]))
                continue
            first, last = int(bounds[0, number]), int(bounds[0, number + 1])
            for piece in range(first, last, PIECE):
                tasks.append(partial(score_one_text, images, start, slice(piece, min(last, piece + PIECE))))
        self._workers.run(tasks)
        return torch.empty_like(sorted_scores).scatter_(1, order, sorted_scores)

    def close(self) -> None:
        """End the threads; the next use starts them again."""
        self._workers.close()

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Return ``(n_images, n_texts)``; see `CandidateScorer`."""
        shards = (
            self._store.shard_features(number, global_features=self._global_features)
            for number in range(len(self._store.starts) - 1)
        )
        return torch.cat([self._pipeline.score(images, texts) for images in shards])


class GatheredScorer:
    """Scores of any similarity: copies the candidates' features, each once however many queries ask for it."""

    def __init__(self, pipeline: Pipeline, store: Store) -> None:
        self._pipeline, self._store = pipeline, store

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_texts, k)``; see `CandidateScorer`."""
        rows = rows.to("cpu", torch.int64)
        device = texts.global_features.device
        scores = torch.full(rows.shape, -torch.inf)
        needed = asked_rows(rows, len(self._store))
        for chunk in chunks_of(needed, self._store.region_bytes(needed), GATHERED_BYTES):
            place = places_in(chunk, rows)
            part = self._pipeline.score(self._store.gather(chunk, device), texts, place.to(device)).float().cpu()
            scores = torch.where(place >= 0, part, scores)
        return scores

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Return ``(n_images, n_texts)``; see `CandidateScorer`."""
        device = texts.global_features.device
        everything = torch.arange(len(self._store))
        chunks = chunks_of(everything, self._store.region_bytes(everything), GATHERED_BYTES)
        return torch.cat(
            [self._pipeline.score(self._store.gather(rows, device), texts).float().cpu() for rows in chunks]
        )


def chunks_of(rows: Tensor, sizes: Tensor, nbytes: int) -> list[Tensor]:
    """Cut rows into runs whose regions take at most `nbytes`, or one image where that is more.

    Args:
        rows: ``(n,)`` ascending.
        sizes: ``(n,)`` what the regions of each take (`Store.region_bytes`).
        nbytes: of a run.
    """
    if not len(rows):
        return []
    ends = sizes.cumsum(0)
    cuts, start = [], 0
    while start < len(rows):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(ends, before + nbytes, right=True)))
        cuts.append(rows[start:stop])
        start = stop
    return cuts


def asked_rows(rows: Tensor, count: int) -> Tensor:
    """Return which of a store's `count` rows are asked for, ascending and each once; -1 is none."""
    if count > 16 * rows.numel():
        return rows[rows >= 0].unique()
    asked = torch.zeros(count, dtype=torch.bool)  # a fifth of the time of `unique` for 64 x 1000 of 3,000 rows
    asked[rows[rows >= 0]] = True
    return asked.nonzero().flatten()


def places_in(chunk: Tensor, rows: Tensor) -> Tensor:
    """Return where each of `rows` stands in the ascending `chunk`, -1 for those outside of it."""
    place = torch.searchsorted(chunk, rows).clamp_max(len(chunk) - 1)
    return torch.where(chunk[place] == rows, place, -1)


def refuse_not_finite(store: Store, rows: Tensor, scores: Tensor) -> None:
    """Raise StoreError, naming image and shard, if a score is NaN or positive infinity: its features are damaged."""
    if bool((scores < torch.inf).all()):
        return
    at = (~(scores < torch.inf)).nonzero()[0].tolist()
    row = int(rows[tuple(at)])
    raise StoreError(
        f"{store.shard_path(row)}: image {store.ids[row]!r} scores {float(scores[tuple(at)])}: its features are "
        f"damaged, or the query's are not finite; look with heritage-align index verify {store.path}"
    )


def to_host(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors on the CPU; from a GPU all of them for one wait."""
    if all(tensor.is_cpu for tensor in tensors):
        return tensors
    copies = tuple(torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True) for t in tensors)
    torch.cuda.current_stream(next(t.device for t in tensors if not t.is_cpu)).synchronize()
    return copies
