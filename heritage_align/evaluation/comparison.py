"""Evaluate several systems on one data set; systems over the same regions share one encoding."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from heritage_align.config import Config
from heritage_align.errors import ConfigError
from heritage_align.evaluation.significance import PairedTest, compare
from heritage_align.evaluation.systems import (
    EncodedDataset,
    Progress,
    SystemEvaluation,
    encode_dataset,
    evaluate_system,
    mask_dataset,
    read_dataset,
)
from heritage_align.pipeline import Pipeline
from heritage_align.planning import plan, refuse_texts
from heritage_align.protocols import Dataset
from heritage_align.search import Searcher
from heritage_align.types import TextFeatures

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


def refuse_equal_names(configs: Sequence[Config]) -> None:
    """Raise ConfigError where systems share a name, by which tables and files tell them apart; says how to rename one.

    Two seeds of one recipe have its name both.
    """
    sources: dict[str, list[str]] = {}
    for config in configs:
        sources.setdefault(config.name, []).append(config.source)
    problems = []
    for name, places in sources.items():
        if len(places) > 1:
            last, other = places[-1].removeprefix("recipe "), f"{name}-{len(places)}"
            fill = f"heritage-align config fill {shlex.quote(last)} --set {shlex.quote(f'name={other}')}"
            problems.append(
                f"name: {len(places)} configs have the same name {name!r} ({', '.join(places)}), and results are kept "
                f"by name. One under another name: {fill} > {shlex.quote(f'{other}.yaml')}; a run gets a name of its "
                f"own by train ... --set {shlex.quote(f'name={other}')}"
            )
    if problems:
        raise ConfigError(problems, "systems")


def check_systems(configs: Sequence[Config]) -> None:
    """Raise ConfigError, before a model loads, where systems cannot be evaluated on texts or share a name."""
    refuse_equal_names(configs)
    for config in configs:
        plan(config)
        refuse_texts(config)


def compare_systems(
    configs: Sequence[Config],
    dataset: Dataset,
    *,
    ks: Sequence[int] = (1, 5, 10),
    started: Started | None = None,
    store: str | Path | None = None,
) -> list[SystemOutcome]:
    """Evaluate systems in their order and test each against the first.

    Args:
        configs: one a system; all plans are checked before the first model loads.
        dataset: images, texts, right answers.
        ks: the cut-offs.
        started: called before a system is encoded; returns what is told of its progress.
        store: holds the pictures' features, made with a configuration that differs from these only in how it compares.

    Raises:
        ConfigError: a plan does not fit together, or two systems have one name.
        DataError: the data set cannot be evaluated (see `encode_dataset` and `evaluate_system`).
    """
    check_systems(configs)
    outcomes: list[SystemOutcome] = []
    groups = caption_groups(dataset)
    for pipeline, encoded, evaluation, seconds in evaluate_each(
        map(Pipeline, configs), dataset, ks=ks, started=started, store=store
    ):
        tests = compare(outcomes[0].evaluation.result, evaluation.result, groups=groups) if outcomes else {}
        outcomes.append(SystemOutcome(pipeline, encoded, evaluation, seconds, tests))
    return outcomes


def evaluate_each(
    pipelines: Iterable[Pipeline],
    dataset: Dataset,
    *,
    ks: Sequence[int] = (1, 5, 10),
    started: Started | None = None,
    texts: dict[tuple[str, str], TextFeatures] | None = None,
    store: str | Path | None = None,
) -> Iterator[tuple[Pipeline, EncodedDataset, SystemEvaluation, float | None]]:
    """Evaluate pipelines one by one; those over the same regions share one encoding.

    Where an earlier pipeline differs only in that it masks no region, its features are taken and only the mask is made.

    Args:
        pipelines: in their order.
        dataset: images, texts, right answers.
        ks: the cut-offs.
        started: called before a system is encoded; returns what is told of its progress.
        texts: features of the data set's texts by ``(texts_key, precision)``: used where they are there, and filled.
        store: holds the pictures' features; no picture is encoded.

    Yields:
        The pipeline, the features, recall and scores, and the seconds of encoding (None where it was shared).
    """
    cache: dict[tuple[str, str, str], EncodedDataset] = {}
    unmasked: dict[tuple[str, str], EncodedDataset] = {}
    texts = {} if texts is None else texts
    for pipeline in pipelines:
        # A store may be searched in another precision; a comparison may be one of precisions.
        precision = pipeline.config.runtime.precision
        key = (pipeline.features_key(), pipeline.texts_key(), precision)
        fresh = key not in cache
        if store is not None:
            with Searcher.open(pipeline, store, resident=False) as searcher:
                encoded = read_dataset(searcher, dataset, texts=texts.get(key[1:]))
                texts[key[1:]] = encoded.texts
                evaluation = evaluate_system(pipeline, encoded, ks, searcher, dataset)
            yield pipeline, encoded, evaluation, encoded.seconds
            continue
        progress = started(pipeline.config) if started is not None else None
        if fresh:
            features, told = (pipeline.features_key(masked=False), precision), texts.get(key[1:])
            masked = None
            if pipeline.masks_regions and features in unmasked:
                masked = mask_dataset(pipeline, unmasked[features], dataset, progress, told)
            cache[key] = masked or encode_dataset(pipeline, dataset, progress, texts=told)
            texts[key[1:]] = cache[key].texts
            if not pipeline.masks_regions:
                unmasked[features] = cache[key]
        encoded = cache[key]
        with torch.inference_mode():
            folded = pipeline.similarity.fold(encoded.images)
        encoded = replace(encoded, images=replace(encoded.images, folded=folded))
        yield (
            pipeline,
            encoded,
            evaluate_system(pipeline, encoded, ks, dataset=dataset),
            encoded.seconds if fresh else None,
        )


def caption_groups(dataset: Dataset) -> dict[str, str]:
    """Return text id -> its first image: captions of one image are not independent queries, and a test that takes
    them for such finds differences that are not there."""
    return {item.id: item.image_ids[0] for item in dataset.texts if item.image_ids}
