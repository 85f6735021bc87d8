"""Small real collections: attention systems against the CCA baseline, folds by artwork.

    python benchmarks/alignment/small_data.py --data dishes.jsonl --features region_features.safetensors \\
        --phrases ingredients --group title --folds 3

Any table of pictures and texts with a file of region features does. Systems are recipes; every one is trained by
`run_training` on the training part of a fold and evaluated on its test part. Recalls come with the level of chance, and
a paired randomisation test against the first system over the queries of all folds, artworks flipped as a whole.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.cli.collection import read_training_config
from heritage_align.config import load_config
from heritage_align.evaluation.chance import chance_recall
from heritage_align.evaluation.cross_validation import compare_folds, summarise
from heritage_align.evaluation.metrics import KS, EvaluationResult
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.training.run import TRAINED, run_training


def main() -> None:
    """Train, evaluate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="table of pictures and texts")
    parser.add_argument("--features", type=Path, required=True, help="file of region features")
    parser.add_argument("--text", help="column of the texts, where it is not text")
    parser.add_argument("--phrases", help="column of the phrases")
    parser.add_argument("--group", help="column of what must not be split: the artwork, the dish")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", default=["cca", "scan-gb-small"])
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="for every recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results: dict[str, list[EvaluationResult]] = {}
    groups: dict[str, str] = {}
    chance: dict[int, list[float]] = {k: [] for k in KS}
    sizes = []
    for recipe in options.recipes:
        for fold in range(1, options.folds + 1):
            folder = options.work / recipe / f"fold{fold}"
            config = read_training_config(
                recipe, _overrides(options), str(options.data), str(options.features), f"{fold}/{options.folds}"
            )
            run_training(config, folder, quiet=True)
            pipeline = Pipeline(load_config(folder / TRAINED))
            test = build_dataset(pipeline.config)
            groups |= test.artwork_of  # type: ignore[attr-defined]
            groups |= {item.id: test.artwork_of[item.image_ids[0]] for item in test.texts}  # type: ignore[attr-defined]
            results.setdefault(recipe, []).append(evaluate_system(pipeline, encode_dataset(pipeline, test)).result)
            if recipe == options.recipes[0]:
                sizes.append(len(test.image_ids))
                for k, level in chance_recall([len(i.image_ids) for i in test.texts], len(test.image_ids), KS).items():
                    chance[k].append(level)
    level = {k: sum(values) / len(values) for k, values in chance.items()}
    rows: list[dict[str, Any]] = []
    print(f"{'chance':15} t2i {' / '.join(f'{level[k]:.1f}' for k in KS)}  ({sizes} pictures)")
    for recipe, folds in results.items():
        summary = summarise(folds)
        row: dict[str, Any] = {"recipe": recipe, **summary.asdict()}
        line = []
        for direction in ("t2i", "i2t"):
            cells = [summary.recall(direction, k) for k in KS]
            line.append(f"{direction} {' / '.join(f'{c.mean:.1f}±{c.std or 0:.1f}' for c in cells if c is not None)}")
        if recipe != options.recipes[0]:
            tests = compare_folds(results[options.recipes[0]], folds, groups=groups)
            row["tests"] = {
                d: {key: {"difference": t.difference, "p_value": t.p_value} for key, t in found.items()}
                for d, found in tests.items()
            }
            mean = tests["t2i"]["mean_recall"]
            line.append(f"t2i against {options.recipes[0]} {mean.difference:+.1f} (p {mean.p_value:.3f})")
        print(f"{recipe:15} {'  '.join(line)}")
        rows.append(row)
    document = {
        "settings": {
            key: value.name if isinstance(value, Path) else value
            for key, value in vars(options).items()
            if key not in ("work", "out")
        },
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "test_pictures": sizes,
        "chance": {f"R@{k}": value for k, value in level.items()},
        "systems": rows,
    }
    options.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _overrides(options: argparse.Namespace) -> tuple[str, ...]:
    columns = {key: getattr(options, key) for key in ("text", "phrases", "group") if getattr(options, key)}
    places = ("data.of", "train.data.of", "train.validation.of")
    return (*(f"{place}.{key}={name}" for place in places for key, name in columns.items()), *options.overrides)


if __name__ == "__main__":
    main()
