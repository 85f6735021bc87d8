"""Small runs on the motif collection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heritage_align.config import load_config
from heritage_align.training.job import TrainingOutcome
from heritage_align.training.run import run_training

Document = dict[str, Any]


@pytest.fixture(scope="session")
def write(tiny_checkpoint: Path) -> Callable[..., Document]:
    """Return a function that writes a configuration; its arguments are settings of the trainer."""

    def document(**trainer: Any) -> Document:
        def motifs(split: str, artworks: int, **more: Any) -> Document:
            return {"name": "motifs", "split": split, "artworks": artworks, "variants": 2, "size": 64, **more}

        small: Document = {
            "data": motifs("train", 24, noise=0.2),
            "validation": motifs("val", 6, noise=0.2),
            "text": {"width": 16, "heads": 2},
            "dim": 16,
            "batch_size": 16,
            "epochs": 2,
            "teacher": {"epochs": 2},
        }
        return {
            "version": 1,
            "name": "cl2cm",
            "encoder": {"name": "cn_clip", "model": str(tiny_checkpoint)},
            "similarity": {"name": "global"},
            "data": motifs("test", 6, language="en"),
            "train": {"name": "cl2cm", **small, **trainer},
            "runtime": {"device": "cpu"},
        }

    return document


@pytest.fixture(scope="session")
def train() -> Callable[..., TrainingOutcome]:
    """Return a function that trains what a document says into a folder."""

    def run(document: Document, folder: Path, **options: Any) -> TrainingOutcome:
        return run_training(load_config(document), folder, quiet=True, **options)

    return run


@pytest.fixture(scope="session")
def trained(
    write: Callable[..., Document], train: Callable[..., TrainingOutcome], tmp_path_factory: pytest.TempPathFactory
) -> TrainingOutcome:
    """Return a finished run of mode cl2cm."""
    return train(write(), tmp_path_factory.mktemp("cl2cm"))
