"""Stage 1, the teacher: source captions and their translations in one space, by sentence and by word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from heritage_align.plugin import write_atomically
from heritage_align.training.distributed import gather
from heritage_align_plugins.cl2cm.config import Cl2cmTrainerConfig
from heritage_align_plugins.cl2cm.losses import cosine_info_nce, word_alignment
from heritage_align_plugins.cl2cm.pairs import Pairs, trimmed
from heritage_align_plugins.cl2cm.stage import Stage, encode_numbers, recall_metrics
from heritage_align_plugins.cl2cm.student import Teacher
from heritage_align_plugins.cl2cm.text import TextModel
from heritage_align_plugins.cl2cm.vocabulary import hide

TEACHER = "teacher.safetensors"


class TeacherStage(Stage):
    """``InfoNCE(S, T) + w L_word``, one text model for both languages. The combination is ours (papers' abstract: two
    levels, the word level by optimal transport); XLM-Align gives the aligner.

    Args:
        model: the text model.
        settings: of the trainer.
        pairs: what is learned from.
        validation: what the best epoch is chosen by, or None.
        seed: of the batches.
    """

    def __init__(
        self, model: TextModel, settings: Cl2cmTrainerConfig, pairs: Pairs, validation: Pairs | None, seed: int
    ) -> None:
        super().__init__(settings, pairs, settings.teacher.learning_rate, seed)
        self.model: TextModel = model
        self._validation = validation

    def losses(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the sentence-level and the word-level loss and their weighted sum."""
        teacher = self._settings.teacher
        source, target = (
            self.model(hide(trimmed(numbers[rows]), self._settings.word_dropout))
            for numbers in (self._pairs.source, self._pairs.target)
        )
        sentence = cosine_info_nce(gather(source.sentences), gather(target.sentences), teacher.temperature)
        if not teacher.word_weight:
            return {"loss": sentence}
        word = word_alignment(target, source, teacher.word_temperature, teacher.sinkhorn_iterations)
        return {"loss": sentence + teacher.word_weight * word, "loss_sentence": sentence, "loss_word": word}

    def validate(self) -> Mapping[str, float]:
        """Return the recall of source captions by their translations, and the other way."""
        held = self._validation
        if held is None:
            return {}
        source, target = (encode_numbers(self.model, numbers) for numbers in (held.source, held.target))
        return recall_metrics(source, target, torch.arange(len(held)))

    def export(self, folder: Path) -> None:
        """Write the teacher's tensors."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        write_atomically(folder / TEACHER, lambda temporary: save_file(tensors, temporary))

    def restore(self, folder: Path) -> None:
        """Take back the tensors of the best epoch."""
        self.model.load_state_dict(load_file(folder / TEACHER))

    def teach(self, pairs: Pairs) -> Teacher:
        """Return what the model knows of some pairs."""
        return Teacher(*(encode_numbers(self.model, numbers) for numbers in (pairs.source, pairs.target)))
