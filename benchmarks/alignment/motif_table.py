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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from heritage_align_plugins.alignment.checkpoint import load_model
from heritage_align_plugins.sift.config import SiftConfig
from heritage_align_plugins.sift.filter import SiftFilter
from torch import Tensor

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.config import Config, load_config
from heritage_align.data.region_features import (
    feature_dim,
    features_of_regions,
    write_region_features,
)
from heritage_align.document import parse_yaml
from heritage_align.evaluation.bleu import BleuScores, annotation_bleu
from heritage_align.evaluation.cross_validation import compare_folds, summarise
from heritage_align.evaluation.fragments import FragmentEvaluation, evaluate_fragments
from heritage_align.evaluation.golden import GoldenSet, pool_golden
from heritage_align.evaluation.golden_boxes import encode_boxes_of
from heritage_align.evaluation.metrics import EvaluationResult
from heritage_align.evaluation.model_comparison import compare_models, p_value_paper_table
from heritage_align.evaluation.paper_tables import bleu_paper_table, recall_paper_table
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.protocols import Dataset
from heritage_align.recipes import recipe_text
from heritage_align.training.run import TRAINED, run_training

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
    options = _options()
    torch.set_num_threads(options.threads)
    whole = _whole(options)
    options.work.mkdir(parents=True, exist_ok=True)
    features = options.work / "region_features.safetensors"
    base = _base_features(whole, features, options.work / "golden.pt")
    golden = pool_golden(build_dataset(load_config({**_shipped(), "data": whole})).golden)
    rows: dict[str, list[dict[str, Any]]] = {}
    fragments: dict[str, list[FragmentEvaluation]] = {}
    pictures: dict[str, list[EvaluationResult]] = {}
    bleu: dict[str, list[BleuScores]] = {}
    for recipe, way in models():
        name = recipe if recipe == "deepfrag" else f"{recipe} {way}"
        for fold in range(1, options.folds + 1):
            config = _config(recipe, way, whole, features, fold, options)
            folder = options.work / name.replace(" ", "-") / f"fold{fold}"
            outcome = run_training(config, folder, quiet=True)
            trained = load_config(folder / TRAINED)
            test = build_dataset(trained)
            part, rows_of, _ = golden.select(test.image_ids)
            evaluation = _fragments(folder / "model.safetensors", part, base[rows_of], name)
            fragments.setdefault(name, []).append(evaluation)
            pictures.setdefault(name, []).append(_pictures(trained, test, name))
            bleu.setdefault(name, []).append(annotation_bleu(evaluation.scores, part, "zh"))
            rows.setdefault(name, []).append(_row(folder, outcome.metrics))
            print(
                f"{name:16} fold {fold}: {_short(evaluation.result)}  pictures {_short(pictures[name][-1])}", flush=True
            )
    _report(options, golden, fragments, pictures, bleu, rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--artworks", type=int, default=240)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="the paper's 2e-4 needs twice the epochs")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/motif-table4"))
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


def _shipped() -> dict[str, Any]:
    """Return recipe scan as it is: windows as regions, the shipped encoder."""
    return parse_yaml(recipe_text("scan"), "scan")


def _config(
    recipe: str, way: str, whole: dict[str, Any], features: Path, fold: int, options: argparse.Namespace
) -> Config:
    """Return a recipe on one fold, over the precomputed features."""
    document = parse_yaml(recipe_text(recipe), recipe)
    similarity = document["similarity"]
    if recipe != "deepfrag":
        term = similarity["terms"][0]["similarity"] if "terms" in similarity else similarity
        term["direction"] = way
        if recipe == "scan":  # the recipe has SCAN's own leaky slope; here only what a row names may differ
            term["rectifier"] = "relu"
    part = {"name": "fold", "of": whole, "folds": options.folds, "fold": fold}
    sift = any(component["name"] == "sift" for component in document.get("filters", ()))
    document["filters"] = [c for c in document.get("filters", ()) if c["name"] != "sift"]
    document["encoder"] = {"name": "region_features", "dim": feature_dim(features)}
    document["proposer"] = {
        "name": "region_features", "path": str(features), "count": None, "min_keypoints": 2 if sift else None,
    }  # fmt: skip
    document["data"] = {**part, "part": "test"}
    train = document["train"]
    train |= {"data": {**part, "part": "train"}, "validation": {**part, "part": "val"}}
    train |= {"learning_rate": options.learning_rate, "epochs": options.epochs}
    train |= {"batch_size": 64, "model": {"dim": options.dim, "text": ["bigru"]}}
    return load_config(document)


def _base_features(whole: dict[str, Any], path: Path, golden_path: Path) -> Tensor:
    """Write the windows' features with their SIFT keypoints; return those of the golden boxes ``(n, 512)``."""
    pipeline = Pipeline(load_config({**_shipped(), "data": whole, "filters": []}))
    dataset = pipeline.dataset()
    if not path.exists():
        sift = SiftFilter(SiftConfig(), None)  # type: ignore[arg-type]
        encoded = encode_dataset(pipeline, dataset).images
        assert encoded.regions is not None
        assert pipeline.proposer is not None
        regions, counts, sizes = [], [], []
        for row, image_id in enumerate(encoded.ids):
            image = dataset.load_image(image_id)
            (found,) = pipeline.proposer.propose([image], [image_id])
            counts += sift.count(image, found).tolist()
            sizes.append(image.size)
            vectors = encoded.regions.item(row).numpy()
            regions.append(replace(found, features=vectors, global_feature=encoded.global_features[row].numpy()))
        features = features_of_regions(encoded.ids, regions, sizes)
        write_region_features(path, replace(features, keypoints=torch.tensor(counts).numpy()))
    if not golden_path.exists():
        torch.save(encode_boxes_of(pipeline, dataset, pool_golden(dataset.golden)), golden_path)
    return torch.load(golden_path, weights_only=True)


def _fragments(model_path: Path, golden: GoldenSet, boxes: Tensor, name: str) -> FragmentEvaluation:
    model, _ = load_model(model_path)
    with torch.inference_mode():
        regions, phrases = model.encode_images(boxes), model.encode_texts(golden.phrases)
    return evaluate_fragments(
        regions, phrases, golden.relevant, fragment_ids=golden.fragment_ids, phrases=golden.phrases, system=name
    )


def _pictures(config: Config, dataset: Dataset, name: str) -> EvaluationResult:
    pipeline = Pipeline(config)
    return replace(evaluate_system(pipeline, encode_dataset(pipeline, dataset)).result, system=name)


def _row(folder: Path, metrics: Any) -> dict[str, Any]:
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return {
        "best_epoch": metrics["epoch"],
        "validation_recall": metrics.get("recall"),
        "seconds_per_epoch": history[-1]["seconds"] / len(history),
    }


def _report(
    options: argparse.Namespace, golden: GoldenSet, fragments: dict[str, list[FragmentEvaluation]],
    pictures: dict[str, list[EvaluationResult]], bleu: dict[str, list[BleuScores]], rows: dict[str, list[Any]],
) -> None:  # fmt: skip
    whole = build_dataset(load_config({**_shipped(), "data": _whole(options)}))
    groups = golden.groups(whole.artwork_of)  # type: ignore[attr-defined]
    artworks: dict[str, str] = {**whole.artwork_of}  # type: ignore[attr-defined]
    texts = {item.id: artworks[item.image_ids[0]] for item in whole.texts}
    title = f"motifs, {len(whole.image_ids)} pictures of {options.artworks} artworks, {options.folds} folds"
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
                "fragments": _tests(compare_folds(fragments[a], fragments[b], groups=groups)),
                "pictures": _tests(compare_folds(pictures[a], pictures[b], groups={**artworks, **texts})),
            }
    for name in fragments:
        if name != "deepfrag":
            tests[f"deepfrag vs {name}"] = {
                "fragments": _tests(compare_folds(fragments["deepfrag"], fragments[name], groups=groups))
            }
    p_values = p_value_paper_table({"": compared}, caption="p-values")
    bleu_table = bleu_paper_table({"": bleu})
    for part in (table, by_picture, p_values, bleu_table):
        print(part.to_text(), "\n")
    document = {
        "command": "python benchmarks/alignment/motif_table.py",
        "settings": {k: v for k, v in vars(options).items() if k not in ("work", "out")},
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


def _whole(options: argparse.Namespace) -> dict[str, Any]:
    return {"name": "motifs", "split": "test", "artworks": options.artworks, "variants": 2, "language": "zh"}


def _tests(found: Any) -> dict[str, Any]:
    return {
        direction: {key: {"difference": t.difference, "p_value": t.p_value} for key, t in tests.items()}
        for direction, tests in found.items()
    }


def _short(result: EvaluationResult) -> str:
    parts: Sequence[str] = [
        "/".join(f"{value:.1f}" for value in direction.recall.values()) for direction in (result.i2t, result.t2i)
    ]
    return " | ".join(parts)


if __name__ == "__main__":
    main()
