"""Score candidates that live in a store: read each needed image once, whatever number of queries ask for it."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align.pipeline import Pipeline
from heritage_align.store import Store
from heritage_align.types import TextFeatures

CHUNK_IMAGES = 4096
"""Images gathered at once: 4096 x 196 patches x 512 in fp16 are 0.8 GB, the bound of a rerank's memory."""


def score_candidates(pipeline: Pipeline, store: Store, texts: TextFeatures, rows: Tensor) -> Tensor:
    """Return fp32 scores ``(n_texts, k)`` of store rows ``(n_texts, k)`` int64; -1 (no candidate) scores -inf."""
    rows = rows.to("cpu", torch.int64)
    scores = torch.full(rows.shape, -torch.inf)
    needed = rows[rows >= 0].unique()  # ascending, as `Store.gather` wants them
    for start in range(0, len(needed), CHUNK_IMAGES):
        chunk = needed[start : start + CHUNK_IMAGES]
        device = texts.global_features.device
        images = store.gather(chunk, device)
        # Position of every candidate among the gathered images, -1 for those outside of this chunk.
        place = torch.searchsorted(chunk, rows).clamp_max(len(chunk) - 1)
        place = torch.where(chunk[place] == rows, place, -1)
        with torch.inference_mode():
            part = pipeline.score(images, texts, place.to(device)).float().cpu()
        scores = torch.where(place >= 0, part, scores)
    return scores


def order_of(scores: Tensor, rows: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Sort candidates by score; ties keep the candidates' order. Returns rows and scores ``(n_texts, top_k)``."""
    values, order = scores.sort(dim=1, descending=True, stable=True)
    return rows.gather(1, order)[:, :top_k], values[:, :top_k]
