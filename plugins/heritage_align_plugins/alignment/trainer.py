"""Train an alignment model; `train` runs it for recipes scan, bfan, their variants and deepfrag."""

from __future__ import annotations

from collections.abc import Mapping
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
    Registry,
    Similarity,
    build_component,
    default_registry,
    gives,
)
from heritage_align.training import TrainingJob, TrainingOutcome, TrainingState, fit, history_files, run_identity
from heritage_align_plugins.alignment.collected import Collected, collect
from heritage_align_plugins.alignment.config import AlignmentTrainerConfig
from heritage_align_plugins.alignment.golden import collect_golden
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.side import Side
from heritage_align_plugins.alignment.task import MODEL, AlignmentTask
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from heritage_align_plugins.alignment.warm_start import start_from_cca

GOLDEN = "golden"
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
        settings, context = self.config, self._context
        registry = job.registry or default_registry()
        side = Side.of(job.config, context, registry)
        runtime = job.config.runtime
        settings = settings.model_copy(update={"model": settings.model.resolved(side.raw)})
        if settings.model.whole == "pooled" and not side.raw:
            fault = (
                "train.model.whole: pooled is for region features; this encoder's pictures know nothing of their crops"
            )
            raise ConfigError([fault], job.config.source)
        options: dict[str, Any] = {"batch_size": runtime.batch_size, "workers": runtime.threads(), "quiet": job.quiet}
        train = collect(job.train, side, **options)
        validation = collect(job.validation, side, **options) if job.validation is not None else None
        base_text = _base_text(job.config, settings, context, registry, side)
        model = build_model(settings, train, base_text, context.seed).to(context.device)
        similarity = build_similarity(job.config, context, registry)
        task = AlignmentTask(model, similarity, settings, train, validation, context.seed, side.raw)
        exact = not side.stage.pictures
        digests = [data.digest(exact) if data is not None else None for data in (train, validation)]
        identity = run_identity(_shaping(job.config), digests)
        state = fit(
            task, settings, job.folder, identity=identity, seed=context.seed, resume=job.resume, quiet=job.quiet
        )
        files = {"model": job.folder / MODEL, **history_files(job.folder)}
        folder = job.folder
        if settings.golden_epochs:
            folder = job.folder / GOLDEN
            state = self._fine_tune(job, task, side, folder, identity)
            files["model"] = folder / MODEL
        return TrainingOutcome(trained_document(job.config, folder / MODEL, side.raw, settings), _metrics(state), files)

    def _fine_tune(
        self, job: TrainingJob, task: AlignmentTask, side: Side, folder: Path, identity: str
    ) -> TrainingState:
        """Go on from the best epoch with golden pairs: a box is a picture of one region (Sheng et al. 2021, 4.4)."""
        runtime = job.config.runtime
        golden = collect_golden(job.train, side, batch_size=runtime.batch_size, workers=runtime.threads())
        folder.mkdir(exist_ok=True)
        best = AlignmentModel(task.model.settings, task.model.feature_dim, task.model.vocabulary, _base_of(task.model))
        best.load_state_dict(load_file(job.folder / MODEL))
        settings = self.config.model_copy(update={"epochs": self.config.golden_epochs, "patience": None})
        tuned = AlignmentTask(
            best.to(self._context.device), task.similarity, settings, golden, None, self._context.seed, side.raw
        )
        return fit(
            tuned, settings, folder, identity=run_identity(identity, golden.digest(False)), seed=self._context.seed + 1,
            resume=job.resume, quiet=job.quiet,
        )  # fmt: skip


def build_model(
    settings: AlignmentTrainerConfig, train: Collected, base_text: Encoder | None, seed: int
) -> AlignmentModel:
    """Build a model for training data, started as the settings say."""
    assert train.images.regions is not None
    documents = [" \n ".join([item.text, *split]) for item, split in zip(train.items, train.fragments)]
    vocabulary = Vocabulary.of(documents, settings.model.min_count, settings.model.min_pairs, settings.model.pieces)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AlignmentModel(settings.model, train.images.regions.dim, vocabulary, base_text)
    whole, regions = train.images.global_features.float(), train.images.regions
    model.image.fit_scale(torch.cat([whole, regions.values.float()]))
    if model.whole is not None:
        model.whole.fit_scale(whole, Ragged(regions.values.float(), regions.offsets), train.images.boxes)
    if settings.warm_start is not None:
        start_from_cca(model, train, settings.warm_start)
    return model


def build_similarity(config: Config, context: BuildContext, registry: Registry) -> Similarity:
    """Build the configuration's similarity with what its filters hand to it."""
    attention: dict[str, Any] = {}
    for component in config.filters:
        if "attention" in gives(component):
            attention.update(build_component(component, context, registry).attention)
    context = BuildContext(context.device, context.precision, context.seed, attention=attention)
    similarity: Similarity = build_component(config.similarity, context, registry)
    return similarity


def _base_text(
    config: Config, settings: AlignmentTrainerConfig, context: BuildContext, registry: Registry, side: Side
) -> Encoder | None:
    if "frozen" not in settings.model.text:
        return None
    if config.text_encoder is not None:
        encoder: Encoder = build_component(config.text_encoder, context, registry)
        return encoder
    if "texts" in gives(config.encoder):
        return side.stage.encoder
    raise ConfigError(["text_encoder: is missing; train.model.text frozen projects one"], config.source)


def _text_base(config: Config, settings: AlignmentTrainerConfig) -> Component | None:
    if "frozen" not in settings.model.text:
        return None
    return config.text_encoder or config.encoder


def _base_of(model: AlignmentModel) -> Encoder | None:
    return model.text["frozen"].base if "frozen" in model.text else None  # type: ignore[return-value]


def _shaping(config: Config) -> dict[str, Any]:
    """Return the parts of a configuration that shape the trained weights."""
    document = config.as_dict()
    runtime = document["runtime"]
    document = {key: value for key, value in document.items() if key not in _SHAPELESS}
    document["train"] = {key: value for key, value in document["train"].items() if key != "checkpoint_steps"}
    return {**document, "seed": runtime["seed"], "precision": runtime["precision"]}


def trained_document(config: Config, model: Path, raw: bool, settings: AlignmentTrainerConfig) -> Mapping[str, Any]:
    """Return the configuration with the trained model as its encoder."""
    document = config.as_dict()
    encoder: dict[str, Any] = {"name": "alignment", "checkpoint": str(model)}
    if not raw:
        encoder["base"] = config.encoder.as_dict()
    text_base = _text_base(config, settings)
    if text_base is not None:
        encoder["text_base"] = text_base.as_dict()
    document["encoder"] = encoder
    document.pop("text_encoder", None)
    return document


def _metrics(state: TrainingState) -> dict[str, float]:
    """Return the best epoch's record, or the last one's without validation."""
    number = state.best_epoch or state.epoch
    return dict(state.history[number - 1])
