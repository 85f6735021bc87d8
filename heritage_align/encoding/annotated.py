"""Annotated boxes into vectors: cut at the picture's edges and encoded as every other region is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.encoding.sources import ImageSource
from heritage_align.encoding.stage import ImageStage
from heritage_align.encoding.stream import encode_images
from heritage_align.errors import DataError, ImageError
from heritage_align.protocols import BoxFeatures, Dataset, FeatureEncoder
from heritage_align.types import FloatArray, Regions

Box = tuple[float, float, float, float]
BoxesByPicture = Mapping[str, Sequence[Box]]
"""Image id -> boxes in pixels."""


def boxes_by_picture(annotated: Iterable[tuple[str, Box]]) -> dict[str, list[Box]]:
    """Return every picture's boxes, in the order of the annotations."""
    boxes: dict[str, list[Box]] = {}
    for image_id, box in annotated:
        boxes.setdefault(image_id, []).append(box)
    return boxes


def in_annotation_order(image_ids: Iterable[str], vectors: Mapping[str, Tensor]) -> Tensor:
    """Join the vectors of pictures' boxes in the order of the annotations, which need not be sorted by picture."""
    rows = {image_id: iter(parts) for image_id, parts in vectors.items()}
    return torch.stack([next(rows[image_id]) for image_id in image_ids])


def encode_box_crops(
    stage: ImageStage, dataset: Dataset, boxes: BoxesByPicture, *, batch_size: int, workers: int
) -> dict[str, Tensor]:
    """Encode boxes as crops, or pooled where the encoder's settings say so.

    Args:
        stage: its encoder and preparation; its proposer is not asked.
        dataset: holds the pictures.
        boxes: of each picture.
        batch_size: pictures, and crops, encoded at once.
        workers: threads that decode.

    Returns:
        Image id -> ``(n_boxes, dim)``, unit rows.

    Raises:
        DataError: a box outside its picture.
        ImageError: a picture cannot be read: an annotated set should lose no picture silently.
    """
    sources = [ImageSource.of(dataset, image_id) for image_id in boxes]
    crops = replace(stage, proposer=_Annotated(boxes), filters=(), factors=False, features=False, pictures=True)
    vectors: dict[str, Tensor] = {}
    with torch.inference_mode():
        for features in encode_images(crops, sources, batch_size=batch_size, workers=workers, on_error=refuse):
            assert features.regions is not None
            parts = features.regions.values.split([len(boxes[i]) for i in features.ids])
            vectors.update(zip(features.ids, parts))
    return vectors


def describe_boxes(
    proposer: BoxFeatures, dataset: Dataset, boxes: BoxesByPicture, encoder: FeatureEncoder | None
) -> dict[str, Tensor]:
    """Describe boxes by the features that a proposer gives for them.

    Args:
        proposer: describes any box.
        dataset: holds the pictures.
        boxes: of each picture.
        encoder: projects the features; None leaves them as they are.

    Returns:
        Image id -> ``(n_boxes, dim)``, unit rows; or ``(n_boxes, feature_dim)`` fp32.

    Raises:
        DataError: a box outside its picture.
        ImageError: a picture cannot be read.
    """
    vectors = {}
    for image_id, of_picture in boxes.items():
        image = dataset.load_image(image_id)
        found = proposer.features_of(image, clipped(image, image_id, of_picture).tolist())
        features = torch.from_numpy(np.asarray(found, dtype=np.float32))
        vectors[image_id] = features if encoder is None else encoder.encode_features(features)
    return vectors


def clipped(image: Image, image_id: str, boxes: Sequence[Box]) -> FloatArray:
    """Return a picture's boxes ``(n, 4)``, cut at its edges; raises DataError for one outside."""
    given = np.array(boxes, dtype=np.float32)
    inside = given.clip(0, [image.width, image.height] * 2).astype(np.float32)
    for box, cut in zip(given, inside):
        if cut[0] >= cut[2] or cut[1] >= cut[3]:
            raise DataError(
                f"image {image_id!r}: golden box {tuple(box.tolist())} is outside the picture of "
                f"{image.width} x {image.height} pixels"
            )
    return inside


def refuse(image_id: str, error: ImageError) -> None:  # noqa: ARG001
    """Raise what `encode_images` found."""
    raise error


@dataclass(frozen=True)
class _Annotated:
    """A proposer whose regions are the annotated boxes."""

    boxes: BoxesByPicture

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        return [Regions(clipped(image, image_id, self.boxes[image_id])) for image, image_id in zip(images, ids)]
