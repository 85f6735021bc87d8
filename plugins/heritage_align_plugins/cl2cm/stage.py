"""What both stages do alike as tasks of the training loop: AdamW, warm-up and cosine, batches of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heritage_align.evaluation import evaluate_scores
from heritage_align.plugin import TextItem
from heritage_align.training import RECALL
from heritage_align_plugins.cl2cm.config import Cl2cmTrainerConfig
from heritage_align_plugins.cl2cm.pairs import Pairs, drawn_seed, epoch_batches, trimmed
from heritage_align_plugins.cl2cm.text import TextModel

_BLOCK = 256  # texts that are encoded at once outside training
_AUTOCAST = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Stage:
    """A model that learns from pairs; a subclass gives the losses, what is validated and what is written."""

    model: nn.Module

    def __init__(self, settings: Cl2cmTrainerConfig, pairs: Pairs, learning_rate: float, seed: int) -> None:
        self._settings, self._pairs, self._learning_rate, self._seed = settings, pairs, learning_rate, seed

    def parameters(self) -> Iterable[Tensor]:
        """Return the model's parameters."""
        return self.model.parameters()

    def optimizer(self) -> torch.optim.Optimizer:
        """Build AdamW; vectors (biases, norms) do not decay."""
        every = list(self.model.parameters())
        groups = [
            {"params": [p for p in every if p.ndim > 1], "weight_decay": self._settings.weight_decay},
            {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self._learning_rate)

    def rate(self, update: int, updates: int) -> float:
        """Return a linear rise over the share `warmup` of the updates, times half a cosine over all."""
        rising = min(1.0, (update + 1) / max(1.0, self._settings.warmup * updates))
        return rising * (1 + math.cos(math.pi * update / updates)) / 2

    def begin_epoch(self, epoch: int) -> Sequence[Tensor]:
        """Return this process's rows of each batch."""
        seed = drawn_seed(self._seed, f"epoch {epoch}")
        return epoch_batches(self._pairs.picture, self._settings.batch_size, seed)

    def step(self, batch: Tensor, scale: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """Run one batch forward and backward."""
        dtype = _AUTOCAST[self._settings.precision]
        self.model.train()
        with torch.autocast(batch.device.type, dtype, enabled=self._settings.precision != "fp32"):
            losses = self.losses(batch)
        scale(losses["loss"]).backward()
        return {name: float(value.detach()) for name, value in losses.items()}

    def losses(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the losses of a batch; ``loss`` is trained on."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return the model's tensors."""
        return dict(self.model.state_dict())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self.model.load_state_dict(state)


@torch.inference_mode()
def encode_numbers(model: TextModel, numbers: Tensor) -> Tensor:
    """Encode tokens ``(n, length)`` without dropout; returns sentences ``(n, dim)``."""
    model.eval()
    return torch.cat([model(trimmed(block)).sentences for block in numbers.split(_BLOCK)])


def recall_metrics(candidates: Tensor, queries: Tensor, right: Tensor) -> dict[str, float]:
    """Return mean recall (R@1, 5, 10, both directions) and its two halves, in percent.

    Args:
        candidates: ``(n, dim)`` pictures, or source captions.
        queries: ``(m, dim)`` translations.
        right: ``(m,)`` row of `candidates` that each query belongs to.
    """
    texts = [TextItem(str(k), "-", (str(row),)) for k, row in enumerate(right.tolist())]
    scores = (candidates @ queries.T).float().cpu().numpy().astype(np.float32)
    result = evaluate_scores(scores, [str(row) for row in range(len(candidates))], texts)
    halves = {f"{RECALL}_{name}": direction.mean_recall for name, direction in result.directions.items()}
    return {RECALL: result.mean_recall, **halves}
