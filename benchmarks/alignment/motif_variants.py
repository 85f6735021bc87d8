"""Tables 6 to 10 of Sheng et al. 2021, their augmentation and golden fine-tuning, on the motif collection.

    python benchmarks/alignment/motif_variants.py

Models are trained as in motif_table.py, on the first --run of its folds, but on the overlapping noun phrases of the
grammar (NPFST's part), as the paper's are. BFAN_SF in both directions is the baseline of what differs from it in one
thing; its BLEU is table 10:

text      single words, nouns, the data set's own phrases; of a cluster of overlapping phrases the longest, or one
          vector that is the mean of theirs (tables 6 and 8; overlapping phrases are the paper's augmentation of text)
regions   every window once more with changed colours and blur, as one more region or averaged with it, in training
golden    20 epochs more on the golden pairs of the training part; its baseline is the same run before them
models    SCAN, BFAN and SCAN_SF with one direction of attention (tables 7 and 9); their baseline is SCAN

What is evaluated is always the same: golden boxes and phrases of the held-out part by inner product, and whole captions
and pictures by attention, with the variant's own fragments and unchanged windows. The result goes to
benchmarks/results/motif-variants.json; what is done is kept in --work.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import motif_folds as shared
import torch
from torch import Tensor

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.config import Config, load_config
from heritage_align.data.region_features import (
    feature_dim,
    features_of_regions,
    read_region_features,
    write_region_features,
)
from heritage_align.evaluation.bleu import BleuScores, annotation_bleu
from heritage_align.evaluation.cross_validation import summarise
from heritage_align.evaluation.fragments import FragmentEvaluation
from heritage_align.evaluation.golden import GoldenSet
from heritage_align.evaluation.metrics import EvaluationResult
from heritage_align.evaluation.paper_tables import bleu_paper_table, recall_paper_table
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.training.run import run_training

RESULT = Path(__file__).parents[1] / "results" / "motif-variants.json"
BASELINE, BEFORE, AFTER = "noun phrases", "before golden fine-tuning", "after golden fine-tuning"
TEXTS: dict[str, dict[str, Any]] = {
    BASELINE: {"name": "noun_phrases"},
    "tokens": {"name": "tokens"},
    "nouns": {"name": "nouns"},
    "annotated phrases": {"name": "annotated"},
    "longest of a cluster": {"name": "noun_phrases", "clusters": "longest"},
    "mean of a cluster": {"name": "noun_phrases", "clusters": "mean"},
}
REGIONS = {"copies added": "add", "copies averaged": "mean"}
MODELS = (("scan", "t2i"), ("bfan", "t2i"), ("scan-sf", "t2i"), ("scan", "i2t"), ("bfan", "i2t"))
BASELINE_OF = {
    **dict.fromkeys([*TEXTS, *REGIONS], BASELINE),
    BEFORE: BASELINE,  # the same but for features in fp32 instead of a file's fp16: what chance alone does
    AFTER: BEFORE,
    **{f"{recipe} {way}": f"scan {way}" for recipe, way in MODELS},
}


@dataclass
class Folds:
    """What one variant gave, fold by fold."""

    fragments: list[FragmentEvaluation] = field(default_factory=list)
    pictures: list[EvaluationResult] = field(default_factory=list)
    bleu: list[BleuScores] = field(default_factory=list)
    seconds_per_epoch: list[float] = field(default_factory=list)


def main() -> None:
    """Run, print, write."""
    parser = shared.arguments(__doc__, Path("runs/motif-variants"), RESULT)
    parser.set_defaults(artworks=120, epochs=12)
    parser.add_argument("--run", type=int, default=2, help="folds that are trained on, the first ones")
    parser.add_argument("--golden-epochs", type=int, default=20, help="the paper's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    features, boxes = shared.base_features(options)
    golden = shared.golden_of(options)
    found: dict[str, Folds] = {}
    for fold in range(1, options.run + 1):
        for name, fragmenter in TEXTS.items():
            document = {**_baseline(features, fold, options), "fragmenter": fragmenter}
            folder = _trained(name, document, fold, options)
            _measure(found, name, folder, folder, features, golden, boxes)
        for name, form in REGIONS.items():
            document = _baseline(_augmented(form, features, options), fold, options)
            folder = _trained(name, document, fold, options)
            _measure(found, name, folder, folder, features, golden, boxes)
        folder = _trained("golden", _golden(features, fold, options), fold, options)
        _measure(found, BEFORE, folder, folder, features, golden, boxes)
        _measure(found, AFTER, folder, folder / "golden", features, golden, boxes)
        for recipe, way in MODELS:
            document = shared.fold_document(recipe, way, features, fold, options)
            folder = _trained(f"{recipe} {way}", {**document, "fragmenter": TEXTS[BASELINE]}, fold, options)
            _measure(found, f"{recipe} {way}", folder, folder, features, golden, boxes)
    _report(options, golden, found)


def _baseline(features: Path, fold: int, options: argparse.Namespace) -> dict[str, Any]:
    return {**shared.fold_document("bfan-sf", "ens", features, fold, options), "fragmenter": TEXTS[BASELINE]}


def _golden(features: Path, fold: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the baseline over an encoder that describes golden boxes as well, which a file does not."""
    document = _baseline(features, fold, options)
    document["proposer"] = _encoded()
    document["filters"] = [{"name": "sift", "min_keypoints": 2}, *document["filters"]]
    document["train"]["golden_epochs"] = options.golden_epochs
    return document


