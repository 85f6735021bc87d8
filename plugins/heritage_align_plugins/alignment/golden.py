"""Golden pairs as training data: a box of a picture with the phrases that name it."""

from __future__ import annotations

import torch

from heritage_align.encoding import ImageStage, boxes_by_picture, describe_boxes, encode_box_crops, in_annotation_order
from heritage_align.ops import Ragged
from heritage_align.plugin import BoxFeatures, DataError, Dataset, ImageFeatures, TextItem
from heritage_align.training import Material


def golden_material(dataset: Dataset, stage: ImageStage, *, batch_size: int, workers: int) -> Material:
    """Return golden pairs as pictures of one region with a text of their phrases.

    The box is encoded as a whole image is: by the detector's second stage, or as a crop by the encoder. The features
    are never pooled from other regions.

    Args:
        dataset: with golden pairs.
        stage: encodes.
        batch_size: crops encoded at once.
        workers: threads that decode.

    Raises:
        DataError: the data set has fewer than two golden pairs, a box is outside its picture, or the features come from
            a file that cannot give those of a new box.
    """
    if len(dataset.golden) < 2:
        raise DataError(
            f"{dataset.name}: has {len(dataset.golden)} golden pairs; golden_epochs needs at least 2 (set it to 0)"
        )
    proposer = stage.proposer
    if stage.as_given and not isinstance(proposer, BoxFeatures):
        raise DataError(
            "golden_epochs: region features read from a file have none for golden boxes; train with the detector "
            "itself (proposer faster_rcnn, features: pooled) or with golden_epochs: 0"
        )
    boxes = boxes_by_picture((pair.image_id, pair.box) for pair in dataset.golden)
    if isinstance(proposer, BoxFeatures) and stage.as_given:
        vectors = describe_boxes(proposer, dataset, boxes, None)
    else:
        vectors = encode_box_crops(stage, dataset, boxes, batch_size=batch_size, workers=workers)
    # What inference mode made cannot be saved for a backward pass.
    rows = in_annotation_order((pair.image_id for pair in dataset.golden), vectors).float().cpu().clone()
    names = [f"{pair.image_id}:{number}" for number, pair in enumerate(dataset.golden)]
    items = tuple(
        TextItem(name, "; ".join(pair.phrases), (name,), pair.phrases) for name, pair in zip(names, dataset.golden)
    )
    one_each = Ragged(rows, torch.arange(len(rows) + 1))
    fragments = tuple(tuple(pair.phrases) for pair in dataset.golden)
    return Material(ImageFeatures(tuple(names), rows, one_each), items, fragments, torch.arange(len(rows)))
