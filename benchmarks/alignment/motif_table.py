"""The Table-4 comparison of Sheng et al. 2021 on the motif collection: every model, cross-validated by artwork.

    python benchmarks/alignment/motif_table.py

Pictures are those of the motif collection's test split, so the frozen image tower of the shipped encoder, which makes
the region features, has seen none of their designs. Regions are 14 windows a picture; the text model is a GRU from
scratch. Training sees whole captions split into phrases and whole pictures split into windows, never which phrase
belongs to which window or box. Evaluation is by the golden pairs of the held-out fold: image annotation (box to
phrases) and image search (phrase to boxes) by inner products in the common space, and, beside the paper's tasks,
whole captions to whole pictures by the attention that was trained.

Everything is written to benchmarks/results/motif-table4.json; folds that are done already are kept in --work, so a
killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import motif_folds as shared
import torch

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.config import load_config
from heritage_align.evaluation.bleu import BleuScores, annotation_bleu
from heritage_align.evaluation.cross_validation import summarise
from heritage_align.evaluation.fragments import FragmentEvaluation
from heritage_align.evaluation.golden import GoldenSet
from heritage_align.evaluation.metrics import EvaluationResult
from heritage_align.evaluation.model_comparison import compare_models, p_value_paper_table
from heritage_align.evaluation.paper_tables import bleu_paper_table, recall_paper_table
from heritage_align.pipeline import build_dataset
from heritage_align.training.run import run_training

RESULT = Path(__file__).parents[1] / "results" / "motif-table4.json"
RECIPES = ("scan", "bfan", "scan-sf", "scan-gb", "scan-sf-gb", "bfan-sf", "bfan-sf-gb")
DIRECTIONS = ("t2i", "i2t", "ens")
PAIRS = (
    ("scan", "scan-sf"),
    ("scan", "scan-gb"),
    ("scan-gb", "scan-sf-gb"),
    ("bfan", "bfan-sf"),
    ("bfan-sf", "bfan-sf-gb"),
)
"""Compared within each direction: what the SIFT filter and the global level add. BFAN is its code's form (lambda 20,
means), BFAN_SF the paper's equations (lambda 9, log-sum-exp), so that pair differs in more than the filter."""


def models() -> list[tuple[str, str]]:
    """Return (recipe, direction) of every row of the table; DeepFrag scores both directions at once."""
    return [("deepfrag", "ens"), *((recipe, way) for way in DIRECTIONS for recipe in RECIPES)]


def main() -> None:
    """Run, print, write."""
    options = shared.arguments(__doc__, Path("runs/motif-table4"), RESULT).parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    features, base = shared.base_features(options)
    golden = shared.golden_of(options)
    rows: dict[str, list[dict[str, Any]]] = {}
    fragments: dict[str, list[FragmentEvaluation]] = {}
    pictures: dict[str, list[EvaluationResult]] = {}
    bleu: dict[str, list[BleuScores]] = {}
    for recipe, way in models():
        name = recipe if recipe == "deepfrag" else f"{recipe} {way}"
        for fold in range(1, options.folds + 1):
            folder = options.work / name.replace(" ", "-") / f"fold{fold}"
            document = shared.fold_document(recipe, way, features, fold, options)
            outcome = run_training(load_config(document), folder, quiet=True)
            trained = shared.trained_config(folder)
            test = build_dataset(trained)
            part, rows_of, _ = golden.select(test.image_ids)
            evaluation = shared.measured_fragments(folder / "model.safetensors", part, base[rows_of], name)
            fragments.setdefault(name, []).append(evaluation)
            pictures.setdefault(name, []).append(shared.measured_pictures(trained, test, name))
            bleu.setdefault(name, []).append(annotation_bleu(evaluation.scores, part, "zh"))
            rows.setdefault(name, []).append(_row(folder, outcome.metrics))
            whole = shared.short(pictures[name][-1])
            print(f"{name:16} fold {fold}: {shared.short(evaluation.result)}  pictures {whole}", flush=True)
    _report(options, golden, fragments, pictures, bleu, rows)


def _row(folder: Path, metrics: Any) -> dict[str, Any]:
    return {
        "best_epoch": metrics["epoch"],
        "validation_recall": metrics.get("recall"),
        "seconds_per_epoch": shared.training_seconds(folder),
    }


def _report(
    options: argparse.Namespace, golden: GoldenSet, fragments: dict[str, list[FragmentEvaluation]],
    pictures: dict[str, list[EvaluationResult]], bleu: dict[str, list[BleuScores]], rows: dict[str, list[Any]],
) -> None:  # fmt: skip
    groups, of_pictures = shared.artwork_groups(options, golden)
    title = f"motifs, {2 * options.artworks} pictures of {options.artworks} artworks, {options.folds} folds"
    table = recall_paper_table(
        {"": [summarise(folds) for folds in fragments.values()]}, caption=f"fragments by inner product: {title}"
    )
    by_picture = recall_paper_table(
        {"": [summarise(folds) for folds in pictures.values()]}, caption=f"pictures by attention: {title}"
    )
    compared, tests = [], {}
    for way in DIRECTIONS:
        for one, other in PAIRS:
            a, b = f"{one} {way}", f"{other} {way}"
            compared.append(compare_models(fragments[a], fragments[b], groups=groups))
            tests[f"{a} vs {b}"] = {
                "fragments": shared.tested(fragments[a], fragments[b], groups),
                "pictures": shared.tested(pictures[a], pictures[b], of_pictures),
            }
    for name in fragments:
        if name != "deepfrag":
            tests[f"deepfrag vs {name}"] = {"fragments": shared.tested(fragments["deepfrag"], fragments[name], groups)}
    p_values = p_value_paper_table({"": compared}, caption="p-values")
    bleu_table = bleu_paper_table({"": bleu})
    for part in (table, by_picture, p_values, bleu_table):
        print(part.to_text(), "\n")
    document = {
        "command": "python benchmarks/alignment/motif_table.py",
        "settings": shared.settings(options),
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "fragments": json.loads(table.to_json()),
        "pictures": json.loads(by_picture.to_json()),
        "p_values": json.loads(p_values.to_json()),
        "bleu": json.loads(bleu_table.to_json()),
        "tests": tests,
        "training": rows,
    }
    options.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
