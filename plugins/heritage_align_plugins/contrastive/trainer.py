"""The trainer: checks what it is given, runs the loop, and says how the result is used."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import torch
from cn_clip.clip.model import ModifiedResNet

from heritage_align.plugin import BuildContext, ConfigError, DataError, Dataset, Encoder
from heritage_align.training import CHANGEABLE, TrainingJob, TrainingOutcome, distributed, fit, run_identity
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.loading import LoadedModel, load_configured
from heritage_align_plugins.contrastive.collection import DatasetView, Reading
from heritage_align_plugins.contrastive.config import ContrastiveConfig
from heritage_align_plugins.contrastive.export import CN_CLIP_MODEL, MODEL
from heritage_align_plugins.contrastive.pairs import Pairs, batch_count, pairs_of
from heritage_align_plugins.contrastive.stages import stages_of
from heritage_align_plugins.contrastive.student import Student
from heritage_align_plugins.contrastive.task import ContrastiveTask

# What changes neither the weights nor which of them is the best; the data sets have digests of their own.
_WITHOUT_EFFECT = {*CHANGEABLE, "checkpointing", "encode_batch", "kept_mib"}
_DATA = {"data", "validation", "validation_share"}


class ContrastiveTrainer:
    """Trains the cn_clip encoder of a configuration; a `Trainer`.

    Args:
        config: settings.
        context: device and seed; the teacher, where there is one.
    """

    def __init__(self, config: ContrastiveConfig, context: BuildContext) -> None:
        self._config, self._context = config, context

    def train(self, job: TrainingJob) -> TrainingOutcome:
        """Train, or go on where a killed run stopped.

        Returns:
            The job's configuration with the trained encoder, without its ``train`` section; the best epoch's metrics.

        Raises:
            ConfigError: the encoder is no cn_clip model, or settings do not suit it or the number of processes.
            DataError: the data has no pairs, or fewer than fill a batch.
            CheckpointError: the weights to begin with do not fit, or the folder holds another run.
        """
        config, context = self._config, self._context
        encoder = job.config.encoder.settings
        if not isinstance(encoder, CnClipConfig):
            raise ConfigError([f"encoder: contrastive trains cn_clip models, not {job.config.encoder.spec.name}"])
        with distributed.process_group(context.device) as name:
            device = torch.device(name)
            loaded = load_configured(encoder, context.seed)
            self._check(loaded)
            bad = job.unreadable("train")
            pairs = self._pairs(job.train, bad)
            reading = Reading(
                job.config.runtime.threads(), config.encode_batch, config.kept_mib * 2**20, device, job.quiet
            )
            length, characters, held = loaded.architecture.context_length, loaded.characters, job.validation
            train = DatasetView(job.train, pairs.image_ids, pairs.texts, length, characters, reading)
            validation = None
            if held is not None:
                lost = job.unreadable("validation")
                shown = [image_id for image_id in held.image_ids if image_id not in lost]
                told = [item for item in held.texts if not lost.issuperset(item.image_ids) or not item.image_ids]
                validation = DatasetView(held, shown, told, length, characters, reading)
            student = Student(loaded, device, config.precision, config.checkpointing)
            teacher: Encoder | None = context.nested.get("teacher")
            identity = run_identity(
                config.model_dump(mode="json", exclude=_WITHOUT_EFFECT | _DATA),
                [loaded.weights_name, loaded.architecture.asdict(), teacher and teacher.fingerprint(), context.seed],
                [_described(job.train, golden=config.learns_from_golden), sorted(bad), held and _described(held)],
            )
            task = ContrastiveTask(student, config, pairs, train, validation, teacher, context.seed)
            # The file holds the architecture, its input size and context length, whatever they were changed to.
            changed = {"model": str(job.folder / MODEL), "checkpoint": None, "image_size": None, "context_length": None}
            trained = {**job.config.encoder.as_dict(), **changed}
            with closing(task):
                state = fit(
                    task, config, job.folder, identity=identity, seed=context.seed, resume=job.resume, quiet=job.quiet,
                    exported=lambda: job.write_config(trained),
                )  # fmt: skip
        files = {"model": job.folder / MODEL, "cn_clip model": job.folder / CN_CLIP_MODEL}
        return job.outcome(trained, state, files)

    def _check(self, loaded: LoadedModel) -> None:
        config, world, faults = self._config, distributed.world_size(), []
        if config.batch_size % (world * config.accumulate):
            faults.append(
                f"train.batch_size: {config.batch_size} pairs cannot be divided among {world} processes in "
                f"{config.accumulate} parts each"
            )
        if isinstance(loaded.model.visual, ModifiedResNet):
            if config.mask_ratio:
                faults.append(
                    f"train.mask_ratio: {loaded.architecture.name} is a ResNet and has no patches; take a ViT"
                )
            for weight in ("patch_weight", "region_weight"):
                if getattr(config, weight):
                    faults.append(f"train.{weight}: {loaded.architecture.name} is a ResNet; take a ViT")
            if config.accumulate > 1 and any("visual." not in s.frozen for s in stages_of(config)):
                faults.append(
                    f"train.accumulate: the batch normalisation of {loaded.architecture.name} would see parts of the "
                    "batch; freeze vision or use checkpointing"
                )
        if self._config.teacher is not None and "teacher" not in self._context.nested:
            faults.append("train.teacher: was not built; give it to the trainer as BuildContext.nested['teacher']")
        if faults:
            raise ConfigError(faults)

    def _pairs(self, dataset: Dataset, without: frozenset[str]) -> Pairs:
        pairs = pairs_of(dataset, without)
        size = self._config.batch_size
        if not batch_count(pairs, size, self._config.captions):
            raise DataError(
                f"{dataset.name}: {len(pairs.image_ids)} pictures with captions do not fill a batch of {size} "
                "different ones; lower train.batch_size"
            )
        return pairs


def _described(dataset: Dataset, *, golden: bool = False) -> list[Any]:
    """Return what of a data set a run is of."""
    texts = [(item.id, item.text, item.image_ids) for item in dataset.texts]
    return [dataset.image_ids, texts, [(p.image_id, p.box, p.phrases) for p in dataset.golden] if golden else []]
