"""Recipes on one collection that has its own split: recall, minutes, and paired tests against the first at equal data.

    python benchmarks/alignment/split_table.py --data pairs.jsonl --features region_features.safetensors \\
        --texts zh en --systems cca scan-gb-small "no memory=scan-gb-small:train.model.pair_memory=null" --seeds 3

    python benchmarks/alignment/split_table.py --motifs 120 --folds 3 --systems cca scan bfan-sf-gb

With ``--folds 3`` the rows of split test are not read: those of train are tested in folds by picture, pooled. That is
how settings were chosen, and with three times the queries it sees smaller differences. With ``--motifs`` it is that
many artworks of the motif collection, in folds by artwork, and region features with keypoints are made of its windows.

A system is a recipe, or ``name=recipe:setting=value,setting=value``. Every one learns from the rows of split train (and
decides on val by itself, where it wants to) and is measured once on those of test, for every column of texts and every
seed. Tests are paired randomisation over queries, pictures flipped as a whole, on every query's share of hits over the
seeds (`heritage_align.evaluation.significance.compare_means`); and one over both directions, on each picture's mean
recall as a query and as the answer.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import motif_folds
import numpy as np
import torch

from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.cli.collection import read_training_config
from heritage_align.config import load_config
from heritage_align.evaluation.comparison import caption_groups
from heritage_align.evaluation.cross_validation import pool_folds, spread
from heritage_align.evaluation.metrics import EvaluationResult
from heritage_align.evaluation.significance import compare_means, paired_randomisation
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.pipeline import Pipeline
from heritage_align.training.run import TRAINED, run_training

LEVEL = 0.01
PLACES = ("train.data", "train.validation", "data")


class System(NamedTuple):
    """What is trained: a label, a recipe, settings of it."""

    label: str
    recipe: str
    overrides: tuple[str, ...]


def main() -> None:
    """Train, evaluate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="table of pictures and texts with splits")
    parser.add_argument("--features", type=Path, help="file of region features")
    parser.add_argument("--motifs", dest="artworks", type=int, help="artworks of the motif collection instead of these")
    parser.add_argument("--texts", nargs="+", default=["text"], help="columns of texts, a table each")
    parser.add_argument("--systems", nargs="+", default=["cca", "scan-gb-small"], help="the first is the baseline")
    parser.add_argument("--better", nargs="*", default=[], help="systems whose goal it is to be above the first")
    parser.add_argument("--level", nargs="*", default=[], help="systems whose goal it is not to be below the first")
    parser.add_argument("--folds", type=int, default=0, help="test on folds of split train; 0: on split test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs, emptied first")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    if options.artworks is None and (options.data is None or options.features is None):
        parser.error("give --data and --features, or --motifs")
    if options.artworks is not None and (options.data or options.features or not options.folds):
        parser.error("--motifs has its own data, and goes with --folds")
    torch.set_num_threads(options.threads)
    systems = [_system(text) for text in options.systems]
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    if options.artworks is not None:
        options.texts = ["zh"]
        options.features, _ = motif_folds.base_features(options)
    elif options.folds:
        options.data = training_rows(options.data, options.work / "train.jsonl")
    tables: dict[str, Any] = {}
    goals: list[dict[str, Any]] = []
    for column in options.texts:
        rows, base = [], None
        for system in systems:
            repeats, minutes, groups = _measure(system, column, options)
            base = base or repeats
            row = _row(system, repeats, minutes)
            if system is not systems[0]:
                found = compare_means(base, repeats, groups=groups)
                row["tests"] = {
                    d: {key: {"difference": t.difference, "p_value": t.p_value} for key, t in tests.items()}
                    for d, tests in found.items()
                }
                whole = paired_randomisation(_by_picture(base, groups), _by_picture(repeats, groups))
                row["tests"]["both"] = {"mean_recall": {"difference": whole.difference, "p_value": whole.p_value}}
                if system.label in options.better:
                    goals += _goals(column, system, systems[0], row)
                if system.label in options.level:
                    goals.append(_level(column, system, systems[0], whole.difference))
            rows.append(row)
            print(_line(column, row), flush=True)
        tables[column] = rows
    settings = {k: v.name if isinstance(v, Path) else v for k, v in vars(options).items() if k not in ("work", "out")}
    document = {
        "settings": settings,
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "texts": tables,
        "goals": goals,
    }
    options.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _system(text: str) -> System:
    label, named, rest = text.partition("=")
    if not named:
        return System(text, text, ())
    recipe, _, overrides = rest.partition(":")
    return System(label, recipe, tuple(part for part in overrides.split(",") if part))


