"""Checkpoints of a training run: complete enough to go on to the same weights, written so that a kill loses none."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from heritage_align.checkpoints import refusal
from heritage_align.errors import CheckpointError
from heritage_align.store.files import write_atomically

LAST = "last.pt"
FORMAT = 2


@dataclass
class TrainingState:
    """Where a run stands.

    Attributes:
        identity: digest of everything that shapes the run (configuration, data); another one is refused.
        epochs: how many the run is to have, which the schedule of the learning rate depends on.
        epoch: epochs done.
        step: batches done in the epoch that has begun.
        updates: batches done in all.
        seconds: training time so far, validation excluded.
        best: best mean recall so far in percent, None before the first validation.
        best_epoch: its epoch, counted from 1; 0 where the model was best before the first one.
        stale: validations since the best one.
        sums: sums of the running epoch's losses.
        history: one record an epoch; before them one of epoch 0 where the start was measured.
        model: the task's tensors.
        optimizer: the optimiser's state.
        scaler: the gradient scaler's state (fp16).
    """

    identity: str
    epochs: int
    epoch: int = 0
    step: int = 0
    updates: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    stale: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)

    def best_record(self) -> dict[str, float]:
        """Return the record of the best epoch, or of the last one without validation."""
        epoch = self.epoch if self.best is None else self.best_epoch
        return next(dict(record) for record in self.history if record["epoch"] == epoch)


def save_state(state: TrainingState, folder: Path) -> None:
    """Write ``last.pt``; a killed process leaves the one before or this one."""
    document = {"format": FORMAT, **{entry.name: getattr(state, entry.name) for entry in fields(state)}}
    write_atomically(folder / LAST, lambda temporary: torch.save(document, temporary))


def load_state(folder: Path, identity: str) -> TrainingState | None:
    """Read the last checkpoint; None where the folder has none.

    Raises:
        CheckpointError: the file is damaged, or is of a run with another configuration or other data.
    """
    path = folder / LAST
    if not path.exists():
        return None
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a scribbled file makes the unpickler raise whatever there is
        raise CheckpointError(f"{path}: is damaged ({refusal(error)}); delete it to start afresh") from error
    names = {"format", *(entry.name for entry in fields(TrainingState))}
    if not isinstance(document, dict) or document.get("format") != FORMAT or set(document) != names:
        raise CheckpointError(f"{path}: is not a checkpoint of a training run (format {FORMAT})")
    if document["identity"] != identity:
        raise CheckpointError(
            f"{path}: is of a run with another configuration or other data (training.yaml beside it says which); "
            "train into another folder, or with the same configuration"
        )
    return TrainingState(**{key: value for key, value in document.items() if key != "format"})
