"""A collection and models so small that an epoch takes a tenth of a second; as a script, a run that can be killed."""

from __future__ import annotations

import argparse
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heritage_align_plugins.cn_clip.architecture import Architecture, build_model
from heritage_align_plugins.cn_clip.checkpoint import save_checkpoint
from PIL import Image

from heritage_align.config import load_config
from heritage_align.pipeline import build_component
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext
from heritage_align.training.job import TrainingJob, TrainingOutcome
from heritage_align.types import GoldenPair, TextItem

COLOURS = {"红": (200, 30, 30), "绿": (30, 160, 40), "蓝": (30, 40, 200), "黄": (220, 210, 40), "白": (240, 240, 240)}
GROUNDS = {"云": 4, "水": 8, "山": 16}
TEXT = {
    "text_hidden_size": 16,
    "text_num_hidden_layers": 2,
    "text_num_attention_heads": 2,
    "text_intermediate_size": 32,
    "text_max_position_embeddings": 16,
    "vocab_size": 21128,
    "text_initializer_range": 0.3,  # with BERT's 0.02 a width of 16 learns nothing within a hundred steps
    "context_length": 12,
}
VIT = Architecture("tiny", 16, 32, 2, 32, 16, vision_head_width=16, **TEXT)
VIT_OTHER = Architecture("tiny-wide", 24, 48, 1, 32, 16, vision_head_width=16, **TEXT)
RESNET = Architecture("tiny-resnet", 16, 32, (1, 1, 1, 1), 8, None, vision_head_width=64, **TEXT)


@dataclass
class Squares:
    """Every colour on every ground: fifteen pictures times `copies`, each with `captions` captions."""

    copies: int = 2
    captions: int = 1
    name: str = "squares"
    kill_at: int | None = None  # the process kills itself when the picture is loaded this many times
    loads: int = 0

    def __post_init__(self) -> None:
        kinds = [(c, g) for c in COLOURS for g in GROUNDS]
        self.kinds = {f"{c}{g}{copy}": (c, g, copy) for copy in range(self.copies) for c, g in kinds}
        self.image_ids = tuple(self.kinds)
        self.texts = tuple(
            TextItem(f"{image_id}-{k}", f"{c}地{g}纹{'锦' * k}", (image_id,))
            for image_id, (c, g, _) in self.kinds.items()
            for k in range(self.captions)
        )
        self.golden: tuple[GoldenPair, ...] = ()

    def load_image(self, image_id: str) -> Image.Image:
        self.loads += 1
        if self.loads == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        colour, ground, copy = self.kinds[image_id]
        pixels = np.full((32, 32, 3), COLOURS[colour], dtype=np.uint8)
        pixels[copy % 4 :: GROUNDS[ground]] //= 2
        return Image.fromarray(pixels)


def write_model(path: Path, architecture: Architecture = VIT) -> Path:
    """Write random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_checkpoint(build_model(architecture), architecture, path, torch.float32)
    return path


def train(
    folder: Path, model: Path, settings: dict[str, Any], *, data: Any = None, validation: Any = None, seed: int = 0,
    encoder: dict[str, Any] | None = None,
) -> TrainingOutcome:  # fmt: skip
    """Run the trainer in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    config = load_config(
        {
            "version": 1,
            "name": "tiny",
            "encoder": encoder or {"name": "cn_clip", "model": str(model)},
            "similarity": {"name": "global"},
            "train": {"name": "contrastive", "batch_size": 8, "warmup": 2, "learning_rate": 1e-3, **settings},
            "runtime": {"device": "cpu", "workers": 2, "seed": seed},
        }
    )
    assert config.train is not None
    context = BuildContext("cpu", seed=seed)
    registry = default_registry()
    trainer = build_component(config.train, context, registry)
    return trainer.train(TrainingJob(config, data or Squares(), validation, folder, registry=registry, quiet=True))


def main() -> None:
    """Train as the command line says; torchrun sets the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("--captions", type=int, default=1)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--kill-at", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Squares(captions=arguments.captions, kill_at=arguments.kill_at)
    validation = Squares(copies=1) if arguments.validate else None
    train(arguments.folder, arguments.model, arguments.settings, data=data, validation=validation)


if __name__ == "__main__":
    main()
