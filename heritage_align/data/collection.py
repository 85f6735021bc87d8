"""A data set in memory: ids, texts and golden pairs; the pictures stay where they are until one is asked
for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from heritage_align.data.images import load_file
from heritage_align.data.limits import MAX_PIXELS
from heritage_align.data.pictures import FilePictures, Pictures
from heritage_align.data.problems import Problems
from heritage_align.errors import DataError
from heritage_align.protocols import ImageFile
from heritage_align.types import GoldenPair, TextItem

if TYPE_CHECKING:
    from PIL.Image import Image


class Collection:
    """What every reader returns; satisfies `heritage_align.protocols.Dataset`.

    A picture that is missing or broken is no fault of the collection: `load_image` names it when it is asked
    for, and indexing goes on without it. Only a collection of files none of which exists is refused at once,
    as that is a wrong folder.

    Args:
        name: for tables and messages.
        pictures: the pictures; their order is the candidates' order, which breaks ties.
        texts: captions with unique ids.
        golden: annotated regions.
        require_pictures: False where the pictures' features are at hand and no picture may ever be opened.
        artwork_of: image id -> artwork id, what cross-validation splits on; None: every picture for itself.

    Attributes:
        max_pixels: width x height beyond which a picture is decoded at a reduced size, where its format offers one and
            no golden box is in its pixels, or refused; may be set.

    Raises:
        DataError: no pictures, none of the files exists, or a text or region of an image that is not there.
    """

    def __init__(
        self,
        name: str,
        pictures: Pictures,
        texts: Iterable[TextItem] = (),
        golden: Iterable[GoldenPair] = (),
        *,
        require_pictures: bool = True,
        artwork_of: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.max_pixels = MAX_PIXELS
        self.image_ids = pictures.ids
        self.texts = tuple(texts)
        self.golden = tuple(golden)
        self._boxed = {pair.image_id for pair in self.golden}
        self._pictures = pictures
        if not self.image_ids:
            raise DataError(f"{name}: has no pictures")
        self.artwork_of = artwork_of or {image_id: image_id for image_id in self.image_ids}
        if require_pictures and isinstance(pictures, FilePictures):
            pictures.require_one()
        self._check_references()

    def _check_references(self) -> None:
        problems = Problems(self.name)
        known = set(self.image_ids)
        for item in self.texts:
            for image_id in item.image_ids:
                if image_id not in known:
                    problems.add(f"text {item.id!r}", f"belongs to image {image_id!r}, which is not there")
        for pair in self.golden:
            if pair.image_id not in known:
                problems.add(f"golden pair {pair.phrases!r}", f"is of image {pair.image_id!r}, which is not there")
        problems.raise_if_any()

    def load_image(self, image_id: str) -> Image:
        """Return an upright RGB image.

        Raises:
            DataError: no image has this id.
            ImageError: the picture is missing or broken; the message names it.
        """
        return load_file(self.image_file(image_id))

    def image_file(self, image_id: str) -> ImageFile:
        """Return the picture's file or its encoded bytes; raises as `load_image` does, without decoding."""
        try:
            source = self._pictures.read(image_id)
        except KeyError:
            raise DataError(f"{self.name}: has no image {image_id!r}") from None
        return ImageFile(source, self._pictures.place(image_id), self.max_pixels, image_id not in self._boxed)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {len(self.image_ids)} images, {len(self.texts)} texts, "
            f"{len(self.golden)} golden pairs)"
        )
