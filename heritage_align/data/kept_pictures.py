"""Pictures of a data set that are kept in memory, for those who look at many parts of each."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from heritage_align.protocols import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

_CHANNELS = 3  # RGB, a byte each


class KeptPictures:
    """Loads pictures and keeps those that were asked for last; may be used by several threads.

    Args:
        dataset: where they are loaded.
        capacity: bytes of decoded pixels that are kept.
    """

    def __init__(self, dataset: Dataset, capacity: int) -> None:
        self._dataset, self._left = dataset, capacity
        self._kept: OrderedDict[str, Image] = OrderedDict()
        self._lock = Lock()

    def load(self, image_id: str) -> Image:
        """Return an upright RGB picture, which the caller must not change."""
        with self._lock:
            if image_id in self._kept:
                self._kept.move_to_end(image_id)
                return self._kept[image_id]
        image = self._dataset.load_image(image_id)  # two threads may load the same one, which is only slower
        with self._lock:
            if image_id not in self._kept:
                self._kept[image_id] = image
                self._left -= _bytes(image)
            while self._left < 0:
                self._left += _bytes(self._kept.popitem(last=False)[1])
        return image


def _bytes(image: Image) -> int:
    return image.width * image.height * _CHANNELS