def _encoded() -> dict[str, Any]:
    recipe = shared.shipped()
    return {"name": "encoded", "encoder": recipe["encoder"], "proposer": recipe["proposer"]}


def _augmented(form: str, features: Path, options: argparse.Namespace) -> Path:
    """Write the features of the windows and of their changed copies; keypoints are those of the unchanged windows."""
    path = options.work / f"region_features-{form}.safetensors"
    if not path.exists():
        document = {**shared.shipped(), "data": shared.whole(options), "filters": []}
        document["encoder"] = {"name": "region_features", "dim": feature_dim(features)}
        document["proposer"] = {"name": "augmented", "form": form, "copies": 1, "proposer": _encoded()}
        document["text_encoder"] = shared.shipped()["encoder"]
        pipeline = Pipeline(load_config(document))
        dataset = pipeline.dataset()
        assert pipeline.proposer is not None
        regions, sizes = [], []
        for image_id in dataset.image_ids:
            image = dataset.load_image(image_id)
            regions += pipeline.proposer.propose([image], [image_id])
            sizes.append(image.size)
        base = read_region_features(features).select(dataset.image_ids, count=None)
        assert base.keypoints is not None
        times = len(regions[0]) // (len(base.keypoints) // len(dataset.image_ids))
        written = features_of_regions(dataset.image_ids, regions, sizes)
        write_region_features(path, replace(written, keypoints=base.keypoints.repeat(times)))
    return path


def _trained(name: str, document: dict[str, Any], fold: int, options: argparse.Namespace) -> Path:
    folder: Path = options.work / name.replace(" ", "-") / f"fold{fold}"
    run_training(load_config(document), folder, quiet=True)
    return folder


def _measure(
    found: dict[str, Folds], name: str, folder: Path, model: Path, features: Path, golden: GoldenSet, boxes: Tensor
) -> None:
    config = _evaluated(folder, model / "model.safetensors", features)
    test = build_dataset(config)
    part, rows, _ = golden.select(test.image_ids)
    evaluation = shared.measured_fragments(model / "model.safetensors", part, boxes[rows], name)
    folds = found.setdefault(name, Folds())
    folds.fragments.append(evaluation)
    folds.pictures.append(shared.measured_pictures(config, test, name))
    folds.bleu.append(annotation_bleu(evaluation.scores, part, "zh"))
    folds.seconds_per_epoch.append(shared.training_seconds(model))
    whole = shared.short(folds.pictures[-1])
    print(f"{name:28} fold {len(folds.fragments)}: {shared.short(evaluation.result)}  pictures {whole}", flush=True)


def _evaluated(folder: Path, model: Path, features: Path) -> Config:
    """Return a run's system over the unchanged windows of the file, whatever it was trained on."""
    document = shared.trained_config(folder).as_dict()
    document["encoder"]["checkpoint"] = str(model)
    if document["proposer"]["name"] != "region_features":
        document["proposer"] = shared.from_file(features, sift=True)
        document["filters"] = [component for component in document["filters"] if component["name"] != "sift"]
    document["proposer"]["path"] = str(features)
    return load_config(document)


def _report(options: argparse.Namespace, golden: GoldenSet, found: dict[str, Folds]) -> None:
    groups, of_pictures = shared.artwork_groups(options, golden)
    size = f"{2 * options.artworks} pictures of {options.artworks} artworks"
    title = f"motifs, {size}, {options.run} of {options.folds} folds"
    table = recall_paper_table(
        {"": [summarise(folds.fragments) for folds in found.values()]}, caption=f"fragments by inner product: {title}"
    )
    pictures = recall_paper_table(
        {"": [summarise(folds.pictures) for folds in found.values()]}, caption=f"pictures by attention: {title}"
    )
    bleu = bleu_paper_table({"": {name: folds.bleu for name, folds in found.items()}})
    tests = {}
    for name, folds in found.items():
        if BASELINE_OF.get(name, name) == name:
            continue
        base = found[BASELINE_OF[name]]
        tests[name] = {
            "baseline": BASELINE_OF[name],
            "fragments": shared.tested(base.fragments, folds.fragments, groups),
            "pictures": shared.tested(base.pictures, folds.pictures, of_pictures),
        }
    for part in (table, pictures, bleu):
        print(part.to_text(), "\n")
    for name, of in tests.items():
        means = [
            (way, of[what][way]["mean_recall"], what) for what in ("fragments", "pictures") for way in ("i2t", "t2i")
        ]
        line = ", ".join(f"{what} {way} {t['difference']:+.1f} (p {t['p_value']:.3f})" for way, t, what in means)
        print(f"{name:28} {line}")
    document = {
        "command": "python benchmarks/alignment/motif_variants.py",
        "settings": shared.settings(options),
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "goals": [],
        "fragments": json.loads(table.to_json()),
        "pictures": json.loads(pictures.to_json()),
        "bleu": json.loads(bleu.to_json()),
        "tests": tests,
        "seconds_per_epoch": {name: folds.seconds_per_epoch for name, folds in found.items()},
    }
    options.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
