"""Pictures that are still to be decoded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from PIL.Image import Image

from heritage_align.errors import ImageError
from heritage_align.protocols import Dataset, ImageFile, ImageFiles

OnError = Callable[[str, ImageError], None]


class ImageSource(NamedTuple):
    """A picture that is still to be decoded.

    Attributes:
        id: of the picture.
        load: returns an upright RGB image or raises ImageError.
        file: returns what `load` decodes, for a preparation that decodes by itself, or None where there is no file
            (a picture that is drawn); raises as `load` does. May be left out: `load` is used then.
    """

    id: str
    load: Callable[[], Image]
    file: Callable[[], ImageFile | None] | None = None

    @classmethod
    def of(cls, dataset: Dataset, image_id: str) -> ImageSource:
        """Return one picture of a data set."""
        file = partial(dataset.image_file, image_id) if isinstance(dataset, ImageFiles) else None
        return cls(image_id, partial(dataset.load_image, image_id), file)


def dataset_sources(dataset: Dataset) -> list[ImageSource]:
    """Return a data set's pictures as sources for `Pipeline.encode_stream`."""
    return [ImageSource.of(dataset, image_id) for image_id in dataset.image_ids]
