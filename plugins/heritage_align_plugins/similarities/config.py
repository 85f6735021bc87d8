"""Settings of the similarities; names and defaults follow the papers' symbols, given in every description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from heritage_align.plugin import ComponentConfig, Facts, Kind


class GlobalConfig(ComponentConfig):
    """Cosine of whole image and whole text: nothing to set."""


class ScanConfig(ComponentConfig):
    """Stacked cross attention (Lee et al. 2018); with filter bfan_focal BFAN (Liu et al. 2019)."""

    direction: Literal["t2i", "i2t", "ens"] = Field(
        "t2i", description="t2i: words attend to regions; i2t: regions attend to words; ens: the sum of both"
    )
    rectifier: Literal["leaky_relu", "relu", "none"] = Field(
        "leaky_relu",
        description="of the cosines: slope 0.1 in the code of SCAN and BFAN, relu in Sheng et al. 2021, eq. 9",
    )
    normalise: Literal["l2", "softmax", "none"] = Field("l2", description="over the query axis (raw_feature_norm)")
    temperature: float = Field(9.0, gt=0, description="lambda_1, inverse temperature of the attention (BFAN: 20)")
    aggregate: Literal["lse", "mean", "max", "sum"] = Field("lse", description="of the rows' cosines (BFAN: mean)")
    lse_scale: float = Field(6.0, gt=0, description="lambda_2 of the log-sum-exp")


class LaclipConfig(ComponentConfig):
    """Weighted local alignment. The sources leave k, scale and weights open; every choice here is visible and ours.

    With ``conditioning: image`` the score is <sum_j w_j u_j, u_T> with w_j from c_j = <u_I, u_j> (Yuan et al. 2025,
    read off the figure), one vector an image. With ``conditioning: text`` the weights are
    softmax_j(<u_j, u_T> / temperature), our extension; it does not fold.
    """

    conditioning: Literal["image", "text"] = Field("image", description="what the weights of the regions depend on")
    weights: Literal["raw", "normalised", "softmax", "uniform"] = Field(
        "raw",
        description="image-conditioned: raw c_j; normalised c_j / sum_j |c_j|; softmax_j(c_j / temperature); uniform "
        "1 / k, which is no weighting at all and shows what the weights do",
    )
    temperature: float = Field(
        0.01, gt=0, description="of the softmax; WCA's exp(image_scale) = e^4 is 0.0183 (Li et al. 2024)"
    )
    renormalise: bool = Field(False, description="scale the folded vector to unit length, as WCA does")
    global_mix: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share m of the whole-image cosine: (1 - m) local + m <u_I, u_T>. Raw weights add up to about k, "
        "so that the plain sum of both terms, 0.5, is nearly all local there",
    )

    @model_validator(mode="after")
    def _settings_apply(self) -> LaclipConfig:
        if self.conditioning == "text" and self.renormalise:
            raise ValueError("renormalise applies to conditioning: image (a text-conditioned score does not fold)")
        if self.conditioning == "text" and self.weights in ("normalised", "uniform"):
            raise ValueError(f"weights: {self.weights!r} applies to conditioning: image; by text they are a softmax")
        return self

    def facts(self) -> Facts:
        return Facts(outputs=("folds", "in_place") if self.conditioning == "image" else ("in_place",))


class LateInteractionConfig(ComponentConfig):
    """MaxSim over fragments and regions (Khattab and Zaharia 2020)."""

    aggregate: Literal["mean", "sum"] = Field(
        "mean",
        description="over a text's fragments; the sum favours texts with many fragments when texts are ranked",
    )


class WeightedSumConfig(ComponentConfig):
    """Sum of similarities, for example global plus scan."""

    terms: list[dict[str, Any]] = Field(
        min_length=1, description="each {weight: float, similarity: {name: ..., settings}}"
    )

    @model_validator(mode="after")
    def _terms_are_whole(self) -> WeightedSumConfig:
        for i, term in enumerate(self.terms):
            if set(term) != {"weight", "similarity"} or not isinstance(term.get("similarity"), dict):
                raise ValueError(f"term {i}: expected {{weight: 0.5, similarity: {{name: ...}}}}")
            weight = term["weight"]
            if isinstance(weight, bool) or not isinstance(weight, (int, float)):
                raise ValueError(f"term {i}: weight is not a number: {weight!r}")
        return self

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        return {f"terms.{i}.similarity": ("similarity", term["similarity"]) for i, term in enumerate(self.terms)}
