"""Evaluate several systems on one data set; systems over the same regions share one encoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from heritage_align.config import Config
from heritage_align.evaluation.significance import PairedTest, compare
from heritage_align.evaluation.systems import (
    EncodedDataset,
    Progress,
    SystemEvaluation,
    encode_dataset,
    evaluate_system,
)
from heritage_align.pipeline import Pipeline
from heritage_align.planning import plan
from heritage_align.protocols import Dataset

Started = Callable[[Config], Progress | None]


@dataclass(frozen=True)
class SystemOutcome:
    """One system of a comparison.

    Attributes:
        pipeline: built from its configuration.
        encoded: the data set's features, shared with systems over the same regions.
        evaluation: recall and scores.
        encode_seconds: wall time of encoding; None where an earlier system had encoded the same.
        tests: direction -> ``"R@K"`` -> paired test against the first system; empty for the first.
    """

    pipeline: Pipeline
    encoded: EncodedDataset
    evaluation: SystemEvaluation
    encode_seconds: float | None
    tests: Mapping[str, Mapping[str, PairedTest]]


def compare_systems(
    configs: Sequence[Config],
    dataset: Dataset,
    *,
    ks: Sequence[int] = (1, 5, 10),
    started: Started | None = None,
) -> list[SystemOutcome]:
    """Evaluate systems in their order and test each against the first.

    Args:
        configs: one a system; all plans are checked before the first model loads.
        dataset: images, texts, right answers.
        ks: the cut-offs.
        started: called before a system is encoded; returns what is told of its progress.

    Raises:
        ConfigError: a plan does not fit together.
        DataError: the data set cannot be evaluated (see `encode_dataset` and `evaluate_system`).
    """
    for config in configs:
        plan(config)
    cache: dict[tuple[str, str, str], EncodedDataset] = {}
    outcomes: list[SystemOutcome] = []
    groups = caption_groups(dataset)
    for config in configs:
        pipeline = Pipeline(config)
        # A store may be searched in another precision; a comparison may be one of precisions.
        key = (pipeline.features_key(), pipeline.texts_key(), config.runtime.precision)
        fresh = key not in cache
        progress = started(config) if started is not None else None
        if fresh:
            cache[key] = encode_dataset(pipeline, dataset, progress)
        encoded = cache[key]
        with torch.inference_mode():
            folded = pipeline.similarity.fold(encoded.images)
        encoded = replace(encoded, images=replace(encoded.images, folded=folded))
        evaluation = evaluate_system(pipeline, encoded, ks)
        tests = compare(outcomes[0].evaluation.result, evaluation.result, groups=groups) if outcomes else {}
        outcomes.append(SystemOutcome(pipeline, encoded, evaluation, encoded.seconds if fresh else None, tests))
    return outcomes


def caption_groups(dataset: Dataset) -> dict[str, str]:
    """Return text id -> its first image: captions of one image are not independent queries, and a test that takes
    them for such finds differences that are not there."""
    return {item.id: item.image_ids[0] for item in dataset.texts if item.image_ids}
