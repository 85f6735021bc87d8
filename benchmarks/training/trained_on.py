"""An encoder that was trained on, beside the one that its training began from: every system on the validation split.

    python benchmarks/training/trained_on.py --before motif-small runs/crops runs/crops-again

Each run is a folder of ``heritage-align train`` with a model.safetensors of a cn_clip architecture. A test compares per
query, captions of one picture together (paired randomisation, two-sided), against the first model. Recalls are
percentages; `epochs` is what validation during the training said. The validation split is what the best of several
seeds is chosen by, so these numbers flatter that one; the test split is for what is shipped. The result goes to
benchmarks/results/longer-training.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.data import Motifs
from heritage_align.evaluation.comparison import SystemOutcome, compare_systems
from heritage_align.recipes import load_recipe

RESULT = Path(__file__).parents[1] / "results" / "longer-training.json"
RECIPES = ("global", "laclip", "laclip-plus", "late-interaction", "scan", "bfan")


def main() -> None:
    """Evaluate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--before", default="motif-small", help="the model that training began from")
    parser.add_argument("--artworks", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = {"before": options.before, **{run.name: str(run / "model.safetensors") for run in options.runs}}
    data: Any = Motifs("val", artworks=options.artworks)
    systems: dict[str, dict[str, Any]] = {}
    for recipe in RECIPES:
        configs = [
            load_recipe(recipe, ["runtime.device=cpu", f"name={name}", f"encoder.model={model}"])
            for name, model in models.items()
        ]
        systems[recipe] = dict(map(_row, compare_systems(configs, data)))
        print(
            f"{recipe:17}", *(f"{name} {row['mean_recall']:.1f}" for name, row in systems[recipe].items()), flush=True
        )
    result = {
        "command": "python benchmarks/training/trained_on.py",
        "settings": {
            "validation": f"motifs, split val, {options.artworks} artworks",
            "p": "paired randomisation of mean recall against before, captions of one picture together",
        },
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "epochs": {run.name: [_epoch(line) for line in _history(run)] for run in options.runs},
        "systems": systems,
        "goals": [],
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")


def _row(outcome: SystemOutcome) -> tuple[str, dict[str, Any]]:
    result = outcome.evaluation.result
    tests = {way: found["mean_recall"] for way, found in outcome.tests.items()}
    return result.system, {
        "mean_recall": round(result.mean_recall, 2),
        **{
            way: {f"R@{k}": round(recall, 2) for k, recall in found.recall.items()}
            for way, found in result.directions.items()
        },
        **({"difference": {way: round(test.difference, 2) for way, test in tests.items()}} if tests else {}),
        **({"p": {way: float(f"{test.p_value:.2g}") for way, test in tests.items()}} if tests else {}),
    }


def _history(run: Path) -> list[str]:
    return (run / "history.jsonl").read_text(encoding="utf-8").splitlines()


def _epoch(line: str) -> dict[str, float]:
    found = json.loads(line)
    return {"epoch": found["epoch"], "seconds": found["seconds"], "loss": found["loss"], "recall": found["recall"]}


if __name__ == "__main__":
    main()
