"""Stages: which epoch belongs to which, what is frozen in it, and how the learning rate goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from heritage_align.plugin import ConfigError
from heritage_align_plugins.contrastive.config import ContrastiveConfig, StageConfig

TOWERS = {"none": (), "vision": ("visual.",), "text": ("bert.", "text_projection")}
"""Beginnings of the parameters' names; the temperature belongs to neither tower."""


@dataclass(frozen=True)
class Stage:
    """A stage with everything filled in.

    Attributes:
        epochs: passes over the training data.
        frozen: beginnings of the names of parameters that are not trained.
        learning_rate: its peak.
        warmup: steps of linear warm-up.
    """

    epochs: int
    frozen: tuple[str, ...]
    learning_rate: float
    warmup: int


def stages_of(config: ContrastiveConfig) -> tuple[Stage, ...]:
    """Return the stages of a configuration; without any, one in which nothing is frozen."""
    return tuple(
        Stage(
            stage.epochs,
            (*TOWERS[stage.freeze], *stage.freeze_parts),
            config.learning_rate if stage.learning_rate is None else stage.learning_rate,
            config.warmup if stage.warmup is None else stage.warmup,
        )
        for stage in config.stages or (StageConfig(epochs=config.epochs),)
    )


class Schedule:
    """The stages of a run, one after the other.

    Args:
        stages: in their order.
        learning_rate: what the optimiser's groups are set to; a stage's own rate is expressed by it.
    """

    def __init__(self, stages: Sequence[Stage], learning_rate: float) -> None:
        self._stages = tuple(stages)
        self._learning_rate = learning_rate

    def stage(self, epoch: int) -> tuple[Stage, int]:
        """Return the stage of an epoch and its first epoch, both counted from 0."""
        first = 0
        for stage in self._stages:
            if epoch < first + stage.epochs:
                return stage, first
            first += stage.epochs
        raise IndexError(f"epoch {epoch}: the stages have {first}")

    def rate(self, update: int, updates: int) -> float:
        """Return the factor of the learning rate at update `update` (from 0) of `updates`.

        In each stage of its own (Chinese-CLIP's scheduler.py): ``(t + 1) / warmup`` while t < warmup, then
        ``(1 + cos(pi (t - warmup) / (steps - warmup))) / 2``.
        """
        steps_an_epoch = updates // sum(stage.epochs for stage in self._stages)
        stage, first = self.stage(update // steps_an_epoch)
        step, steps = update - first * steps_an_epoch, stage.epochs * steps_an_epoch
        peak = stage.learning_rate / self._learning_rate
        if step < stage.warmup:
            return peak * (step + 1) / stage.warmup
        return peak * (1 + math.cos(math.pi * (step - stage.warmup) / (steps - stage.warmup))) / 2


def check_parts(model: nn.Module, config: ContrastiveConfig) -> None:
    """Refuse parts to freeze that a model does not have, and stages that train nothing; raises ConfigError."""
    names = [name for name, _ in model.named_parameters()]
    faults = [
        f"train.stages.{number}.freeze_parts: no parameter's name begins with {part!r}; they are like {names[-1]!r}"
        for number, stage in enumerate(config.stages)
        for part in stage.freeze_parts
        if not any(name.startswith(part) for name in names)
    ]
    for number, stage in enumerate(stages_of(config)):
        if all(name.startswith((*stage.frozen, "logit_scale")) for name in names):
            faults.append(f"train.stages.{number}: freezes both towers; there is nothing to train")
    if faults:
        raise ConfigError(faults)


def freeze(model: nn.Module, stage: Stage) -> None:
    """Set what a stage trains.

    A module none of whose parameters is trained runs in evaluation mode: no dropout, and batch normalisation with the
    statistics that it has, as Chinese-CLIP's freeze_vision_bn sets it.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(stage.frozen))
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
