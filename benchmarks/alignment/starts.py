"""What the recipes find before their first step: a warm start's parts, by cross-validation.

    python benchmarks/alignment/starts.py --data pairs.jsonl --features region_features.safetensors --texts zh en \\
        --out benchmarks/results/warm-starts.json

Only rows of split train are read, in folds by picture; the tenth of each training part that a run would validate on is
left out of the start, as it is in a run on folds. Text models other than the bag of words are silent at the start, and
are left out. The number is mean recall in percent (R@1, 5, 10, both directions) over the folds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from heritage_align_plugins.alignment.trainer import build_task
from split_table import PLACES, training_rows

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.cli.collection import read_training_config
from heritage_align.evaluation import evaluate_scores
from heritage_align.pipeline import build_dataset
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext
from heritage_align.training import Material
from heritage_align.training.job import TrainingJob
from heritage_align.training.material import material_of
from heritage_align.training.run import trainer_of, training_data


class Start(NamedTuple):
    """A recipe with settings of its model, and of anything else."""

    recipe: str
    model: str = ""
    others: tuple[str, ...] = ()


OWN = "regions=own phrases=own sentence=mean own_view=0"
MEAN = "similarity.aggregate=mean"
GLOBAL = "similarity.terms.0."
STARTS = {
    "cca, of 1,024 dimensions": Start(
        "scan", "regions=own phrases=own sentence=whole own_view=0", ("similarity={name: global}",)
    ),
    "scan by means, regions and phrases of their own": Start("scan", OWN, (MEAN,)),
    "... regions in their picture, share 1": Start("scan", f"{OWN} regions=in_picture region_share=1", (MEAN,)),
    "... share 0.25": Start("scan", f"{OWN} regions=in_picture", (MEAN,)),
    "... and phrases in their text": Start("scan", f"{OWN} regions=in_picture phrases=in_text", (MEAN,)),
    "... and a second view (scan by means)": Start("scan", "", (MEAN,)),
    "scan, log-sum-exp": Start("scan"),
    "bfan": Start("bfan"),
    "scan-gb by means": Start("scan-gb", "", (f"{GLOBAL}similarity.aggregate=mean",)),
    "scan-gb, log-sum-exp": Start("scan-gb"),
    "scan-gb, log-sum-exp, weight 0.3": Start("scan-gb", "", (f"{GLOBAL}weight=0.3",)),
    "bfan-sf-gb without SIFT": Start("bfan-sf-gb", "", ("filters=[{name: bfan_focal, mode: sheng}]",)),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--texts", nargs="+", default=["text"], help="columns of texts")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in STARTS}
    with tempfile.TemporaryDirectory() as work:
        table = training_rows(options.data, Path(work) / "train.jsonl")
        for column in options.texts:
            material: dict[int, tuple[Material, Material]] = {}
            for name, start in STARTS.items():
                for fold in range(1, options.folds + 1):
                    recall = _recall(start, column, fold, table, options, material)
                    found[name].setdefault(column, []).append(recall)
                print(f"{column:4} {name:45} {sum(found[name][column]) / options.folds:.2f}", flush=True)
    document = {
        "settings": {"data": options.data.name, "texts": options.texts, "folds": options.folds},
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "mean_recall": found,
        "goals": [],
    }
    options.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _recall(
    start: Start, column: str, fold: int, table: Path, options: argparse.Namespace,
    material: dict[int, tuple[Material, Material]],
) -> float:  # fmt: skip
    """Return the mean recall of a start on a fold's test part; `material` is shared between starts."""
    model = ("text=[bag]", *start.model.split())
    overrides = (
        *(f"{place}.of.text={column}" for place in PLACES), *start.others, *(f"train.model.{part}" for part in model),
    )  # fmt: skip
    config = read_training_config(start.recipe, overrides, str(table), str(options.features), f"{fold}/{options.folds}")
    registry = default_registry()
    folder = table.parent / "run"
    train, validation = training_data(config, registry)
    context = BuildContext(torch.device("cpu"), "fp32", config.runtime.seed)
    job = TrainingJob(config, train, validation, folder, registry=registry, quiet=True, context=context)
    if fold not in material:
        material[fold] = (job.material("train"), material_of(job.front_end, build_dataset(config), folder / "test"))
    learned, test = material[fold]
    settings = trainer_of(config).settings
    settings = settings.model_copy(update={"model": settings.model.resolved(True)})  # type: ignore[attr-defined]
    task = build_task(job, settings, learned, None, None)  # type: ignore[arg-type]
    return evaluate_scores(task.scores(test), test.images.ids, test.items).mean_recall


if __name__ == "__main__":
    main()
