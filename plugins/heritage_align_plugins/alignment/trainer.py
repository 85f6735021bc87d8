"""Train an alignment model; `train` runs it for recipes scan, bfan, their variants and deepfrag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from heritage_align.ops import Ragged
from heritage_align.plugin import (
    BuildContext,
    Component,
    Config,
    ConfigError,
    Encoder,
    Similarity,
    build_component,
    default_registry,
    gives,
)
from heritage_align.training import (
    CHANGEABLE,
    FrontEnd,
    Material,
    TrainingJob,
    TrainingOutcome,
    TrainingState,
    distributed,
    fit,
    run_identity,
)
from heritage_align_plugins.alignment.config import AlignmentTrainerConfig
from heritage_align_plugins.alignment.golden import golden_material
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.task import MODEL, AlignmentTask
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from heritage_align_plugins.alignment.warm_start import start_from_cca

GOLDEN = "golden"
REFIT = "all-pairs"
"""Begin of the name of a run's folder for the model that all pairs have trained; the number of its epochs ends it."""
_SHAPELESS = frozenset({"name", "index", "data", "store", "search", "runtime"})


class AlignmentTrainer:
    """Learns image projection and text model on frozen region features."""

    def __init__(self, config: AlignmentTrainerConfig, context: BuildContext) -> None:
        self.config = config
        self._context = context

    def train(self, job: TrainingJob) -> TrainingOutcome:
        """Train, then fine-tune on golden pairs where the settings ask for it.

        Raises:
            ConfigError: settings that do not fit together.
            DataError: the data cannot be trained on; names the first offenders.
            CheckpointError: the folder holds a run of another configuration.
        """
        settings, front = self.config, job.front_end
        refuse_bare(job.config)
        settings = settings.model_copy(update={"model": settings.model.resolved(front.as_given)})
        if settings.model.whole == "pooled" and not front.as_given:
            fault = (
                "train.model.whole: pooled is for region features; this encoder's pictures know nothing of their crops"
            )
            raise ConfigError([fault], job.config.source)
        train = job.material("train")
        validation = job.material("validation") if job.validation is not None else None
        task = build_task(job, settings, train, validation, _base_text(front, settings))
        exact = not front.stage.pictures
        digests = [data.digest(exact) if data is not None else None for data in (train, validation)]
        # Fine-tuning begins with the best epoch: another number of epochs would be another beginning.
        changeable = frozenset({"checkpoint_steps"}) if settings.golden_epochs else CHANGEABLE
        identity = run_identity(_shaping(job.config, changeable), digests)
        encoder = trained_encoder(job, job.folder / MODEL, settings)
        state = fit(
            task, settings, job.folder, identity=identity, seed=self._context.seed, resume=job.resume, quiet=job.quiet,
            exported=lambda: job.write_config(encoder), start=settings.warm_start is not None,
        )  # fmt: skip
        folder = job.folder
        if settings.refit and job.held_out:
            assert validation is not None
            train = train.joined(validation)
            folder = job.folder / f"{REFIT}-{state.best_epoch}"
            task = self._fit_again(job, settings, train, folder, identity, state.best_epoch)
            encoder = trained_encoder(job, folder / MODEL, settings)
        if settings.golden_epochs:
            before, folder = folder, job.folder / GOLDEN
            encoder = trained_encoder(job, folder / MODEL, settings)
            state = self._fine_tune(job, task, train, before, folder, identity, lambda: job.write_config(encoder))
        return job.outcome(encoder, state, {"model": folder / MODEL})

    def _fit_again(
        self, job: TrainingJob, settings: AlignmentTrainerConfig, train: Material, folder: Path, identity: str,
        epochs: int,
    ) -> AlignmentTask:  # fmt: skip
        """Train on all data for as many epochs as were best without a part of them; 0: start and export."""
        folder.mkdir(exist_ok=True)
        task = build_task(job, settings, train, None, _base_text(job.front_end, settings))
        if epochs == 0:
            if distributed.rank() == 0:
                task.export(folder)
            distributed.barrier()
            return task
        fit(
            task, settings.model_copy(update={"patience": None}), folder,
            identity=run_identity(identity, REFIT, epochs), seed=self._context.seed, resume=job.resume,
            quiet=job.quiet, until=epochs,
        )  # fmt: skip
        return task

    def _fine_tune(
        self, job: TrainingJob, task: AlignmentTask, train: Material, before: Path, folder: Path, identity: str,
        exported: Callable[[], None],
    ) -> TrainingState:  # fmt: skip
        """Go on from `before`'s model with golden pairs: a box is a picture of one region (Sheng et al. 2021, 4.4)."""
        runtime = job.config.runtime
        golden = golden_material(
            job.train, job.front_end.stage, batch_size=runtime.batch_size, workers=runtime.threads()
        )
        folder.mkdir(exist_ok=True)
        best = AlignmentModel(task.model.settings, task.model.feature_dim, task.model.vocabulary, _base_of(task.model))
        best.load_state_dict(load_file(before / MODEL))
        settings = self.config.model_copy(update={"epochs": self.config.golden_epochs, "patience": None})
        tuned = AlignmentTask(
            best.to(self._context.device),
            task.similarity,
            settings,
            golden,
            None,
            self._context.seed,
            job.front_end.as_given,
            remembered=train,
        )
        return fit(
            tuned, settings, folder, identity=run_identity(identity, golden.digest(False)), seed=self._context.seed + 1,
            resume=job.resume, quiet=job.quiet, exported=exported,
        )  # fmt: skip


