"""Base class of a component's configuration, and what the planner may ask of it before anything is built."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from heritage_align.hookspecs import Kind
from heritage_align.model_source import ModelSource

SLOTS: dict[str, Kind] = {
    "encoder": "encoder",
    "text_encoder": "encoder",
    "proposer": "proposer",
    "filters": "filter",
    "fragmenter": "fragmenter",
    "similarity": "similarity",
    "index": "index",
    "data": "dataset",
    "train": "trainer",
    "executor": "executor",
}
"""Section of a configuration -> kind of its component; `filters` is a list of them."""
LAST = "search.last"
"""Place of the reranker, the one component that stands inside a section of settings."""


@dataclass(frozen=True)
class Facts:
    """What is known from a configuration alone, without loading a model.

    Attributes:
        dim: width of the features that the component gives or needs; None where it does not care.
        inputs: features needed under this configuration; None means those of the spec. A name that ends in ``?`` is
            used where it is there.
        outputs: features given under this configuration; None means those of the spec.
        files: config key -> file that must exist.
        stored: of a filter, array of a file of region features that makes it needless -> the settings of the file's
            reader that take its place; ``--features`` then leaves the filter out, so that no picture is opened.
        text_settings: of an encoder, config keys that shape texts alone: a store of images does not depend on them.
    """

    dim: int | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    files: dict[str, Path] = field(default_factory=dict)
    stored: dict[Literal["keypoints"], dict[str, Any]] = field(default_factory=dict)
    text_settings: tuple[str, ...] = ()


class ComponentConfig(BaseModel):
    """Settings of one component: strict (unknown keys are errors), immutable, every default visible."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def facts(self) -> Facts:
        """Return what the planner can check; override where settings change it."""
        return Facts()

    def models(self) -> tuple[ModelSource, ...]:
        """Return where the component reads its models from; override where that is more than `Facts.files` says."""
        return ()

    @classmethod
    def for_model(cls, name: str) -> ComponentConfig | None:  # noqa: ARG003
        """Return the settings of an encoder or reranker that reads a model which a user names, None where it reads no
        such model.

        Args:
            name: folder, name on the hub, or one of the component's own names.

        Raises:
            ConfigError: it is one of its own names and says too little; says what is to be named besides. It is shown
                where no other component knows the name.
        """
        return None

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return components named inside this configuration: place -> (kind, their settings with ``name``).

        A place is the dotted path of those settings in this configuration, for example
        ``terms.0.similarity``; the resolved configuration shows them there with every default filled in.
        """
        return {}


class RerankerConfig(ComponentConfig):
    """What every reranker has; its own settings come after."""

    candidates: int = Field(20, ge=1, description="best answers of the similarity that are looked at, and ranked anew")
