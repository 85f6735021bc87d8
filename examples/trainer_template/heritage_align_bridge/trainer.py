"""The trainer: what is learned, and what heritage-align's loop asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from heritage_align.evaluation import evaluate_scores
from heritage_align.plugin import BuildContext
from heritage_align.training import (
    CHANGEABLE,
    RECALL,
    Material,
    TrainingJob,
    TrainingOutcome,
    distributed,
    fit,
    run_identity,
)
from heritage_align_bridge.config import BridgeTrainerConfig

MODEL = "bridge.safetensors"


class BridgeTrainer:
    """Trains the matrix; a `Trainer`."""

    def __init__(self, config: BridgeTrainerConfig, context: BuildContext) -> None:
        self._config, self._context = config, context

    def train(self, job: TrainingJob) -> TrainingOutcome:
        """Train, or go on where a killed run stopped."""
        train = job.material("train")
        held = job.material("validation") if job.validation is not None else None
        texts = [self._texts(job, material) for material in (train, held) if material is not None]
        task = BridgeTask(self._config, train, texts[0], self._context)
        if held is not None:
            task.validation = held, texts[1]
        # Features of a forward pass may differ in the last bit elsewhere: the encoder's name stands for them.
        shaping = self._config.model_dump(mode="json", exclude={*CHANGEABLE})
        identity = run_identity(shaping, job.front_end.encoder.fingerprint(), train.digest(features=False))
        encoder = {"name": "bridge", "checkpoint": str(job.folder / MODEL), "base": job.config.encoder.as_dict()}
        state = fit(
            task, self._config, job.folder, identity=identity, seed=self._context.seed, resume=job.resume,
            quiet=job.quiet, exported=lambda: job.write_config(encoder),
        )  # fmt: skip
        return job.outcome(encoder, state, {"model": job.folder / MODEL})

    def _texts(self, job: TrainingJob, material: Material) -> Tensor:
        size = self._config.batch_size
        texts = [item.text for item in material.items]
        encode = job.front_end.text_encoder.encode_texts
        return torch.cat([encode(texts[i : i + size]) for i in range(0, len(texts), size)]).cpu().clone()


class BridgeTask:
    """One matrix, an InfoNCE over the batch of all processes; a `Task`."""

    validation: tuple[Material, Tensor] | None = None

    def __init__(self, config: BridgeTrainerConfig, train: Material, texts: Tensor, context: BuildContext) -> None:
        """Begin with a matrix of zeros.

        Args:
            config: settings.
            train: pictures, and which text is of which.
            texts: ``(n_texts, dim)`` unit rows.
            context: device and seed.
        """
        self._config, self._seed, self._device = config, context.seed, context.device
        self._images, self._rows, self._texts = train.images.global_features, train.rows, texts
        dim = texts.shape[1]
        self._matrix = torch.zeros(dim, dim, device=context.device, requires_grad=True)

    def parameters(self) -> Iterable[Tensor]:
        """Return the matrix."""
        return [self._matrix]

    def optimizer(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam([self._matrix], lr=self._config.learning_rate)

    def rate(self, update: int, updates: int) -> float:
        """Fall linearly to 0."""
        return 1 - update / updates

    def begin_epoch(self, epoch: int) -> Sequence[Tensor]:
        """Return rows of texts, drawn anew; of each batch this process takes every n-th."""
        order = torch.randperm(len(self._texts), generator=torch.Generator().manual_seed(1000 * self._seed + epoch))
        world, rank = distributed.world_size(), distributed.rank()
        size = min(self._config.batch_size, len(order)) // world * world  # as many rows for every process
        return [batch[rank::world] for batch in order.split(size) if len(batch) == size] if size else []

    def step(self, batch: Tensor, scale: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """Contrast each picture with the texts of the batch, and each text with its pictures."""
        images = distributed.gather(self._moved(self._images[self._rows[batch]]))
        texts = distributed.gather(self._texts[batch].to(self._device))
        logits = images @ texts.T / self._config.temperature
        answers = torch.arange(len(logits), device=logits.device)
        loss = (cross_entropy(logits, answers) + cross_entropy(logits.T, answers)) / 2
        scale(loss).backward()
        return {"loss": loss.item()}

    def validate(self) -> Mapping[str, float]:
        """Return the mean recall of whole pictures and texts."""
        if self.validation is None:
            return {}
        material, texts = self.validation
        with torch.no_grad():
            scores = self._moved(material.images.global_features).cpu() @ texts.T
        return {RECALL: evaluate_scores(scores, material.images.ids, material.items).mean_recall}

    def state(self) -> dict[str, Any]:
        """Return the matrix."""
        return {"matrix": self._matrix.detach()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        with torch.no_grad():
            self._matrix.copy_(state["matrix"])

    def export(self, folder: Path) -> None:
        """Write what `BridgeEncoder` reads."""
        save_file({"matrix": self._matrix.detach().cpu().contiguous()}, folder / MODEL)

    def _moved(self, vectors: Tensor) -> Tensor:
        vectors = vectors.to(self._device)
        return normalize(vectors + vectors @ self._matrix.T, dim=1)