def build_task(
    job: TrainingJob,
    settings: AlignmentTrainerConfig,
    train: Material,
    validation: Material | None,
    base_text: Encoder | None,
) -> AlignmentTask:
    """Build a model for the job's data and the configuration's similarity, which scores it."""
    front, registry = job.front_end, job.registry or default_registry()
    model = build_model(settings, train, base_text, front.context.seed).to(front.context.device)
    context = replace(front.context, encoder=None, attention=front.attention)
    similarity: Similarity = build_component(job.config.similarity, context, registry)
    return AlignmentTask(model, similarity, settings, train, validation, front.context.seed, front.as_given)


def build_model(
    settings: AlignmentTrainerConfig, train: Material, base_text: Encoder | None, seed: int
) -> AlignmentModel:
    """Build a model for training data, started as the settings say."""
    assert train.images.regions is not None
    documents = [" \n ".join([item.text, *split]) for item, split in zip(train.items, train.fragments)]
    vocabulary = Vocabulary.of(documents, settings.model.min_count, settings.model.min_pairs, settings.model.pieces)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AlignmentModel(settings.model, train.images.regions.dim, vocabulary, base_text)
    whole, regions = train.images.global_features.float(), train.images.regions
    if model.image is not None:
        model.image.fit_scale(torch.cat([whole, regions.values.float()]))
    if model.whole is not None:
        model.whole.fit_scale(whole, Ragged(regions.values.float(), regions.offsets), train.images.boxes)
    if settings.warm_start is not None:
        start_from_cca(model, train, settings.warm_start)
    return model


def refuse_bare(config: Config) -> None:
    """Raise ConfigError where a configuration has no proposer."""
    if config.proposer is None:
        raise ConfigError(["proposer: is missing; training compares regions"], config.source)


def _base_text(front: FrontEnd, settings: AlignmentTrainerConfig) -> Encoder | None:
    if "frozen" not in settings.model.text:
        return None
    if front.config.text_encoder is None and "texts" not in gives(front.config.encoder):
        fault = "text_encoder: is missing; train.model.text frozen projects one"
        raise ConfigError([fault], front.config.source)
    return front.text_encoder


def _text_base(config: Config, settings: AlignmentTrainerConfig) -> Component | None:
    if "frozen" not in settings.model.text:
        return None
    return config.text_encoder or config.encoder


def _base_of(model: AlignmentModel) -> Encoder | None:
    return model.text["frozen"].base if "frozen" in model.text else None  # type: ignore[return-value]


def _shaping(config: Config, changeable: frozenset[str]) -> dict[str, Any]:
    """Return the parts of a configuration that shape the trained weights, without settings that may change."""
    document = config.without_revisions()
    runtime = document["runtime"]
    document = {key: value for key, value in document.items() if key not in _SHAPELESS}
    document["train"] = {key: value for key, value in document["train"].items() if key not in changeable}
    return {**document, "seed": runtime["seed"], "precision": runtime["precision"]}


def trained_encoder(job: TrainingJob, model: Path, settings: AlignmentTrainerConfig) -> dict[str, Any]:
    """Return the settings of the trained model as an encoder."""
    config = job.config
    encoder: dict[str, Any] = {"name": "alignment", "checkpoint": str(model)}
    if not job.front_end.as_given:
        encoder["base"] = config.encoder.as_dict()
    text_base = _text_base(config, settings)
    if text_base is not None:
        encoder["text_base"] = text_base.as_dict()
    return encoder
