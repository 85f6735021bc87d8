"""Settings that every trainer has."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from heritage_align.component import ComponentConfig
from heritage_align.hookspecs import Kind

CHANGEABLE = frozenset({"epochs", "patience", "checkpoint_steps"})
"""Settings that may differ when a run goes on: they say how long it takes. `run_identity` is to be given the others."""


class TrainerConfig(ComponentConfig):
    """Data, schedule and bookkeeping; a trainer adds its objective."""

    data: dict[str, Any] | None = Field(
        None,
        description="data set to learn from, {name: ..., settings}; --data PATH sets it to the rows of split train",
    )
    validation: dict[str, Any] | None = Field(
        None, description="data set for early stopping; without one, validation_share of the training pictures"
    )
    validation_share: float = Field(
        0.1, ge=0, lt=1, description="pictures held out of the training data where validation is not set; 0: none"
    )
    epochs: int = Field(50, ge=1, description="passes over the training data")
    batch_size: int = Field(128, ge=1, description="pairs in a batch, over all processes")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    clip_gradient: float | None = Field(2.0, gt=0, description="largest norm of the gradient; null: not clipped")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="of the forward pass (autocast)")
    patience: int | None = Field(
        None, ge=1, description="stop after this many validations without a better mean recall; null: never"
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    checkpoint_steps: int | None = Field(
        None, ge=1, description="steps between checkpoints inside an epoch; there is always one after each epoch"
    )

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the data sets, so that the resolved configuration shows their defaults."""
        sets = {"data": self.data, "validation": self.validation}
        return {place: ("dataset", document) for place, document in sets.items() if document is not None}
