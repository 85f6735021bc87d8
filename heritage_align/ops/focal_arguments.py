"""The arguments that the compiled op focal_attention and its backward share, in one place (csrc/focal_arguments.h)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .ragged import Ragged


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
    def of(
        cls,
        images: Ragged,
        texts: Ragged,
        rows: tuple[Tensor, Tensor],
        keep: Tensor | None,
        factors: tuple[Tensor | None, Tensor | None],
        candidates: Tensor | None,
        codes: tuple[int, int, int, int, int],
        temperature: float,
        lse_scale: float,
        *,
        for_cuda: bool,
    ) -> FocalArguments:
        """Put together what a call of these images and texts hands over.

        Args:
            images: with their offsets.
            texts: likewise.
            rows: of regions and of words; `inputs.rows` of the values, or the values where a backward does that.
            keep: as of :func:`focal_attention_score`.
            factors: of images and of texts, each or None.
            candidates: likewise.
            codes: of direction, rectifier, normaliser, focal filter and aggregate.
            temperature: likewise.
            lse_scale: likewise.
            for_cuda: whether the CUDA kernels run, which need the longest item's length; to count it costs the CPU's
                kernels a pass over the offsets for nothing.
        """
        image_factor, text_factor = factors
        return cls(
            rows[0],
            images.scales,
            images.offsets,
            rows[1],
            texts.scales,
            texts.offsets,
            None if keep is None else keep.contiguous(),
            image_factor,
            None if image_factor is None else images.factor_offsets,
            text_factor,
            None if text_factor is None else texts.factor_offsets,
            candidates,
            *codes,
            temperature,
            lse_scale,
            images.max_length if for_cuda else -1,
            texts.max_length if for_cuda else -1,
        )

    @classmethod
    def gradients(cls, of_regions: Tensor, of_words: Tensor) -> tuple[Tensor | None, ...]:
        """Return a gradient an argument, None for all but the rows."""
        given = {"regions": of_regions, "words": of_words}
        return tuple(given.get(name) for name in cls._fields)
