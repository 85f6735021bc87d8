"""Pictures that are given out, and pictures that come with a request. No path of a request reaches the file system:
what is shown is looked up by its id in the store, and then in the collection that the store was built of."""

from __future__ import annotations

import io
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property

from PIL.Image import Image, Resampling

from heritage_align.config import Config
from heritage_align.data.encoded_pictures import decode_base64
from heritage_align.data.images import load_image, open_source, orientation, read_header
from heritage_align.errors import HeritageAlignError
from heritage_align.protocols import Dataset, ImageFiles
from heritage_align.search.pictures import dataset_of
from heritage_align.service.logs import logger
from heritage_align.service.problems import Refused
from heritage_align.store import Store
from heritage_align.types import TextItem

SIDE = 1024
"""Longer side of a picture that is given out, where no other is asked for."""
QUALITY = 85
TURNED = (5, 6, 7, 8)
"""EXIF orientations in which height and width change places."""


class Collection:
    """The pictures and texts of a store's images. Safe in threads."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._ids = frozenset(dataset.image_ids)
        self._sizes: dict[str, tuple[int, int]] = {}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._ids

    def load(self, image_id: str) -> Image:
        """Decode a picture; raises ImageError where it cannot be read."""
        return self._dataset.load_image(image_id)

    def size(self, image_id: str) -> tuple[int, int]:
        """Return width and height of the upright picture, of a file without decoding it; raises ImageError."""
        found = self._sizes.get(image_id)
        if found is None:
            found = self._sizes[image_id] = self._read_size(image_id)
        return found

    def texts(self, image_id: str) -> list[TextItem]:
        """Return the texts that the collection has of a picture."""
        return self._texts.get(image_id, [])

    @cached_property
    def _texts(self) -> Mapping[str, list[TextItem]]:
        found: dict[str, list[TextItem]] = {}
        for item in self._dataset.texts:
            for image_id in item.image_ids:
                found.setdefault(image_id, []).append(item)
        return found

    def _read_size(self, image_id: str) -> tuple[int, int]:
        file = self._dataset.image_file(image_id) if isinstance(self._dataset, ImageFiles) else None
        if file is None:
            return self._dataset.load_image(image_id).size
        with open_source(file.source, file.name) as (stream, size, name):
            header = read_header(stream, size, name, sys.maxsize, reduce=False, remedy="")
            if header.image.format == "PNG":  # it may say behind its pixels that it lies on its side
                return self._dataset.load_image(image_id).size
            width, height = header.image.size
            return (height, width) if orientation(header.image) in TURNED else (width, height)


def collection_of(config: Config, store: Store) -> Collection | None:
    """Return the collection that holds a store's images: that of the configuration, or that the store was built of."""

    def tell(fault: str) -> None:
        logger.info("collection not read", extra={"fields": {"recipe": config.name, "detail": fault}})

    found = dataset_of(config, store, tell)
    return None if found is None else Collection(found)


class Renditions:
    """Pictures as they are given out: WebP of a bounded size, those asked for last kept ready. Safe in threads.

    Args:
        budget: bytes that are kept.
    """

    def __init__(self, budget: int) -> None:
        self._budget, self._bytes = budget, 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def render(self, key: Hashable, load: Callable[[], Image], side: int) -> bytes:
        """Return a picture whose longer side is at most `side` pixels; it is loaded where it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        data = encoded(load(), side)
        with self._lock:
            if key not in self._kept and len(data) <= self._budget:
                self._kept[key] = data
                self._bytes += len(data)
                while self._bytes > self._budget:
                    self._bytes -= len(self._kept.popitem(last=False)[1])
        return data


def encoded(image: Image, side: int) -> bytes:
    """Return a picture as WebP, its longer side at most `side` pixels."""
    scale = min(1.0, side / max(image.size))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "WEBP", quality=QUALITY, method=2)
    return stream.getvalue()


def given_picture(data: str, name: str, pixels: int) -> Image:
    """Decode a picture that came as base64 or as a data URI.

    Args:
        data: as it came.
        name: what messages call it.
        pixels: width x height beyond which it is decoded smaller or refused.

    Raises:
        Refused: it is none (422).
    """
    if data[:5].lower() == "data:":
        head, comma, data = data.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Refused(422, f"{name}: expected a data URI in base64, data:image/...;base64,...")
    try:
        raw = decode_base64("".join(data.split()).encode("ascii"))
    except UnicodeEncodeError:
        raise Refused(422, f"{name}: is not base64") from None
    except ValueError as error:
        raise Refused(422, f"{name}: {error}") from None
    return decoded_picture(raw, name, pixels)


def decoded_picture(raw: bytes, name: str, pixels: int) -> Image:
    """Decode a picture's bytes; raises Refused (422)."""
    try:
        return load_image(raw, max_pixels=pixels, name=name, remedy="send a smaller copy of it")
    except HeritageAlignError as error:
        raise Refused(422, str(error)) from error
