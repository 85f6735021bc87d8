"""Trainers with one fault each."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from kit_subjects.right import Trainer

from heritage_align.training.job import TrainingJob, TrainingOutcome


class SettingsOfItsOwn(Trainer):
    """Right, and its settings are no trainer's."""


class NoSuchEncoder(Trainer):
    def train(self, job: TrainingJob) -> TrainingOutcome:
        outcome = super().train(job)
        return replace(outcome, document={**outcome.document, "encoder": {"name": "trained"}})


class NeverMeasured(Trainer):
    def train(self, job: TrainingJob) -> TrainingOutcome:
        return replace(super().train(job), metrics={"recall": float("nan")})


class LostModel(Trainer):
    def train(self, job: TrainingJob) -> TrainingOutcome:
        return replace(super().train(job), files={"model": job.folder / "model.pt"})


class WritesElsewhere(Trainer):
    def train(self, job: TrainingJob) -> TrainingOutcome:
        return replace(super().train(job), files={"model": Path(__file__)})


class OtherLuck(Trainer):
    def train(self, job: TrainingJob) -> TrainingOutcome:
        return replace(super().train(job), metrics={"recall": random.random()})


class AddsUp(Trainer):
    def train(self, job: TrainingJob) -> TrainingOutcome:
        done = len(list(job.folder.iterdir()))
        (job.folder / f"{done}.pt").touch()
        return replace(super().train(job), metrics={"recall": float(done)})
