"""A collection whose pictures are sums of the motifs that their captions name, as features in a file; and tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heritage_align_plugins.alignment.config import AlignmentTrainerConfig
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.task import AlignmentTask
from heritage_align_plugins.alignment.text.tokens import Vocabulary

from heritage_align.config import load_config
from heritage_align.data.region_features import RegionFeatures, write_region_features
from heritage_align.ops import Ragged
from heritage_align.pipeline import build_component
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext, Similarity
from heritage_align.training.job import TrainingOutcome
from heritage_align.training.material import Material
from heritage_align.training.run import run_training
from heritage_align.types import ImageFeatures, TextItem

Document = dict[str, Any]
MOTIFS = ("lotus", "crane", "dragon", "peony", "cloud", "wave", "vase", "moon", "莲", "鹤")
WIDTH = 12


def write_collection(folder: Path, count: int = 40, *, seed: int = 0, split: bool = True) -> Path:
    """Write ``table.jsonl`` and ``region_features.safetensors``: 24 to train, 8 to validate, 8 to test on."""
    rng = np.random.default_rng(seed)
    words = np.random.default_rng(7).normal(size=(len(MOTIFS), WIDTH))
    rows, values, whole = [], [], []
    for number in range(count):
        shown = rng.permutation(len(MOTIFS))[:3]
        regions = words[shown] + 0.2 * rng.normal(size=(3, WIDTH))
        values.append(regions)
        whole.append(regions.mean(0))
        phrases = [f"a {MOTIFS[motif]}" for motif in shown]
        part = ("train", "train", "train", "val", "test")[number % 5]
        row: Document = {"image": f"images/{number}.jpg", "text": " and ".join(phrases), "phrases": phrases}
        rows.append({**row, "split": part} if split else row)
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "table.jsonl").write_text(text, encoding="utf-8")
    write_region_features(
        folder / "region_features.safetensors",
        RegionFeatures(
            "made",
            tuple(row["image"] for row in rows),
            np.arange(count + 1) * 3,
            np.concatenate(values).astype(np.float32),
            np.tile(np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1]], dtype=np.float32), (count, 1)),
            keypoints=rng.integers(0, 5, count * 3),
            global_features=np.stack(whole).astype(np.float32),
        ),
        dtype="fp32",
    )
    return folder


def document(folder: Path, **trainer: Any) -> Document:
    """Return a configuration that trains on a collection; arguments are settings of the trainer."""

    def table(part: str) -> Document:
        return {"name": "table", "file": str(folder / "table.jsonl"), "split": part, "require_pictures": False}

    settings: Document = {
        "data": table("train"), "validation": table("val"), "model": {"dim": 16, "embedding_dim": 12}, "epochs": 3,
        "batch_size": 8, "learning_rate": 1e-2,
    }  # fmt: skip
    return {
        "version": 1,
        "name": "small",
        "encoder": {"name": "region_features", "dim": WIDTH},
        "proposer": {"name": "region_features", "path": str(folder / "region_features.safetensors")},
        "fragmenter": {"name": "annotated"},
        "similarity": {"name": "scan"},
        "data": table("test"),
        "train": {"name": "alignment", **settings, **trainer},
        "runtime": {"device": "cpu"},
    }


def train(config: Document, folder: Path, **options: Any) -> TrainingOutcome:
    """Train what a document says into a folder."""
    return run_training(load_config(config), folder, quiet=True, **options)


def history(folder: Path) -> list[dict[str, float]]:
    """Return the records of a run, without times."""
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def collected(
    regions: Sequence[torch.Tensor], whole: torch.Tensor, fragments: Sequence[Sequence[str]], **more: Any
) -> Material:
    """Return training data: picture i belongs to text i, whose fragments are given."""
    ids = tuple(f"i{number}" for number in range(len(regions)))
    items = tuple(TextItem(f"t{n}", " ".join(split), (f"i{n}",)) for n, split in enumerate(fragments))
    images = ImageFeatures(ids, whole, Ragged.from_list(list(regions)), **more)
    return Material(images, items, tuple(map(tuple, fragments)), torch.arange(len(regions)))


def similarity(settings: Document, **attention: Any) -> Similarity:
    """Build a similarity as a configuration does."""
    base = {"version": 1, "name": "x", "encoder": {"name": "region_features", "dim": 1}, "similarity": settings}
    context = BuildContext(attention=attention)
    built: Similarity = build_component(load_config(base).similarity, context, default_registry())
    return built


def task(
    data: Material, score: Similarity, model: Document | None = None, words: Sequence[str] = (), **settings: Any
) -> AlignmentTask:
    """Return a task over data, with a vocabulary of its words, from seed 0."""
    torch.manual_seed(0)
    trainer = AlignmentTrainerConfig(model=ModelSettings(**(model or {"dim": 6, "embedding_dim": 5})), **settings)
    vocabulary = Vocabulary.of([item.text for item in data.items] or words, 1, 10**6)
    assert data.images.regions is not None
    fitted = AlignmentModel(trainer.model, data.images.regions.dim, vocabulary)
    return AlignmentTask(fitted, score, trainer, data, data, 0, raw=True)
