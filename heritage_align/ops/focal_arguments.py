"""The arguments that the compiled op focal_attention and its backward share, in one place (csrc/focal_arguments.h)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FocalArguments(NamedTuple):
    """Positional arguments in the order of the schemas: of ``focal_attention(*arguments, bin_order, bin_starts)`` and
    ``focal_attention_backward(grad, *arguments)``.

    Attributes:
        regions, region_scales, region_offsets: the images (`Ragged`).
        words, word_scales, word_offsets: the texts.
        keep: ``(total_regions,)`` bool.
        image_factor, image_factor_offsets, text_factor, text_factor_offsets: packed triangular factors.
        candidates: ``(n_texts, k)`` int64.
        direction, rectifier, normalise, focal, aggregate: numbers of `codes`.
        temperature, lse_scale: as of :func:`focal_attention_score`.
        max_regions, max_words: of the longest image and text; -1 on the CPU.
    """

    regions: Tensor
    region_scales: Tensor | None
    region_offsets: Tensor
    words: Tensor
    word_scales: Tensor | None
    word_offsets: Tensor
    keep: Tensor | None = None
    image_factor: Tensor | None = None
    image_factor_offsets: Tensor | None = None
    text_factor: Tensor | None = None
    text_factor_offsets: Tensor | None = None
    candidates: Tensor | None = None
    direction: int = 0
    rectifier: int = 0
    normalise: int = 0
    focal: int = 0
    aggregate: int = 0
    temperature: float = 9.0
    lse_scale: float = 6.0
    max_regions: int = -1
    max_words: int = -1

    @classmethod
    def gradients(cls, of_regions: Tensor, of_words: Tensor) -> tuple[Tensor | None, ...]:
        """Return a gradient an argument, None for all but the rows."""
        given = {"regions": of_regions, "words": of_words}
        return tuple(given.get(name) for name in cls._fields)
