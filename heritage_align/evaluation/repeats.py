"""The same systems at several seeds of the run: LACLIP's crops are random, and one draw is one sample of its recall.

WCA reports mean and standard deviation over 20 runs (Li et al. 2024, code); LACLIP reports one (Yuan et al. 2025).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heritage_align.config import Config
from heritage_align.errors import DataError
from heritage_align.evaluation.comparison import Started, caption_groups, check_systems, evaluate_each
from heritage_align.evaluation.facts import run_facts
from heritage_align.evaluation.metrics import EvaluationResult
from heritage_align.evaluation.results import paired_record, tested
from heritage_align.evaluation.significance import PairedTest, compare_means
from heritage_align.evaluation.table import RecallTable, recall_table
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import Dataset
from heritage_align.types import TextFeatures


@dataclass(frozen=True)
class RepeatedSystem:
    """One system at several seeds.

    Attributes:
        config: its configuration, at the first seed.
        seeds: the seeds.
        results: one a seed. Those of a system that draws nothing are one and the same object.
        draws: whether scores differ between the first two seeds.
        encode_seconds: mean wall time of encoding the data set once; None where another system had encoded the same.
        skipped: ``(image id, reason)`` of pictures that could not be read.
        tests: direction -> ``"R@K"`` -> paired test against the first system (`compare_means`); empty for the first.
    """

    config: Config
    seeds: tuple[int, ...]
    results: tuple[EvaluationResult, ...]
    draws: bool
    encode_seconds: float | None
    skipped: tuple[tuple[str, str], ...]
    tests: Mapping[str, Mapping[str, PairedTest]]


def repeat_systems(
    configs: Sequence[Config],
    dataset: Dataset,
    repeats: int,
    *,
    ks: Sequence[int] = (1, 5, 10),
    started: Started | None = None,
) -> list[RepeatedSystem]:
    """Evaluate systems at seeds ``runtime.seed, runtime.seed + 1, ...`` and test each against the first.

    Models are loaded and texts encoded once. A system whose scores at the second seed are those at the first, to the
    bit, draws nothing, and is not evaluated again.

    Args:
        configs: one a system; all plans are checked before the first model loads.
        dataset: images, texts, right answers; the same at every seed.
        repeats: number of seeds, at least 2.
        ks: the cut-offs.
        started: called before a system is encoded; returns what is told of its progress.

    Raises:
        ValueError: fewer than 2 repeats.
        ConfigError: a plan does not fit together, or two systems have one name.
        DataError: the data set cannot be evaluated.
    """
    if repeats < 2:
        raise ValueError(f"repeats: expected at least 2, got {repeats}")
    check_systems(configs)
    pipelines = [Pipeline(config) for config in configs]
    texts: dict[tuple[str, str], TextFeatures] = {}
    results: list[list[EvaluationResult]] = [[] for _ in configs]
    seconds: list[list[float]] = [[] for _ in configs]
    first_scores = {}
    skipped: list[tuple[tuple[str, str], ...]] = []
    drawing = list(range(len(configs)))
    for number in range(repeats):
        again = [p.at_seed(p.config.runtime.seed + number) if number else p for p in (pipelines[i] for i in drawing)]
        still = []
        evaluated = evaluate_each(again, dataset, ks=ks, started=started, texts=texts)
        for place, (_, encoded, evaluation, took) in zip(drawing, evaluated):
            results[place].append(evaluation.result)
            seconds[place] += [] if took is None else [took]
            if number == 0:
                first_scores[place] = evaluation.scores
                skipped.append(encoded.skipped)
            if number != 1 or not evaluation.scores.equal(first_scores.pop(place)):
                still.append(place)
        drawing = still
    groups = caption_groups(dataset)
    whole = [tuple(found if i in drawing else found[:1] * repeats) for i, found in enumerate(results)]
    return [
        RepeatedSystem(
            config,
            tuple(config.runtime.seed + number for number in range(repeats)),
            whole[i],
            i in drawing,
            float(np.mean(seconds[i])) if seconds[i] else None,
            skipped[i],
            compare_means(whole[0], whole[i], groups=groups) if i else {},
        )
        for i, config in enumerate(configs)
    ]


def print_repeats(systems: Sequence[RepeatedSystem]) -> str:
    """Return the table of means and standard deviations, and the paired tests against the first system."""
    lines = [_table(systems).to_text(), ""]
    for system in systems:
        seeds = f"seeds {system.seeds[0]} to {system.seeds[-1]}" if system.draws else "draws nothing: one evaluation"
        encode = "shared" if system.encode_seconds is None else f"{system.encode_seconds:.1f} s a seed"
        lines.append(f"{system.config.name:<18} {seeds}, encode {encode}{tested(system.tests)}")
    lines.append("mean ± standard deviation (n - 1) over seeds")
    if len(systems) > 1:
        first = systems[0].config.name
        lines.append(
            f"mean recall against {first}, percentage points; p: paired randomisation over queries, each with its mean "
            "over seeds, two-sided"
        )
    return "\n".join(lines)


def repeats_record(systems: Sequence[RepeatedSystem], dataset: Dataset) -> dict[str, Any]:
    """Return everything measured, JSON-ready: means and deviations, and the numbers of every seed."""
    table = json.loads(_table(systems).to_json())
    return {
        "dataset": dataset.name,
        "images": len(dataset.image_ids) - len(systems[0].skipped),
        "texts": len(dataset.texts),
        "skipped": [{"image_id": i, "reason": reason} for i, reason in systems[0].skipped],
        "systems": [
            {
                **row,
                "seeds": list(system.seeds),
                "draws": system.draws,
                "encode_seconds": system.encode_seconds,
                "tests_against_first": {
                    direction: {key: paired_record(test) for key, test in tests.items()}
                    for direction, tests in system.tests.items()
                },
                "results": [result.asdict() for result in system.results],
            }
            for row, system in zip(table, systems)
        ],
        "facts": run_facts(systems[0].seeds[0]),
    }


def write_repeats(systems: Sequence[RepeatedSystem], dataset: Dataset, folder: Path) -> None:
    """Write metrics.json and ``<system>.yaml``; raises DataError where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = json.dumps(repeats_record(systems, dataset), ensure_ascii=False, indent=2)
        (folder / "metrics.json").write_text(record + "\n", encoding="utf-8")
        for system in systems:
            (folder / f"{system.config.name}.yaml").write_text(system.config.to_yaml(), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _table(systems: Sequence[RepeatedSystem]) -> RecallTable:
    return recall_table([result for system in systems for result in system.results])
