"""Answer image queries with texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image

from heritage_align.errors import DataError
from heritage_align.pipeline import Pipeline
from heritage_align.repeated import first_repeated
from heritage_align.types import Run, TextItem


def search_texts(
    pipeline: Pipeline,
    images: Sequence[Image],
    ids: Sequence[str],
    items: Sequence[TextItem],
    *,
    top_k: int | None = None,
) -> Run:
    """Answer image queries with the texts of a list; every text is scored with the full similarity.

    Args:
        images: upright RGB pictures.
        ids: names of the queries.
        items: the texts that are searched; equal scores keep their order.
        top_k: answers a query; `search.top_k` of the configuration by default. A shorter list gives fewer.

    Raises:
        DataError: no query, no text, a blank text, a text's id that occurs twice, or `top_k` below 1.
    """
    top_k = pipeline.config.search.top_k if top_k is None else top_k
    if top_k < 1:
        raise DataError(f"search: top_k is {top_k}, expected at least 1")
    if not images:
        raise DataError("search: there is no query")
    if not items:
        raise DataError("search: there are no texts to search")
    twice = first_repeated([item.id for item in items])
    if twice is not None:
        raise DataError(f"search: text id {twice!r} occurs twice")
    texts = pipeline.encode_texts(items)
    with torch.inference_mode():
        scores = pipeline.score(pipeline.encode_images(images, ids), texts).float().cpu()
    scores, columns = scores.sort(dim=1, descending=True, stable=True)
    found = [[texts.ids[column] for column in line[:top_k]] for line in columns.tolist()]
    return Run(tuple(ids), found, scores[:, :top_k].tolist(), tag=pipeline.config.name)
