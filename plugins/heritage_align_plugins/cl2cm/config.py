"""Settings of the trainer and of the encoder that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from heritage_align.plugin import ComponentConfig, Facts, Kind
from heritage_align.training import TrainerConfig
from heritage_align_plugins.cl2cm.settings import TextSettings

Mode = Literal["cl2cm", "none", "triplet"]


class Cl2cmConfig(ComponentConfig):
    """A trained model; `train` writes this section."""

    checkpoint: Path = Field(description="the model's .safetensors file; its vocabulary is in the metadata")
    base: dict[str, Any] | None = Field(
        None,
        description="encoder of pictures below the model, {name: ..., settings}; null: it takes the global feature "
        "that the proposer gives (of a video, the mean of its frames)",
    )

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the encoder below."""
        return {} if self.base is None else {"base": ("encoder", self.base)}

    def facts(self) -> Facts:
        """Read the width from the file's metadata."""
        outputs = ("global", "texts") if self.base is not None else ("global", "texts", "features")
        files = {"checkpoint": self.checkpoint}
        if not self.checkpoint.exists():
            return Facts(outputs=outputs, files=files)
        from heritage_align_plugins.cl2cm.description import read_description

        return Facts(dim=read_description(self.checkpoint).dim, outputs=outputs, files=files)


class TeacherSettings(ComponentConfig):
    """Stage 1: source captions against their translations. All numbers are ours."""

    data: dict[str, Any] | None = Field(
        None,
        description="data set whose captions the teacher learns from besides: parallel text, no picture is opened. It "
        "stands for the many languages that mBERT, the paper's teacher, has read",
    )
    epochs: int = Field(8, ge=1, description="passes over the pairs; a long training learns the translator's mistakes")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate")
    temperature: float = Field(0.07, gt=0, description="of InfoNCE between sentences")
    word_weight: float = Field(0.3, ge=0, description="of the word-level loss; 0: sentences only")
    word_temperature: float = Field(0.1, gt=0, description="of the choice among the words of the other sentence")
    sinkhorn_iterations: int = Field(2, ge=1, description="column and row normalisations (XLM-Align: 2)")


class Cl2cmTrainerConfig(TrainerConfig):
    """Stage 2 and what both stages share. The paper gives no number: all defaults are ours."""

    mode: Mode = Field(
        "cl2cm",
        description="cl2cm: with distillation from the teacher; none: the same without; triplet: translations only, "
        "hardest negative in the batch",
    )
    source: str = Field("zh", min_length=1, description="language of the human captions")
    target: str = Field("en", min_length=1, description="language of the machine translations")
    dim: int = Field(128, ge=1, description="width of the common space")
    text: TextSettings = Field(TextSettings(), description="text model of teacher and student, each with its own")
    teacher: TeacherSettings = Field(TeacherSettings(), description="stage 1")
    temperature: float = Field(0.07, gt=0, description="of InfoNCE between pictures and captions")
    source_weight: float = Field(1.0, ge=0, description="of InfoNCE of pictures with source captions; 0: left out")
    warm_start: bool = Field(
        False, description="mode cl2cm: the student's text model starts as the teacher's instead of at random"
    )
    distillation_weight: float = Field(1.0, ge=0, description="of the relational distillation; 0: warm start alone")
    teacher_temperature: float = Field(0.04, gt=0, description="of the teacher's relations")
    distillation_temperature: float = Field(0.07, gt=0, description="of the student's relations")
    margin: float = Field(0.2, gt=0, description="of mode triplet")
    word_dropout: float = Field(0.1, ge=0, lt=1, description="share of the tokens that training hides")
    image_dropout: float = Field(0.1, ge=0, lt=1, description="share of an image vector's numbers that training hides")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the updates with a rising rate; a cosine follows")
    batch_size: int = Field(64, ge=2, description="pictures in a batch, over all processes")
    epochs: int = Field(20, ge=1, description="passes over the pictures, each with one of its captions")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of the student")

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the data sets, those of the teacher too."""
        own = {} if self.teacher.data is None else {"teacher.data": ("dataset", self.teacher.data)}
        return {**super().nested(), **own}  # type: ignore[dict-item]

    @model_validator(mode="after")
    def _two_languages(self) -> Cl2cmTrainerConfig:
        if self.source == self.target:
            raise ValueError(f"target: is {self.target!r}, and so is source")
        if self.mode == "cl2cm" and not self.distillation_weight and not self.warm_start:
            raise ValueError("distillation_weight: is 0 without warm_start, so that the teacher is for nothing")
        return self
