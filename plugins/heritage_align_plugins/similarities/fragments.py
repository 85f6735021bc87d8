"""The text side of the region-level scores."""

from __future__ import annotations

from heritage_align.ops import Ragged
from heritage_align.plugin import TextFeatures


def fragments_of(texts: TextFeatures) -> Ragged:
    """Return the fragments; raises ValueError where the texts were encoded without a fragmenter."""
    if texts.fragments is None:
        raise ValueError("these text features have no fragments: encode them with a config that names a fragmenter")
    return texts.fragments
