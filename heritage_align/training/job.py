"""What a trainer is asked to do, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heritage_align.config import Config
    from heritage_align.plugins import Registry
    from heritage_align.protocols import Dataset


@dataclass(frozen=True)
class TrainingJob:
    """One training run.

    Attributes:
        config: the whole configuration; the trainer's own settings are those that it was built with.
        train: what is learned from.
        validation: what early stopping and the choice of the best epoch look at; None where there is none.
        folder: where checkpoints, history and the result go.
        resume: go on from the folder's last checkpoint; False starts afresh and refuses a folder that holds a run.
        registry: where component names are looked up; None for the process's own.
        quiet: no progress bar.
    """

    config: Config
    train: Dataset
    validation: Dataset | None
    folder: Path
    resume: bool = True
    registry: Registry | None = None
    quiet: bool = False


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of a training run.

    Attributes:
        document: the configuration that uses the trained model, ready for `heritage_align.config.load_config`.
        metrics: of the best epoch, for example ``{"epoch": 12, "recall": 61.3}``; recalls in percent.
        files: what was written, by what it is.
    """

    document: Mapping[str, Any]
    metrics: Mapping[str, float]
    files: Mapping[str, Path] = field(default_factory=dict)
