"""Settings of the fragmenters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heritage_align.component import ComponentConfig


class PunctuationConfig(ComponentConfig):
    """Where a text is cut."""

    connectives: bool = Field(
        True, description="Cut at 和, 与, 及, 以及, and, with, ... too, not at punctuation alone."
    )
    brackets: Literal["split", "drop"] = Field(
        "split",
        description="A remark in brackets becomes fragments of its own (split) or is left out (drop).",
    )
    unique: bool = Field(True, description="Keep only the first of equal fragments of one text.")


class AnnotatedConfig(PunctuationConfig):
    """The settings below are for texts without annotated phrases; `unique` is for both."""
