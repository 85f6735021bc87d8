"""Write a trained model for our loader and for cn_clip's own."""

from __future__ import annotations

from pathlib import Path

import torch
from cn_clip.clip.model import CLIP

from heritage_align.plugin import write_atomically
from heritage_align_plugins.cn_clip.architecture import Architecture
from heritage_align_plugins.cn_clip.checkpoint import save_checkpoint

MODEL = "model.safetensors"
CN_CLIP_MODEL = "model.pt"
_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


def export_model(model: CLIP, architecture: Architecture, folder: Path, *, epoch: int, dtype: str) -> None:
    """Write ``model.safetensors``, which holds its architecture, and ``model.pt`` as cn_clip's training writes it.

    Both hold the same numbers, so that both loaders give the same features.

    Args:
        model: of this architecture.
        architecture: at the size and context length that it was trained for.
        folder: where the files go.
        epoch: epochs done, for ``model.pt``.
        dtype: ``"fp16"`` or ``"fp32"``. cn_clip's loader rounds the matrices to fp16 whatever is in the file.

    Raises:
        CheckpointError: a weight is not finite in `dtype`.
    """
    stored = _DTYPES[dtype]
    write_atomically(folder / MODEL, lambda temporary: save_checkpoint(model, architecture, temporary, stored))
    state = {
        f"module.{name}": value.detach().to("cpu", stored if value.is_floating_point() else value.dtype)
        for name, value in model.state_dict().items()
    }
    record = {"epoch": epoch, "step": 0, "name": architecture.name, "state_dict": state}
    write_atomically(folder / CN_CLIP_MODEL, lambda temporary: torch.save(record, temporary))
