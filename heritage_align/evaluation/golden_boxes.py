"""Golden fragments into the common space: the annotated boxes are encoded as the pipeline's regions are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.encoding import ImageSource, ImageStage, encode_images
from heritage_align.errors import ConfigError, DataError, ImageError
from heritage_align.evaluation.golden import Box, GoldenSet
from heritage_align.pipeline import Pipeline
from heritage_align.planning import takes_features
from heritage_align.protocols import BoxFeatures, Dataset, FeatureEncoder
from heritage_align.types import FloatArray, Regions


@dataclass(frozen=True)
class _GoldenBoxes:
    """A proposer whose regions are the annotated boxes, so that they are encoded as every other region is."""

    boxes: Mapping[str, Sequence[Box]]

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        return [Regions(self.clipped(image, image_id)) for image, image_id in zip(images, ids)]

    def clipped(self, image: Image, image_id: str) -> FloatArray:
        """Return a picture's boxes, cut at its edges; raises DataError for one outside."""
        boxes = np.array(self.boxes[image_id], dtype=np.float32)
        clipped = boxes.clip(0, [image.width, image.height] * 2).astype(np.float32)
        for box, inside in zip(boxes, clipped):
            if inside[0] >= inside[2] or inside[1] >= inside[3]:
                raise DataError(
                    f"image {image_id!r}: golden box {tuple(box.tolist())} is outside the picture of "
                    f"{image.width} x {image.height} pixels"
                )
        return clipped


def encode_boxes_of(pipeline: Pipeline, dataset: Dataset, golden: GoldenSet) -> Tensor:
    """Encode the golden boxes as crops, or by the features that the proposer gives for them.

    Returns:
        ``(n_fragments, dim)``, unit rows.

    Raises:
        ConfigError: the encoder takes region features, and the proposer has them only for the regions that it finds.
        DataError: a box outside its picture.
        ImageError: a picture cannot be read.
    """
    if takes_features(pipeline.config):
        return _described(pipeline, dataset, golden)
    runtime = pipeline.config.runtime
    boxes = boxes_of(golden)
    stage = ImageStage(pipeline.encoder, _GoldenBoxes(boxes), preparation=pipeline.preparation)
    vectors: dict[str, Tensor] = {}
    with torch.inference_mode():
        for features in encode_images(
            stage,
            golden_sources(dataset, golden),
            batch_size=runtime.batch_size,
            workers=runtime.threads(),
            on_error=refuse,
        ):
            assert features.regions is not None
            parts = features.regions.values.split([len(boxes[i]) for i in features.ids])
            vectors.update(zip(features.ids, parts))
    return in_order(golden, vectors)


def _described(pipeline: Pipeline, dataset: Dataset, golden: GoldenSet) -> Tensor:
    proposer, encoder = pipeline.proposer, pipeline.encoder
    if not isinstance(proposer, BoxFeatures):
        assert pipeline.config.proposer is not None
        name = pipeline.config.proposer.spec.name
        fault = f"proposer: {name!r} has no features of golden boxes; take a detector's, or give encode_boxes"
        raise ConfigError([fault], pipeline.config.source)
    assert isinstance(encoder, FeatureEncoder)
    boxes = _GoldenBoxes(boxes_of(golden))
    vectors = {}
    for image_id in golden.pictures:
        image = dataset.load_image(image_id)
        features = proposer.features_of(image, boxes.clipped(image, image_id).tolist())
        vectors[image_id] = encoder.encode_features(torch.from_numpy(np.asarray(features, dtype=np.float32)))
    return in_order(golden, vectors)


def golden_sources(dataset: Dataset, golden: GoldenSet) -> list[ImageSource]:
    """Return the pictures that have a fragment, to be decoded."""
    return [ImageSource.of(dataset, i) for i in golden.pictures]


def boxes_of(golden: GoldenSet) -> dict[str, list[Box]]:
    """Return every picture's boxes, in the order of the fragments."""
    boxes: dict[str, list[Box]] = {}
    for image_id, box in zip(golden.image_ids, golden.boxes):
        boxes.setdefault(image_id, []).append(box)
    return boxes


def in_order(golden: GoldenSet, vectors: Mapping[str, Tensor]) -> Tensor:
    """Join the vectors of pictures in the order of the fragments, which need not be sorted by picture."""
    rows = {image_id: iter(parts) for image_id, parts in vectors.items()}
    return torch.stack([next(rows[image_id]) for image_id in golden.image_ids])


def refuse(image_id: str, error: ImageError) -> None:  # noqa: ARG001
    """Raise what `encode_images` found: a hand-made golden set should lose no picture silently."""
    raise error
