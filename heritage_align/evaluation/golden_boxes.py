"""Golden fragments into the common space of a pipeline."""

from __future__ import annotations

from torch import Tensor

from heritage_align.encoding import ImageStage
from heritage_align.encoding.annotated import boxes_by_picture, describe_boxes, encode_box_crops, in_annotation_order
from heritage_align.errors import ConfigError
from heritage_align.evaluation.golden import Box, GoldenSet
from heritage_align.pipeline import Pipeline
from heritage_align.planning import takes_features
from heritage_align.protocols import BoxFeatures, Dataset, FeatureEncoder


def encode_boxes_of(pipeline: Pipeline, dataset: Dataset, golden: GoldenSet) -> Tensor:
    """Encode the golden boxes as crops, or by the features that the proposer gives for them.

    Returns:
        ``(n_fragments, dim)``, unit rows.

    Raises:
        ConfigError: the encoder takes region features, and the proposer has them only for the regions that it finds.
        DataError: a box outside its picture.
        ImageError: a picture cannot be read.
    """
    boxes = boxes_of(golden)
    if not takes_features(pipeline.config):
        runtime = pipeline.config.runtime
        stage = ImageStage(pipeline.encoder, preparation=pipeline.preparation)
        size, workers = runtime.batch_size, runtime.threads()
        vectors = encode_box_crops(stage, dataset, boxes, batch_size=size, workers=workers)
        return in_annotation_order(golden.image_ids, vectors)
    if not isinstance(pipeline.proposer, BoxFeatures):
        assert pipeline.config.proposer is not None
        name = pipeline.config.proposer.spec.name
        fault = f"proposer: {name!r} has no features of golden boxes; take a detector's, or give encode_boxes"
        raise ConfigError([fault], pipeline.config.source)
    assert isinstance(pipeline.encoder, FeatureEncoder)
    return in_annotation_order(golden.image_ids, describe_boxes(pipeline.proposer, dataset, boxes, pipeline.encoder))


def boxes_of(golden: GoldenSet) -> dict[str, list[Box]]:
    """Return every picture's boxes, in the order of the fragments."""
    return boxes_by_picture(zip(golden.image_ids, golden.boxes))
