"""Every check, one module a kind of component."""

from __future__ import annotations

from heritage_align.testing.checks import (
    building,
    dataset,
    encoder,
    executor,
    filter,
    fragmenter,
    index,
    proposer,
    reranker,
    settings,
    similarity,
    trainer,
)
from heritage_align.testing.checks.base import Check, collect

ALL_CHECKS: tuple[Check, ...] = collect(
    settings, building, encoder, proposer, filter, fragmenter, similarity, index, reranker, dataset, trainer, executor
)

__all__ = ["ALL_CHECKS", "Check"]
