"""Find images by ids that were spelled by somebody else.

An id is matched exactly if it can be. Otherwise as a path, in which

* a leading ``./`` and the ending of a picture (``.jpg``, ``.png`` ...) or an array (``.npz``, ``.npy``) do not count;
* one of the two may name more folders than the other: ``images/1`` is ``1``, and is not ``test/1``;
* COCO's file names are their numbers, whatever the folder, and numbers have no leading zeros:
  ``COCO_train2014_000000132417.jpg`` is ``132417``.

An id to which two images of the file answer, or an image that two ids ask for, is an error and never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from heritage_align.data.region_features.checks import first_of
from heritage_align.errors import DataError

_ENDING = re.compile(r"(\.(jpe?g|png|webp|tiff?|bmp|gif))?(\.np[yz])?$", re.IGNORECASE)
_COCO = re.compile(r"COCO_[a-z]+\d{4}_(\d{12})")

Path = tuple[str, ...]
"""Folders and name, normalised."""


class IdMatcher:
    """Finds the rows of images in a file.

    Args:
        ids: of the file, each once.
        source: the file, the beginning of errors.
    """

    def __init__(self, ids: Sequence[str], source: str) -> None:
        self._ids = ids
        self._source = source
        self._exact = {image_id: row for row, image_id in enumerate(ids)}
        self._by_name: dict[str, list[tuple[Path, int]]] | None = None

    def rows(self, ids: Sequence[str]) -> list[int]:
        """Return the row of each id.

        Raises:
            DataError: names the first ids that nothing or more than one image answers to, and shows the file's.
        """
        found = {image_id: self._find(image_id) for image_id in ids}
        missing = [image_id for image_id in ids if not found[image_id]]
        if missing:
            alike = ", ".join(map(repr, self._ids[:3])) or "none"
            raise DataError(
                f"{self._source}: {first_of(missing)} of {len(ids)} have no features; ids in the file look like {alike}"
            )
        asked: dict[int, str] = {}
        for image_id in ids:
            rows = found[image_id]
            if len(rows) > 1:
                both = " and ".join(repr(self._ids[row]) for row in rows[:2])
                raise DataError(f"{self._source}: image id {image_id!r} may mean {both}; name it in full")
            if asked.setdefault(rows[0], image_id) != image_id:
                both = f"{asked[rows[0]]!r} and {image_id!r}"
                raise DataError(f"{self._source}: {both} would both take the features of {self._ids[rows[0]]!r}")
        return [found[image_id][0] for image_id in ids]

    def _find(self, image_id: str) -> list[int]:
        if image_id in self._exact:
            return [self._exact[image_id]]
        if self._by_name is None:
            self._by_name = {}
            for row, known in enumerate(self._ids):
                path = _path(known)
                self._by_name.setdefault(path[-1], []).append((path, row))
        wanted = _path(image_id)
        return [row for path, row in self._by_name.get(wanted[-1], ()) if _ends_alike(path, wanted)]


def _path(image_id: str) -> Path:
    parts = [part for part in image_id.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    name = _ENDING.sub("", parts[-1]) if parts else ""
    coco = _COCO.fullmatch(name)
    if coco:
        return (str(int(coco[1])),)
    if name.isascii() and name.isdecimal():
        name = name.lstrip("0") or "0"
    return (*parts[:-1], name)


def _ends_alike(one: Path, other: Path) -> bool:
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]
