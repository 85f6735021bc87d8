"""Run the trainer that a configuration names: data, checks, folder, and the configuration that uses the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from heritage_align.config import Component, Config
from heritage_align.data.subset import hold_out
from heritage_align.errors import CheckpointError, ConfigError, DataError
from heritage_align.front_end import build_component
from heritage_align.pipeline import resolve_device
from heritage_align.planning import feature_width_clashes, missing_pieces
from heritage_align.plugins import Registry, default_registry
from heritage_align.protocols import BuildContext, Dataset, Trainer
from heritage_align.store.files import write_text
from heritage_align.training import distributed
from heritage_align.training.job import TRAINED, TrainingJob, TrainingOutcome, write_trained
from heritage_align.training.settings import TrainerConfig
from heritage_align.training.state import LAST

TRAINING = "training.yaml"
METRICS = "metrics.json"


def run_training(
    config: Config, folder: Path, *, resume: bool = True, quiet: bool = False, registry: Registry | None = None
) -> TrainingOutcome:
    """Train what `config` says into `folder`; a run that was killed goes on.

    Writes ``training.yaml`` (what was asked for), the trainer's checkpoints and history, ``metrics.json`` and
    ``config.yaml`` (the system with the trained model, for evaluate, index, search, explain; trainers that go by epochs
    write it with the first model).

    Raises:
        ConfigError: no trainer, no data, or a piece that is missing.
        DataError: the data cannot be trained on, or `resume` is False and the folder holds a run.
        CheckpointError: the folder holds a run of another configuration, or one that has ended and lacks its model.
    """
    registry = registry or default_registry()
    component = trainer_of(config)
    faults = [*missing_pieces([*config.components(), component])] or [*feature_width_clashes(config)]
    if faults:
        raise ConfigError(faults, config.source)
    begun = any(folder.rglob(LAST))
    if not resume and (begun or (folder / TRAINED).exists()):
        raise DataError(f"{folder}: holds a run already; go on with it (without --fresh) or train into another folder")
    with distributed.process_group(resolve_device(config.runtime.device)) as device:
        context = BuildContext(device, config.runtime.precision, config.runtime.seed)
        train, validation = training_data(config, registry)
        # The data sets are built above; a trainer has them from its job.
        rest = {place: inner for place, inner in component.nested.items() if place not in ("data", "validation")}
        trainer: Trainer = build_component(replace(component, nested=rest), context, registry)
        if distributed.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            if not begun:  # else it says what the checkpoint there is of
                write_text(folder / TRAINING, config.to_yaml())
        distributed.barrier()
        outcome = trainer.train(TrainingJob(config, train, validation, folder, resume, registry, quiet, context))
        if distributed.rank() == 0:
            _refuse_missing(outcome, folder)
            write_text(folder / TRAINING, config.to_yaml())  # a run that went on may have got other epochs
            write_trained(outcome.document, folder, registry)
            write_text(folder / METRICS, json.dumps(dict(outcome.metrics), indent=1) + "\n")
    return outcome


def _refuse_missing(outcome: TrainingOutcome, folder: Path) -> None:
    """Refuse a result without its files: of a run that had ended before, and whose model has been removed since."""
    gone = [path for path in outcome.files.values() if not path.is_file()]
    if gone:
        raise CheckpointError(
            f"{gone[0]}: is missing, and the trainer says that it wrote it: put it back if it was removed since, or "
            f"delete {folder} and train again"
        )


def trainer_of(config: Config) -> Component:
    """Return the configuration's trainer; raises ConfigError where it names none."""
    if config.train is None:
        fault = "train: is missing; name a trainer, for example train: {name: alignment}, or take a recipe of one"
        raise ConfigError([fault], config.source)
    return config.train


def training_data(config: Config, registry: Registry) -> tuple[Dataset, Dataset | None]:
    """Build what is trained and validated on; the validation set is held out by artwork where none is named.

    Raises:
        ConfigError: no training data is named.
        DataError: the training data has no text, or its artworks are too few to hold some out.
    """
    component = trainer_of(config)
    settings = component.settings
    assert isinstance(settings, TrainerConfig)
    context = BuildContext(seed=config.runtime.seed)
    if "data" not in component.nested:
        fault = "train.data: is missing; name the data set to learn from, or give --data PATH"
        raise ConfigError([fault], config.source)
    train: Dataset = build_component(component.nested["data"], context, registry)
    if not train.texts:
        raise DataError(f"{train.name}: has no texts to learn from")
    if "validation" in component.nested:
        return train, build_component(component.nested["validation"], context, registry)
    return hold_out(train, settings.validation_share)
