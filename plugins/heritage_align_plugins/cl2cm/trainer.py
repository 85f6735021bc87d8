"""Train a teacher between two languages, then a student between pictures and captions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from heritage_align.plugin import BuildContext
from heritage_align.training import TrainingJob, TrainingOutcome, distributed, fit, run_identity
from heritage_align_plugins.cl2cm.config import Cl2cmTrainerConfig
from heritage_align_plugins.cl2cm.description import Description
from heritage_align_plugins.cl2cm.material import Material, gather_material
from heritage_align_plugins.cl2cm.model import StudentModel
from heritage_align_plugins.cl2cm.pairs import drawn_seed
from heritage_align_plugins.cl2cm.student import STUDENT, StudentStage
from heritage_align_plugins.cl2cm.teacher import TEACHER, TeacherStage
from heritage_align_plugins.cl2cm.text import TextModel

TEACHER_FOLDER = "teacher"


class Cl2cmTrainer:
    """Learns texts of a language that has only translations of captions; pictures stay as an encoder sees them."""

    def __init__(self, config: Cl2cmTrainerConfig, context: BuildContext) -> None:
        self.config = config
        self._context = context

    def train(self, job: TrainingJob) -> TrainingOutcome:
        """Train the teacher where the mode has one, then the student.

        Raises:
            DataError: the captions do not come in pairs, or the data cannot be trained on.
            CheckpointError: the folder holds a run of another configuration.
        """
        settings, context = self.config, self._context
        job.folder.mkdir(parents=True, exist_ok=True)
        material = gather_material(job, settings, context)
        files = {"model": job.folder / STUDENT}
        teacher = start = None
        if settings.mode == "cl2cm":
            stage = self._teacher(job, material)
            files["teacher"] = job.folder / TEACHER_FOLDER / TEACHER
            teacher = stage.teach(material.train.pairs) if settings.distillation_weight else None
            start = stage.model.state_dict() if settings.warm_start else None
        vocabulary, image_dim = material.vocabulary, material.train.vectors.shape[1]
        description = Description(
            settings.dim, image_dim, settings.mode, settings.source, settings.target, settings.text, vocabulary.tokens
        )
        with self._weights("student"):
            model = StudentModel(settings.text, len(vocabulary), image_dim, settings.dim).to(context.device)
        if start is not None:
            model.text.load_state_dict(start)
        student = StudentStage(model, description, settings, material.train, material.validation, teacher, context.seed)
        encoder: dict[str, Any] = {"name": "cl2cm", "checkpoint": str(job.folder / STUDENT)}
        if not material.from_file:
            encoder["base"] = job.config.encoder.as_dict()
        state = fit(
            student, settings, job.folder, identity=material.identity, seed=context.seed, resume=job.resume,
            quiet=job.quiet, exported=lambda: job.write_config(encoder),
        )  # fmt: skip
        return job.outcome(encoder, state, files)

    def _teacher(self, job: TrainingJob, material: Material) -> TeacherStage:
        """Train the teacher; returns it as it was in its best epoch."""
        settings, seed = self.config, self._context.seed
        with self._weights("teacher"):
            model = TextModel(settings.text, len(material.vocabulary), settings.dim).to(self._context.device)
        held = material.validation.pairs if material.validation is not None else None
        stage = TeacherStage(model, settings, material.parallel, held, seed)
        folder = job.folder / TEACHER_FOLDER
        folder.mkdir(exist_ok=True)
        schedule = settings.model_copy(update={"epochs": settings.teacher.epochs, "patience": None})
        fit(
            stage, schedule, folder, identity=run_identity(material.identity, TEACHER_FOLDER), seed=seed,
            resume=job.resume, quiet=job.quiet,
        )  # fmt: skip
        distributed.barrier()  # the first process writes what all of them read
        stage.restore(folder)
        return stage

    @contextmanager
    def _weights(self, stage: str) -> Iterator[None]:
        """Draw a model's weights from the run's seed, and leave the process's generator as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn_seed(self._context.seed, f"weights of the {stage}"))
            yield
