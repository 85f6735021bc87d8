"""Encode pictures and texts: decoding runs in threads while the model works on the batch before."""

from heritage_align.data.boxes import pixel_box
from heritage_align.encoding.preparation import Exact, Fast, Preparation, Prepared, preparation_for
from heritage_align.encoding.sources import ImageSource, OnError
from heritage_align.encoding.stage import ImageStage
from heritage_align.encoding.stream import encode_images
from heritage_align.encoding.texts import encode_texts

__all__ = [
    "Exact",
    "Fast",
    "ImageSource",
    "ImageStage",
    "OnError",
    "Preparation",
    "Prepared",
    "encode_images",
    "encode_texts",
    "pixel_box",
    "preparation_for",
]