def _measure(
    system: System, column: str, options: argparse.Namespace
) -> tuple[list[EvaluationResult], list[float], dict[str, str]]:
    """Train and evaluate with every seed; returns results, minutes of training and each query's picture."""
    repeats, minutes, groups = [], [], {}
    for seed in range(options.seeds):
        parts = []
        for fold in range(1, options.folds + 1) if options.folds else [None]:
            folder = options.work / column / system.label.replace(" ", "-") / f"{seed}-{fold}"
            overrides = (f"train.data.text={column}", f"runtime.seed={seed}", *system.overrides)
            if fold is not None:
                part = f".of.text={column}"
                if options.data is None:
                    part = f".of={json.dumps(motif_folds.whole(options))}"
                overrides = (*(place + part for place in PLACES), *overrides[1:])
            config = read_training_config(
                system.recipe,
                overrides,
                options.data and str(options.data),
                str(options.features),
                fold and f"{fold}/{options.folds}",
            )
            start = time.perf_counter()
            run_training(config, folder, quiet=True)
            minutes.append((time.perf_counter() - start) / 60)
            pipeline = Pipeline(load_config(folder / TRAINED))
            test = pipeline.dataset()
            prefix = "" if fold is None else f"{len(parts)}/"
            groups |= {prefix + text: prefix + picture for text, picture in caption_groups(test).items()}
            parts.append(evaluate_system(pipeline, encode_dataset(pipeline, test)).result)
        repeats.append(pool_folds(parts) if options.folds else parts[0])
    return repeats, minutes, groups


def training_rows(table: Path, out: Path) -> Path:
    """Write the rows of split train, without that column, beside the runs."""
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    kept = [{key: value for key, value in row.items() if key != "split"} for row in rows if row["split"] == "train"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
    return out


def _by_picture(repeats: list[EvaluationResult], groups: dict[str, str]) -> list[float]:
    """Return each picture's recall in percent, mean over cut-offs and seeds: half as a query, half as the answer."""
    halves: dict[str, dict[str, list[float]]] = {}
    for repeat in repeats:
        for name, direction in repeat.directions.items():
            hits = np.mean([direction.ranks.hits(k) for k in direction.ks], axis=0) * 100
            for query, value in zip(direction.ranks.query_ids, hits.tolist()):
                halves.setdefault(groups.get(query, query), {}).setdefault(name, []).append(value)
    return [float(np.mean([np.mean(values) for values in halves[picture].values()])) for picture in sorted(halves)]


def _row(system: System, repeats: list[EvaluationResult], minutes: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"system": system.label, "recipe": system.recipe, "overrides": list(system.overrides)}
    row["minutes"] = round(sum(minutes) / len(minutes), 2)
    for name in repeats[0].directions:
        results = [repeat.directions[name] for repeat in repeats]
        row[name] = {f"R@{k}": [result.recall[k] for result in results] for k in results[0].ks}
    row["mean_recall"] = [repeat.mean_recall for repeat in repeats]
    return row


def _goals(column: str, system: System, base: System, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a goal a direction: above the baseline with p below `LEVEL`; below it every p is a miss."""
    goals = []
    for direction, tests in row["tests"].items():
        test = tests["mean_recall"]
        p_value = test["p_value"] if test["difference"] > 0 else 1.0
        text = f"{column}: {system.label} above {base.label}, mean recall {direction}: p"
        goals.append(
            judged_value(
                text, p_value, LEVEL, LEVEL / 10, at_least=False, commit=commit(), difference=test["difference"]
            )
        )
    return goals


def _level(column: str, system: System, base: System, difference: float) -> dict[str, Any]:
    """Return the goal to find no less than the baseline, and as a stretch one point more."""
    text = f"{column}: {system.label} above {base.label}, points of mean recall of both directions"
    return judged_value(text, difference, 0.0, 1.0, at_least=True, commit=commit())


def _line(column: str, row: dict[str, Any]) -> str:
    parts = [f"{column:4} {row['system']:24}"]
    for direction in ("t2i", "i2t"):
        cells = [spread(values) for values in row[direction].values()]
        parts.append(f"{direction} {' / '.join(f'{c.mean:.1f}' for c in cells if c is not None)}")
    mean = spread(row["mean_recall"])
    assert mean is not None
    parts.append(f"mean {mean.mean:.2f} ± {mean.std or 0:.2f}  {row['minutes']:.1f} min")
    for direction, tests in row.get("tests", {}).items():
        parts.append(f"{direction} {tests['mean_recall']['difference']:+.2f} (p {tests['mean_recall']['p_value']:.4f})")
    return "  ".join(parts)


if __name__ == "__main__":
    main()
