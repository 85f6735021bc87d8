"""Checks of trainers: each trains `Case.system` in a folder of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import SkipTest

from heritage_align.config import load_config
from heritage_align.planning import plan
from heritage_align.plugins import default_registry
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect
from heritage_align.training.job import TrainingOutcome
from heritage_align.training.run import run_training
from heritage_align.training.settings import TrainerConfig


def _trained(case: Case, folder: Path) -> TrainingOutcome:
    if not case.system:
        raise SkipTest("the case names no system to train")
    registry = case.registry or default_registry()
    config = replace(load_config(case.system, registry=registry, label="Case.system"), train=case.component)
    return run_training(config, folder, quiet=True, registry=registry)


def _measured(outcome: TrainingOutcome) -> Mapping[str, float]:
    return {name: value for name, value in outcome.metrics.items() if name != "seconds"}


@check("trainer")
def check_settings_are_a_trainer_s(case: Case) -> None:
    """Data, validation and batch size come from the command line and mean the same in every trainer."""
    model = type(case.config)
    expect(
        issubclass(model, TrainerConfig),
        f"{model.__name__} is no heritage_align.training.settings.TrainerConfig; inherit from it",
    )


@check("trainer")
def check_outcome_is_a_system(case: Case) -> None:
    """What was trained must run: `evaluate` and `search` read the configuration that the trainer returns."""
    with TemporaryDirectory() as folder:
        outcome = _trained(case, Path(folder))
        plan(load_config(outcome.document, registry=case.registry))
        odd = [name for name, value in outcome.metrics.items() if not math.isfinite(value)]
        expect(not odd, f"metrics {', '.join(odd)} are not finite")
        abroad = [name for name, path in outcome.files.items() if not path.is_relative_to(folder)]
        expect(not abroad, f"it wrote {', '.join(abroad)} outside the run's folder")


@check("trainer")
def check_training_repeats(case: Case) -> None:
    """The same configuration and seed in another folder, or once more in the same one, must measure the same."""
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        first = _measured(_trained(case, Path(one)))
        for place, folder in (("another folder", other), ("the same folder", one)):
            again = _measured(_trained(case, Path(folder)))
            expect(again == first, f"in {place} it measures {dict(again)}, the first time {dict(first)}")
