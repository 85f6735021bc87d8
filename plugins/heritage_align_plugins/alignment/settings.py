"""Settings of an alignment model: what is learned between region features and words."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

EXTRA = 4
"""Dimensions that `pair_memory` adds to the projection and what it recalls: two corrections, two paddings."""

TextPart = Literal["bigru", "bag", "frozen"]


class PairMemorySettings(BaseModel):
    """Attention to the training pairs and the correction of hubs (`pair_memory`); ours, for small collections."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sharpness: float = Field(10.0, gt=0, description="of the softmax over the training pairs; cosines are times this")
    weight: float = Field(1.0, gt=0, description="of what is recalled, relative to the projection, in equal spreads")
    hubness: float = Field(
        1.0, ge=0, description="weight of the correction for pictures that are near every text; 0: none"
    )
    temperature: float = Field(1.0, gt=0, description="of that correction, in standard deviations of the scores")
    bank: int = Field(4000, ge=1, description="training texts at most that pictures are corrected by")


class ModelSettings(BaseModel):
    """The common space, the maps of regions and pictures (Sheng et al. 2021, eqs 1 and 2) and the text models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(1000, ge=1, description="h, width of the common space (Sheng et al. 2021: 1000; SCAN: 1024)")
    text: tuple[TextPart, ...] = Field(
        ("bigru",),
        min_length=1,
        description="text models, their vectors are summed. bigru: SCAN's, from scratch; bag: TF-IDF weighted token "
        "vectors, from scratch; frozen: text_encoder with a learned ReLU projection (Sheng et al. 2021, eq. 3)",
    )
    relu: bool = Field(True, description="text frozen only: rectify the projection (eq. 3)")
    embedding_dim: int = Field(300, ge=1, description="text bigru only: width of the word vectors")
    min_count: int = Field(1, ge=1, description="tokens that are rarer in the training captions are unknown")
    min_pairs: int = Field(2, ge=1, description="text bag only: pairs and pieces that are rarer are left out")
    pieces: int = Field(
        0,
        ge=0,
        description="text bag only: longest piece of a word that counts as a token, from 3 characters; 0: none. For "
        "scripts with spaces: 'dog' and 'dogs' share most of theirs. Ours",
    )
    whole: Literal["shared", "pooled", "auto"] = Field(
        "shared",
        description="vector of a whole picture. shared: its own feature by the regions' map (eq. 2); pooled: its own "
        "feature and the mean of its regions by area, each dimension standardised, by a map of its own (ours), for a "
        "proposer's region features alone; auto: pooled for those, shared for another encoder's vectors",
    )
    regions: Literal["own", "in_picture", "auto"] = Field(
        "own",
        description="vector of a region. own: its feature by the regions' map (eq. 1); in_picture, with whole pooled "
        "only: its picture's feature and its own by the whole pictures' map, so that the mean of the regions by area "
        "is the picture's vector (ours); auto: in_picture where whole is pooled",
    )
    region_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="regions in_picture only: share of what differs a region from the mean of its picture's regions",
    )
    phrases: Literal["own", "in_text", "auto"] = Field(
        "own",
        description="vector of a phrase. own: the phrase read by itself; in_text: that and text_weight times the whole "
        "text's (ours); auto: in_text where regions are in_picture",
    )
    text_weight: float = Field(2.0, gt=0, description="phrases in_text only: of the whole text beside the phrase")
    own_view: float = Field(
        0.0,
        ge=0,
        description="whole pooled only: weight of a second view, further dimensions for the whole picture's own "
        "feature alone and the words for it, relative to the first. Ours",
    )
    view_dim: int | None = Field(None, ge=1, description="own_view only: its dimensions; null: as many as `dim`")
    sentence: Literal["mean", "whole", "auto"] = Field(
        "mean",
        description="global vector of a text. mean: of its fragments (eq. 4); whole: the text read as one fragment; "
        "auto: whole where phrases are in_text",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="of word vectors, bags and region features while training")
    unknown: float = Field(0.0, ge=0, lt=1, description="text bigru only: training tokens replaced by the unknown one")

    pair_memory: PairMemorySettings | None = Field(
        None,
        description="attention to the training pairs, read by every vector, and a correction for hubs; makes vectors "
        "of 2 dim + 4 dimensions. null: none. Ours, for hundreds to a few thousand pairs",
    )

    @property
    def projected(self) -> int:
        """Width of the projections: that of all views."""
        return sum(self.views)

    @property
    def views(self) -> tuple[int, ...]:
        """Widths of the views, one or two."""
        return (self.dim, self.view_dim or self.dim) if self.own_view else (self.dim,)

    @property
    def width(self) -> int:
        """Width of the vectors that are compared."""
        return self.projected if self.pair_memory is None else 2 * self.projected + EXTRA

    @model_validator(mode="after")
    def _of_pooled(self) -> ModelSettings:
        if self.own_view and self.whole == "shared":
            raise ValueError("own_view: is for whole: pooled, which has another vector of a picture beside its own")
        if self.regions == "in_picture" and self.whole == "shared":
            raise ValueError("regions: in_picture is for whole: pooled, whose map takes two features")
        return self

    def resolved(self, features: bool) -> ModelSettings:
        """Return the settings with every ``auto`` decided.

        Args:
            features: whether the features are a proposer's own, not another encoder's vectors.
        """
        decided: dict[str, object] = {}
        if self.whole == "auto":
            decided = {"whole": "pooled"} if features else {"whole": "shared", "own_view": 0.0, "regions": "own"}
        if decided.get("regions", self.regions) == "auto":
            decided["regions"] = "in_picture" if decided.get("whole", self.whole) == "pooled" else "own"
        if self.phrases == "auto":
            decided["phrases"] = "in_text" if decided.get("regions", self.regions) == "in_picture" else "own"
        if self.sentence == "auto":
            decided["sentence"] = "whole" if decided.get("phrases", self.phrases) == "in_text" else "mean"
        return self.model_copy(update=decided)
