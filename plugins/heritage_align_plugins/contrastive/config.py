"""Settings of contrastive training; defaults are those of Chinese-CLIP's fine-tuning script where it has one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from heritage_align.plugin import Kind
from heritage_align.training import TrainerConfig

Frozen = Literal["none", "vision", "text"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageConfig(_Settings):
    """A part of the training with its own schedule, as a run of Chinese-CLIP's code would be."""

    epochs: int = Field(ge=1, description="passes over the training data")
    freeze: Frozen = Field("none", description="tower that is not trained; vision: locked-image tuning (LiT)")
    freeze_parts: tuple[str, ...] = Field(
        (), description="further parts by the beginnings of their parameters' names, for example bert.embeddings"
    )
    learning_rate: float | None = Field(None, gt=0, description="peak; null: the trainer's")
    warmup: int | None = Field(None, ge=0, description="steps of linear warm-up; null: the trainer's")


class AugmentationConfig(_Settings):
    """Chinese-CLIP's --use-augment: a crop, a mirror image, AutoAugment's policy for ImageNet."""

    scale: tuple[float, float] = Field((0.9, 1.0), description="share of the picture's area that a crop keeps")
    aspect: tuple[float, float] = Field((0.75, 4 / 3), description="width over height that a crop is squeezed by")
    flip: float = Field(0.5, ge=0, le=1, description="chance of a mirror image; 0 where captions say left and right")
    auto_augment: bool = Field(True, description="one of the 25 pairs of operations of Cubuk et al. 2019 (ImageNet)")

    @field_validator("scale", "aspect")
    @classmethod
    def _ascends(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected two ascending numbers above 0")
        return value

    @field_validator("scale")
    @classmethod
    def _is_a_share(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[1] > 1:
            raise ValueError("a crop cannot keep more than the picture, 1.0")
        return value


class ContrastiveConfig(TrainerConfig):
    """Symmetric InfoNCE over the pictures and captions of a batch, with a learned temperature (CLIP).

    Chinese-CLIP's own scripts are the source of the defaults (flickr30k_finetune_vit-b-16_rbt-base.sh), but batch_size
    counts all processes and gradients are clipped by nobody.
    """

    epochs: int = Field(3, ge=1, description="passes over the training data; where there are stages, their sum")
    batch_size: int = Field(128, ge=2, description="pairs in a batch, over all processes; all others are negatives")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate")
    clip_gradient: float | None = Field(
        None, gt=0, description="largest norm of the gradient; null: not clipped, as in Chinese-CLIP's code"
    )
    stages: tuple[StageConfig, ...] = Field(
        (), description="what is trained one after the other; empty: one stage of `epochs` in which nothing is frozen"
    )
    warmup: int = Field(100, ge=0, description="steps of linear warm-up; then the rate falls to 0 by half a cosine")
    weight_decay: float = Field(0.001, ge=0, description="of AdamW, on the parameters that no_decay does not name")
    no_decay: tuple[str, ...] = Field(
        ("bn", "ln", "bias", "logit_scale"),
        description="parts of names of parameters without weight decay. Chinese-CLIP's list, which BERT's LayerNorm "
        "weights are not on; add LayerNorm to spare them",
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the mean of gradients")
    beta2: float | None = Field(None, ge=0, lt=1, description="of their squares; null: 0.98 for a ViT, 0.999 for RN50")
    epsilon: float | None = Field(None, gt=0, description="AdamW's; null: 1e-6 for a ViT, 1e-8 for RN50")
    captions: Literal["all", "one"] = Field(
        "all", description="of a picture with several: each once an epoch, or one, drawn again every epoch"
    )
    positives: Literal["pair", "known"] = Field(
        "pair", description="texts that a picture is drawn to: its own in the batch (CLIP), or all of them there that "
        "the data set gives it, in equal shares (UniCL)"
    )  # fmt: skip
    negatives: Literal["batch", "source"] = Field(
        "batch", description="what a pair is held against: the whole batch, or pairs of the same part of a union"
    )
    together: int = Field(
        1, ge=1, description="pictures of one artwork that are drawn into the same batch, as hard negatives; above 1 "
        "needs captions: one"
    )  # fmt: skip
    patch_weight: float = Field(
        0.0, ge=0, description="of the contrast between patches and the phrases of the golden regions that they show "
        "(ours)"
    )  # fmt: skip
    region_weight: float = Field(
        0.0, ge=0, description="of the contrast between golden regions, pooled from the patches by RoIAlign, and their "
        "phrases (as FG-CLIP's)"
    )  # fmt: skip
    scale_rate: float = Field(1.0, gt=0, description="learning rate of the temperature's logarithm, over all others'")
    mask_ratio: float = Field(
        0.0, ge=0, lt=1, description="share of a picture's patches left out in training (FLIP; 0.5 in its script)"
    )
    accumulate: int = Field(
        1, ge=1, description="parts in which a batch is encoded with gradients; the gradient is that of the whole batch"
    )
    checkpointing: bool = Field(False, description="recompute layers in the backward pass: less memory, more time")
    augmentation: AugmentationConfig | None = Field(None, description="changes to training pictures; null: none")
    teacher: dict[str, Any] | None = Field(
        None, description="encoder whose picture features are distilled, {name: cn_clip, model: ViT-H-14, ...}"
    )
    distillation_weight: float = Field(0.5, ge=0, description="of the teacher's loss (--kd_loss_weight)")
    encode_batch: int = Field(64, ge=1, description="pictures or texts encoded at once where no gradient is needed")
    kept_mib: int = Field(
        1024, ge=0, description="MiB of pictures kept in memory at the size of the encoder's input, so that they are "
        "decoded once; of no use to pictures that are changed every epoch"
    )  # fmt: skip
    recall_at: tuple[int, ...] = Field((1, 5, 10), description="cut-offs of the recalls whose mean validation looks at")
    export_dtype: Literal["fp16", "fp32"] = Field(
        "fp16", description="of the written weights; cn_clip's own loader rounds to fp16 whatever is in the file"
    )

    @model_validator(mode="before")
    @classmethod
    def _epochs_are_those_of_the_stages(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("stages"), list | tuple) and "epochs" not in values:
            counts = [s.get("epochs") if isinstance(s, dict) else getattr(s, "epochs", None) for s in values["stages"]]
            if counts and all(isinstance(count, int) for count in counts):
                return {**values, "epochs": sum(counts)}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> ContrastiveConfig:
        if self.stages and self.epochs != (total := sum(stage.epochs for stage in self.stages)):
            raise ValueError(f"epochs: the stages have {total} together, leave epochs out or give that")
        if self.patience is not None and len(self.stages) > 1:
            raise ValueError("patience: could end the run before the later stages begin; leave it out with stages")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: {self.accumulate} parts do not divide a batch of {self.batch_size}")
        if self.learns_from_golden:
            self._patches_are_seen()
        if self.together > 1 and self.captions != "one":
            raise ValueError("together: needs captions: one, as no picture may come twice in a batch")
        if not self.recall_at or list(self.recall_at) != sorted(set(self.recall_at)) or self.recall_at[0] < 1:
            raise ValueError("recall_at: expected ascending cut-offs from 1")
        return self

    def _patches_are_seen(self) -> None:
        misplaced = {
            "mask_ratio": bool(self.mask_ratio),
            "augmentation": self.augmentation is not None,
            "accumulate": self.accumulate > 1,
            "stages": any(stage.freeze == "vision" for stage in self.stages),
        }
        named = [name for name, is_set in misplaced.items() if is_set]
        if named:
            weight = "patch_weight" if self.patch_weight else "region_weight"
            raise ValueError(f"{weight}: needs every patch, as it is, in one part; unset {', '.join(named)}")

    @property
    def learns_from_golden(self) -> bool:
        """Whether patches or regions are contrasted with the phrases of golden regions."""
        return bool(self.patch_weight or self.region_weight)

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the data sets and the teacher."""
        teacher: dict[str, tuple[Kind, dict[str, Any]]] = (
            {"teacher": ("encoder", self.teacher)} if self.teacher is not None else {}
        )
        return {**super().nested(), **teacher}
