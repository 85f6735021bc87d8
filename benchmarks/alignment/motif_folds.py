"""What scripts on the motif collection share: folds by artwork, features made once, a recipe trained and measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from heritage_align_plugins.alignment.checkpoint import load_model
from heritage_align_plugins.sift.config import SiftConfig
from heritage_align_plugins.sift.filter import SiftFilter
from torch import Tensor

from heritage_align.config import Config, load_config
from heritage_align.data.region_features import feature_dim, features_of_regions, write_region_features
from heritage_align.document import parse_yaml
from heritage_align.evaluation.cross_validation import FoldResult, compare_folds
from heritage_align.evaluation.fragments import FragmentEvaluation, evaluate_fragments
from heritage_align.evaluation.golden import GoldenSet, pool_golden
from heritage_align.evaluation.golden_boxes import encode_boxes_of
from heritage_align.evaluation.metrics import EvaluationResult
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.protocols import Dataset
from heritage_align.recipes import recipe_text
from heritage_align.training.run import TRAINED

Document = dict[str, Any]


def arguments(doc: str, work: Path, out: Path) -> argparse.ArgumentParser:
    """Return a parser with the settings of the data and of the training."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--artworks", type=int, default=240)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="the paper's 2e-4 needs twice the epochs")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=work)
    parser.add_argument("--out", type=Path, default=out)
    return parser


def settings(options: argparse.Namespace) -> Document:
    """Return what is written of the options: all but where files are."""
    return {k: v for k, v in vars(options).items() if k not in ("work", "out")}


def shipped() -> Document:
    """Return recipe scan as it is: windows as regions, the shipped encoder."""
    return parse_yaml(recipe_text("scan"), "scan")


def whole(options: argparse.Namespace) -> Document:
    """Return the collection that folds are made of."""
    return {"name": "motifs", "split": "test", "artworks": options.artworks, "variants": 2, "language": "zh"}


def golden_of(options: argparse.Namespace) -> GoldenSet:
    """Return the golden pairs of the collection."""
    return pool_golden(build_dataset(load_config({**shipped(), "data": whole(options)})).golden)


def fold_document(recipe: str, way: str, features: Path, fold: int, options: argparse.Namespace) -> Document:
    """Return a recipe on one fold, over the precomputed features."""
    document = parse_yaml(recipe_text(recipe), recipe)
    similarity = document["similarity"]
    if recipe != "deepfrag":
        term = similarity["terms"][0]["similarity"] if "terms" in similarity else similarity
        term["direction"] = way
        if recipe == "scan":  # the recipe has SCAN's own leaky slope; here only what a row names may differ
            term["rectifier"] = "relu"
    part = {"name": "fold", "of": whole(options), "folds": options.folds, "fold": fold}
    sift = any(component["name"] == "sift" for component in document.get("filters", ()))
    document["filters"] = [c for c in document.get("filters", ()) if c["name"] != "sift"]
    document["encoder"] = {"name": "region_features", "dim": feature_dim(features)}
    document["proposer"] = from_file(features, sift)
    document["data"] = {**part, "part": "test"}
    train = document["train"]
    train |= {"data": {**part, "part": "train"}, "validation": {**part, "part": "val"}}
    train |= {"learning_rate": options.learning_rate, "epochs": options.epochs}
    # From scratch as the source, and as many epochs for every row.
    train |= {"batch_size": 64, "model": {"dim": options.dim, "text": ["bigru"]}, "warm_start": None, "patience": None}
    return document


def from_file(features: Path, sift: bool) -> Document:
    """Return the proposer of precomputed features; the SIFT filter is its count of keypoints."""
    return {
        "name": "region_features", "path": str(features), "count": None, "min_keypoints": 2 if sift else None,
    }  # fmt: skip


def base_features(options: argparse.Namespace) -> tuple[Path, Tensor]:
    """Write the windows' features with their SIFT keypoints; return the file and those of the golden boxes
    ``(n, 512)``."""
    path, golden_path = options.work / "region_features.safetensors", options.work / "golden.pt"
    pipeline = Pipeline(load_config({**shipped(), "data": whole(options), "filters": []}))
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
    return path, torch.load(golden_path, weights_only=True)


def measured_fragments(model_path: Path, golden: GoldenSet, boxes: Tensor, name: str) -> FragmentEvaluation:
    """Compare golden boxes and phrases by inner product in a trained model's space."""
    model, _ = load_model(model_path)
    with torch.inference_mode():
        regions, phrases = model.encode_images(boxes), model.encode_texts(golden.phrases)
    return evaluate_fragments(
        regions, phrases, golden.relevant, fragment_ids=golden.fragment_ids, phrases=golden.phrases, system=name
    )


def measured_pictures(config: Config, dataset: Dataset, name: str) -> EvaluationResult:
    """Compare whole captions and whole pictures by the attention that was trained."""
    pipeline = Pipeline(config)
    return replace(evaluate_system(pipeline, encode_dataset(pipeline, dataset)).result, system=name)


def trained_config(folder: Path) -> Config:
    """Return the configuration of a run that is done."""
    return load_config(folder / TRAINED)


def training_seconds(folder: Path) -> float:
    """Return the seconds of an epoch."""
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    seconds: float = history[-1]["seconds"]
    return seconds / len(history)


def artwork_groups(options: argparse.Namespace, golden: GoldenSet) -> tuple[dict[str, str], dict[str, str]]:
    """Return query -> artwork, of fragments and phrases, and of pictures and captions."""
    dataset = build_dataset(load_config({**shipped(), "data": whole(options)}))
    artworks: dict[str, str] = {**dataset.artwork_of}  # type: ignore[attr-defined]
    texts = {item.id: artworks[item.image_ids[0]] for item in dataset.texts}
    return golden.groups(artworks), {**artworks, **texts}  # type: ignore[arg-type, return-value]


def tested(a: Sequence[FoldResult], b: Sequence[FoldResult], groups: dict[str, str]) -> Document:
    """Test b against a over the queries of all folds, artworks flipped as a whole; JSON-ready."""
    return {
        direction: {key: {"difference": t.difference, "p_value": t.p_value} for key, t in found.items()}
        for direction, found in compare_folds(a, b, groups=groups).items()
    }


def short(result: EvaluationResult) -> str:
    """Return the recalls of both directions on one line."""
    parts: Sequence[str] = [
        "/".join(f"{value:.1f}" for value in direction.recall.values()) for direction in (result.i2t, result.t2i)
    ]
    return " | ".join(parts)
