"""Stage 2, the student: pictures and translated captions in one space, with what the teacher knows of the captions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from heritage_align.training.distributed import gather
from heritage_align_plugins.cl2cm.checkpoint import save_student
from heritage_align_plugins.cl2cm.config import Cl2cmTrainerConfig
from heritage_align_plugins.cl2cm.description import Description
from heritage_align_plugins.cl2cm.losses import cosine_info_nce, hardest_triplet, relational_distillation
from heritage_align_plugins.cl2cm.material import Pictured
from heritage_align_plugins.cl2cm.model import StudentModel
from heritage_align_plugins.cl2cm.pairs import trimmed
from heritage_align_plugins.cl2cm.stage import Stage, encode_numbers, recall_metrics
from heritage_align_plugins.cl2cm.vocabulary import hide

STUDENT = "model.safetensors"


class Teacher:
    """What stage 1 knows of every training pair, frozen: sentences in the teacher's space.

    Args:
        source: ``(n_pairs, dim)`` source captions, unit rows.
        target: ``(n_pairs, dim)`` their translations.
    """

    def __init__(self, source: Tensor, target: Tensor) -> None:
        self._source, self._target = source, target

    def relations(self, rows: Tensor) -> Tensor:
        """Return ``(n, n)`` cosines of the source captions with the translations of some pairs."""
        return self._source[rows] @ self._target[rows].T


class StudentStage(Stage):
    """Pictures and captions.

    Mode ``triplet``: hinge(V, T). ``none``: InfoNCE(V, T) + a InfoNCE(V, S). ``cl2cm``: the same + b L_rel, with L_rel
    the relational distillation from the teacher's (S, T) relations to the student's (V, T). The combination is ours.

    Args:
        model: the student.
        description: what the file says of it.
        settings: of the trainer.
        train: captions and pictures that are learned from.
        validation: those that the best epoch is chosen by, or None.
        teacher: for mode ``cl2cm``, None for the others.
        seed: of the batches.
    """

    def __init__(
        self,
        model: StudentModel,
        description: Description,
        settings: Cl2cmTrainerConfig,
        train: Pictured,
        validation: Pictured | None,
        teacher: Teacher | None,
        seed: int,
    ) -> None:
        super().__init__(settings, train.pairs, settings.learning_rate, seed)
        self.model: StudentModel = model
        self._description, self._teacher = description, teacher
        self._vectors, self._validation = train.vectors, validation

    def losses(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the losses of the mode; ``loss`` is their weighted sum."""
        settings, pairs = self._settings, self._pairs
        images = gather(self.model.images(self._vectors[pairs.picture[rows]], settings.image_dropout))
        target = gather(self._sentences(pairs.target, rows))
        if settings.mode == "triplet":
            return {"loss": hardest_triplet(images, target, settings.margin)}
        losses = {"loss_target": cosine_info_nce(images, target, settings.temperature)}
        total = losses["loss_target"]
        if settings.source_weight:
            source = gather(self._sentences(pairs.source, rows))
            losses["loss_source"] = cosine_info_nce(images, source, settings.temperature)
            total = total + settings.source_weight * losses["loss_source"]
        if self._teacher is not None:
            losses["loss_relations"] = relational_distillation(
                self._teacher.relations(gather(rows)),
                images @ target.T,
                settings.teacher_temperature,
                settings.distillation_temperature,
            )
            total = total + settings.distillation_weight * losses["loss_relations"]
        return {"loss": total, **losses}

    def validate(self) -> Mapping[str, float]:
        """Return the recall of pictures by translated captions, and the other way."""
        if self._validation is None:
            return {}
        held = self._validation.pairs
        self.model.eval()
        with torch.inference_mode():
            images = self.model.images(self._validation.vectors)
        return recall_metrics(images, encode_numbers(self.model.text, held.target), held.picture)

    def export(self, folder: Path) -> None:
        """Write the model as the encoder reads it."""
        save_student(self.model, self._description, folder / STUDENT)

    def _sentences(self, numbers: Tensor, rows: Tensor) -> Tensor:
        shown = hide(trimmed(numbers[rows]), self._settings.word_dropout)
        sentences: Tensor = self.model.text(shown).sentences
        return sentences
