"""Encode and evaluate a golden set: fragments by inner product, or pictures by the full similarity."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from heritage_align.encoding import ImageSource, encode_texts
from heritage_align.encoding.annotated import in_annotation_order, refuse
from heritage_align.errors import DataError
from heritage_align.evaluation.fragments import FragmentEvaluation, evaluate_fragment_scores, evaluate_fragments
from heritage_align.evaluation.golden import Box, GoldenSet, pool_golden
from heritage_align.evaluation.golden_boxes import boxes_of, encode_boxes_of
from heritage_align.evaluation.metrics import KS
from heritage_align.features import concat_images
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import Dataset, Fragmenter, ProjectingEncoder
from heritage_align.types import TextFeatures, TextItem

EncodeBoxes = Callable[[str, Sequence[Box]], Tensor]
"""An image id and boxes of it, in pixels; returns ``(n_boxes, dim)`` of any length."""
EncodePhrases = Callable[[Sequence[str]], Tensor]
"""Phrases; returns ``(n_phrases, dim)`` of any length."""
GoldenScore = Literal["inner", "cosine", "attention"]


@dataclass(frozen=True)
class EncodedGolden:
    """A golden set in the common space.

    Attributes:
        golden: fragments, phrases, relevance.
        regions: ``(n_fragments, dim)`` fp32.
        phrases: ``(n_phrases, dim)`` fp32.
    """

    golden: GoldenSet
    regions: Tensor
    phrases: Tensor

    def select(self, image_ids: Collection[str]) -> EncodedGolden:
        """Keep the fragments of some pictures and their phrases; raises DataError where there are none."""
        smaller, rows, columns = self.golden.select(image_ids)
        return EncodedGolden(smaller, self.regions[torch.from_numpy(rows)], self.phrases[torch.from_numpy(columns)])

    def evaluate(
        self, score: Literal["inner", "cosine"] = "inner", *, ks: Sequence[int] = KS, system: str = "heritage_align"
    ) -> FragmentEvaluation:
        """Evaluate image annotation and image search (`evaluate_fragments`)."""
        return evaluate_fragments(
            self.regions,
            self.phrases,
            self.golden.relevant,
            score=score,
            ks=ks,
            fragment_ids=self.golden.fragment_ids,
            phrases=self.golden.phrases,
            system=system,
        )


def encode_golden(
    pipeline: Pipeline,
    dataset: Dataset,
    *,
    image_ids: Collection[str] | None = None,
    fragmenter: Fragmenter | None = None,
    encode_boxes: EncodeBoxes | None = None,
    encode_phrases: EncodePhrases | None = None,
) -> EncodedGolden:
    """Encode the golden fragments as whole pictures are encoded, and their phrases.

    Args:
        image_ids: of these pictures only, for example a fold's test part.
        fragmenter: of the phrases (see `phrase_features`).
        encode_boxes: encodes fragments in place of ``pipeline.encoder``. Encoders return rows of unit length, of which
            the inner product is the cosine; the projections of Sheng et al. are compared with their lengths.
        encode_phrases: encodes phrases in place of ``pipeline.text_encoder``, for the same reason.

    Raises:
        ConfigError: the encoder takes region features, the proposer has none of golden boxes, and `encode_boxes` is
            not given.
        DataError: no golden pairs, or a box outside its picture.
        ImageError: a picture cannot be read: a hand-made golden set should lose nothing silently.
    """
    golden = pool_golden(dataset.golden, f"data set {dataset.name!r}")
    if image_ids is not None:
        golden = golden.select(image_ids)[0]
    if encode_boxes is None:
        regions = encode_boxes_of(pipeline, dataset, golden)
    else:
        places = boxes_of(golden)
        regions = in_annotation_order(
            golden.image_ids, {i: _checked(encode_boxes(i, b), len(b), i) for i, b in places.items()}
        )
    if encode_phrases is None:
        phrases = phrase_features(pipeline, golden.phrases, fragmenter).global_features
    else:
        phrases = _checked(encode_phrases(golden.phrases), len(golden.phrases), "the phrases")
    return EncodedGolden(golden, regions.float().cpu(), phrases.float().cpu())


def evaluate_golden(
    pipeline: Pipeline,
    dataset: Dataset,
    *,
    score: GoldenScore = "inner",
    image_ids: Collection[str] | None = None,
    fragmenter: Fragmenter | None = None,
    ks: Sequence[int] = KS,
) -> FragmentEvaluation:
    """Encode and evaluate the golden set of a data set.

    Args:
        score: ``"inner"`` and ``"cosine"`` compare fragments with phrases. ``"attention"`` is the pipeline's full
            similarity of the *picture*, with its regions, and the phrase as a text of one fragment: attention over
            a golden fragment alone would be trivial, one region with the weight 1. Its candidates and queries are
            therefore pictures, and a phrase is right for a picture if it names any fragment of it.
        image_ids: of these pictures only.
        fragmenter: of the phrases (see `phrase_features`).
        ks: the cut-offs.

    Raises:
        ConfigError, DataError, ImageError: as `encode_golden`.
    """
    name = pipeline.config.name
    if score == "inner":
        pipeline = _with_lengths(pipeline)
    if score != "attention":
        return encode_golden(pipeline, dataset, image_ids=image_ids, fragmenter=fragmenter).evaluate(
            score, ks=ks, system=name
        )
    golden = pool_golden(dataset.golden, f"data set {dataset.name!r}")
    if image_ids is not None:
        golden = golden.select(image_ids)[0]
    sources = [ImageSource.of(dataset, image_id) for image_id in golden.pictures]
    pictures = concat_images(list(pipeline.encode_stream(sources, on_error=refuse)))
    with torch.inference_mode():
        scores = pipeline.score(pictures, phrase_features(pipeline, golden.phrases, fragmenter))
    return evaluate_fragment_scores(
        scores, golden.by_picture(), ks=ks, fragment_ids=golden.pictures, phrases=golden.phrases, system=name
    )


def _with_lengths(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with encoders that leave vectors their lengths, where they can."""
    raw = copy.copy(pipeline)
    for name in ("encoder", "text_encoder"):
        encoder = getattr(pipeline, name)
        if isinstance(encoder, ProjectingEncoder):
            setattr(raw, name, encoder.unnormalised())
    return raw


def phrase_features(pipeline: Pipeline, phrases: Sequence[str], fragmenter: Fragmenter | None = None) -> TextFeatures:
    """Encode phrases as texts; raises DataError for a blank one.

    Args:
        fragmenter: by default a phrase is a text of one fragment, itself; an encoder that was trained on words wants
            ``pipeline.fragmenter``.
    """
    items = [TextItem(phrase, phrase) for phrase in phrases]
    split, size = fragmenter or _OneFragment(), pipeline.config.runtime.batch_size
    with torch.inference_mode():
        return encode_texts(pipeline.text_encoder, split, items, batch_size=size)


class _OneFragment:
    def split(self, item: TextItem) -> tuple[str, ...]:
        return (item.text,)


def _checked(vectors: Tensor, count: int, what: str) -> Tensor:
    if vectors.ndim != 2 or len(vectors) != count:
        raise DataError(f"{what}: expected vectors ({count}, dim), got shape {tuple(vectors.shape)}")
    return vectors
