"""Settings of the kit's test components: right ones, and ones with a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from heritage_align.component import ComponentConfig, Facts, RerankerConfig
from heritage_align.hookspecs import Kind
from heritage_align.training.settings import TrainerConfig


class Plain(ComponentConfig):
    """One setting."""

    count: int = Field(3, ge=1, description="how many")


class Rating(RerankerConfig):
    """What every reranker has."""


class Training(TrainerConfig):
    """What every trainer has."""


class WithFile(ComponentConfig):
    """A file that the planner looks for, and a width."""

    weights: Path = Field(Path("weights.safetensors"), description="weights")
    bands: tuple[float, ...] = Field((0.5, 0.25), description="a tuple, which JSON gives back as a list")

    def facts(self) -> Facts:
        return Facts(dim=8, files={"weights": self.weights})


class Nested(ComponentConfig):
    """Names another component."""

    terms: list[dict[str, Any]] = Field([{"name": "other"}], description="components")

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        return {f"terms.{i}": ("fragmenter", term) for i, term in enumerate(self.terms)}


class TakesAnyKey(Plain):
    """Fault: unknown keys pass."""

    model_config = ConfigDict(extra="ignore")


class Mutable(Plain):
    """Fault: may be changed."""

    model_config = ConfigDict(frozen=False)


class Undescribed(ComponentConfig):
    """Fault: no description."""

    count: int = 3


class Named(ComponentConfig):
    """Fault: takes the config's own key for itself."""

    name: str = Field("x", description="of something else")


class NotSaved(ComponentConfig):
    """Fault: a setting is missing from the saved copy."""

    count: int = Field(3, description="how many", exclude=True)


def _made() -> type[ComponentConfig]:
    class Made(ComponentConfig):
        """Fault: lives inside a function."""

    return Made


Made = _made()


class UnknownFeature(Plain):
    """Fault: a feature that no planner knows."""

    def facts(self) -> Facts:
        return Facts(outputs=("fragmnets",))


class FileOfNothing(Plain):
    """Fault: a file under a key that is no setting."""

    def facts(self) -> Facts:
        return Facts(files={"checkpoint": Path("x")})


class OtherDim(Plain):
    """Fault: promises a width that the encoder does not have."""

    def facts(self) -> Facts:
        return Facts(dim=16)


class Misplaced(Nested):
    """Fault: the place is not where the settings are."""

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        return {f"term.{i}": ("fragmenter", term) for i, term in enumerate(self.terms)}
