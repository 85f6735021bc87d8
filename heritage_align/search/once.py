"""A `Searcher` for one call: what it does, for who asks once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL.Image import Image

from heritage_align.pipeline import Pipeline
from heritage_align.search.searcher import Searcher
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
    """Answer text queries; see `Searcher.search`."""
    return _searcher(pipeline, store).search(items, top_k=top_k, candidates=candidates)


def search_images(
    pipeline: Pipeline, store: Store, images: Sequence[Image], ids: Sequence[str], *, top_k: int | None = None
) -> Run:
    """Answer image queries with similar images; see `Searcher.search_images`."""
    return _searcher(pipeline, store).search_images(images, ids, top_k=top_k)


def rerank(pipeline: Pipeline, store: Store, run: Run, items: Sequence[TextItem] | Mapping[str, TextItem]) -> Run:
    """Rescore every query's candidates of a run; see `Searcher.rerank`."""
    return _searcher(pipeline, store).rerank(run, items)


def rank(
    pipeline: Pipeline, store: Store, query: str | TextItem, candidates: Sequence[str], top_k: int | None = None
) -> list[Hit]:
    """Rank candidate images for one query; see `Searcher.rank`."""
    return _searcher(pipeline, store).rank(query, candidates, top_k)


def _searcher(pipeline: Pipeline, store: Store) -> Searcher:
    # Not resident: one call reads what it asks for once, a GPU would be filled with all of the store.
    return Searcher(pipeline, store, resident=False)
