"""Settings of the alignment system's components."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from heritage_align.plugin import ComponentConfig, Facts, Kind
from heritage_align.training import TrainerConfig
from heritage_align_plugins.alignment.settings import ModelSettings


class AlignmentConfig(ComponentConfig):
    """A trained model; `train` writes this section."""

    checkpoint: Path = Field(description="the model's .safetensors file")
    base: dict[str, Any] | None = Field(
        None,
        description="encoder of pictures and crops below the model, {name: ..., settings}; null: it takes the "
        "proposer's region features",
    )
    text_base: dict[str, Any] | None = Field(
        None, description="pretrained text encoder below the model, for text model frozen"
    )

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the encoders below."""
        below = {"base": self.base, "text_base": self.text_base}
        return {place: ("encoder", document) for place, document in below.items() if document is not None}

    def facts(self) -> Facts:
        """Read the width from the file's metadata; patches and pooled boxes are the base's, projected."""
        outputs = ("global", "texts", *(("features",) if self.base is None else self._dense()))
        files = {"checkpoint": self.checkpoint}
        if not self.checkpoint.exists():
            return Facts(outputs=outputs, files=files)
        from heritage_align_plugins.alignment.description import read_description

        return Facts(dim=read_description(self.checkpoint).settings.width, outputs=outputs, files=files)

    def _dense(self) -> tuple[str, ...]:
        from heritage_align.plugin import ConfigError, default_registry, gives, resolve_component

        assert self.base is not None
        try:
            base = resolve_component("encoder", self.base, default_registry())
        except ConfigError:  # named where the base itself is resolved
            return ()
        return tuple(feature for feature in ("patches", "boxes") if feature in gives(base))


class RegionFeatureEncoderConfig(ComponentConfig):
    """Region features of a proposer, unprojected."""

    dim: int = Field(ge=1, description="width of the features")

    def facts(self) -> Facts:
        """Give the width."""
        return Facts(dim=self.dim)


class WarmStart(ComponentConfig):
    """A CCA on the training data from which the projections start."""

    ridge_image: float = Field(0.3, gt=0, description="as a share of the mean variance of the image features")
    ridge_text: float = Field(2.0, gt=0, description="as a share of the mean variance of the bags")
    ridge_regions: float = Field(
        0.3,
        gt=0,
        description="model.whole pooled and model.regions own: of the regions' map, a regression of the bags' vectors",
    )
    power: float = Field(2.0, ge=0, description="each direction is scaled by its correlation to this power")
    pooling: Literal["global", "regions", "both"] = Field(
        "both",
        description="model.whole shared only: image vectors of the fit: the whole image's, the mean of its regions, or "
        "the mean of the two",
    )
    pictures: int = Field(
        4000, ge=2, description="pictures of the fit at most, its time grows with their cube; all are trained on"
    )


class AlignmentTrainerConfig(TrainerConfig):
    """Training of an alignment model; the scores in the loss are those of the configuration's similarity."""

    model: ModelSettings = Field(default_factory=ModelSettings, description="the common space and the text models")
    loss: Literal["hinge", "infonce", "deepfrag"] = Field(
        "hinge",
        description="hinge: margin and hardest negatives (eqs 5 to 7); infonce: softmax over the batch (ours, for "
        "small data); deepfrag: the baseline's sum over all pairs",
    )
    margin: float = Field(0.2, ge=0, description="of the hinge (SCAN and BFAN: 0.2; Sheng et al. leave it open)")
    temperature: float = Field(0.1, gt=0, description="infonce only: of the softmax")
    warm_start: WarmStart | None = Field(None, description="start image and bag projections from a CCA; ours")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's; 0 is Adam as stated")
    schedule: Literal["constant", "step", "cosine"] = Field(
        "constant", description="of the learning rate; step: a tenth after half the epochs (SCAN: after 15 of 30)"
    )
    refit: bool = Field(
        False,
        description="where the validation data were held out of the training data: when the number of epochs is "
        "decided, train again on all of them for as many. Ours, for small data",
    )
    golden_epochs: int = Field(
        0, ge=0, description="epochs of fine-tuning on the training data's golden pairs afterwards (the paper: 20)"
    )


class CcaTrainerConfig(TrainerConfig):
    """Regularised CCA; `epochs`, `batch_size` and the other settings of a loop are not used."""

    dim: int = Field(128, ge=1, description="directions to keep")
    cca: WarmStart = Field(default_factory=WarmStart, description="ridges and scale")
    whole: Literal["shared", "pooled", "auto"] = Field("auto", description="as train.model.whole of trainer alignment")
    pieces: int = Field(4, ge=0, description="as train.model.pieces of trainer alignment")
    min_count: int = Field(1, ge=1, description="rarer tokens are unknown")
    min_pairs: int = Field(2, ge=1, description="rarer pairs of neighbours and pieces are left out")


class DeepFragConfig(ComponentConfig):
    """DeepFrag's score of an image and a text."""

    smoothing: float = Field(10.0, ge=0, description="n, added to the number of text fragments in the denominator")
