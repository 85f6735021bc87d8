"""Encode pictures and texts: decoding runs in threads while the model works on the batch before.

>>> from heritage_align import Pipeline, dataset_sources, load_recipe
>>> from heritage_align.data import Motifs
>>> from heritage_align.encoding import ImageStage, encode_images
>>> stage = ImageStage(Pipeline(load_recipe("global")).encoder)
>>> sources = dataset_sources(Motifs("test", artworks=3, variants=1))
>>> batches = encode_images(stage, sources, batch_size=2, workers=1, on_error=print)
>>> [tuple(batch.global_features.shape) for batch in batches]
[(2, 128), (1, 128)]
"""

from heritage_align.data.boxes import pixel_box
from heritage_align.encoding.annotated import boxes_by_picture, describe_boxes, encode_box_crops, in_annotation_order
from heritage_align.encoding.patches import grid_of, pool_boxes
from heritage_align.encoding.resampling import Resampler
from heritage_align.encoding.sources import ImageSource
from heritage_align.encoding.stage import ImageStage
from heritage_align.encoding.stream import encode_images
from heritage_align.encoding.texts import encode_texts

__all__ = [
    "ImageSource",
    "ImageStage",
    "Resampler",
    "boxes_by_picture",
    "describe_boxes",
    "encode_box_crops",
    "encode_images",
    "encode_texts",
    "grid_of",
    "in_annotation_order",
    "pixel_box",
    "pool_boxes",
]
