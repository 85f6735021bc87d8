"""A manifest, or a collection of them, as a data set: canvases are images, labels and metadata their texts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heritage_align.data.collection import Collection
from heritage_align.data.iiif.canvases import Canvas, canvases_of, id_of, kinds_of, listed, type_of
from heritage_align.data.iiif.pictures import IiifPictures
from heritage_align.data.iiif.resources import Resources, is_remote
from heritage_align.data.iiif.texts import FIELDS, Text, texts_of
from heritage_align.errors import DataError, ImageError, Note
from heritage_align.types import TextItem

_DEEPEST = 20  # collections in collections


class IiifCollection(Collection):
    """Canvases with their pictures and texts; ids are the canvases' addresses.

    Attributes:
        canvases: image id -> canvas.
        canvas_sizes: image id -> width and height of its coordinates, of canvases that say theirs.
        artwork_of: image id -> the manifest that it is of first.
    """

    canvases: dict[str, Canvas]
    canvas_sizes: dict[str, tuple[int, int]]


def read_iiif(
    manifest: str | Path,
    *,
    allow_network: bool = False,
    cache: Path | None = None,
    side: int = 1024,
    texts: tuple[str, ...] = tuple(FIELDS),
    language: str | None = None,
    timeout: float = 30.0,
    name: str | None = None,
) -> IiifCollection:
    """Read a manifest or a collection, of version 2 or 3 of the Presentation API.

    Args:
        manifest: a file, or an address of the web. What a file names by relative names or ``file:`` addresses is looked
            for in its folder.
        allow_network: whether addresses of the web are fetched; without, those that `cache` has are there.
        cache: folder where everything that is fetched is kept.
        side: longer side in pixels that image services are asked for; a picture that is smaller is taken whole.
        texts: of manifests and canvases, out of ``label``, ``summary``, ``metadata``.
        language: take texts in this language alone, ``zh``; those that say none are taken always.
        timeout: seconds without an answer.
        name: of the data set; by default the label of the manifest.

    Raises:
        DataError: it cannot be read, is no manifest or collection, or shows no picture.
    """
    source = str(manifest)
    base = source if is_remote(source) else None
    root = Path(source).parent if base is None else Path()
    resources = Resources(root, base=base, allow_network=allow_network, cache=cache, timeout=timeout)
    reader = _Reader(resources, texts, language)
    document = _first_document(source, resources)
    for found in reader.manifests(document, source, set(), 0):
        reader.take(found, source)
    if not reader.canvases:
        fault = f": {reader.faults[0]}" if reader.faults else ""
        raise DataError(f"{source}: holds no canvas that shows a picture{fault}")
    reader.tell(source)
    label = next((text.value for text in texts_of(document, ("label",))), Path(source).stem)
    collection = IiifCollection(
        name or label, IiifPictures(reader.canvases, resources, side), reader.items(), artwork_of=reader.artwork_of
    )
    collection.canvases = reader.canvases
    collection.canvas_sizes = {
        canvas.id: (canvas.width, canvas.height)
        for canvas in reader.canvases.values()
        if canvas.width and canvas.height
    }
    return collection


def is_iiif(path: Path) -> bool:
    """Say whether a file is a IIIF document, by its first level; one that is no manifest or collection is refused by
    `read_iiif` by its type, where as a table it would lack its columns."""
    if path.suffix.lower() not in (".json", ".jsonld") or not path.is_file():
        return False
    try:
        document = json.loads(path.read_bytes())  # of UTF-8, UTF-16 or UTF-32
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(document, dict):
        return False
    return type_of(document) in ("manifest", "collection") or "iiif.io/api/" in kinds_of(document, "@context")


def _first_document(source: str, resources: Resources) -> dict[str, Any]:
    try:
        document = resources.json(source if is_remote(source) else Path(source).name)
    except ImageError as error:
        raise DataError(f"{source}: cannot be read: {error}") from error
    if not isinstance(document, dict) or type_of(document) not in ("manifest", "collection"):
        kind = type_of(document) if isinstance(document, dict) else type(document).__name__
        raise DataError(f"{source}: is no IIIF manifest or collection, but {kind or 'an object without a type'}")
    return document


class _Reader:
    def __init__(self, resources: Resources, wanted: tuple[str, ...], language: str | None) -> None:
        self._resources, self._wanted, self._language = resources, wanted, language
        self.canvases: dict[str, Canvas] = {}
        self.artwork_of: dict[str, str] = {}
        self.faults: list[str] = []
        self._without_picture = 0
        self._texts: dict[str, tuple[Text, list[str]]] = {}

    def manifests(self, document: dict[str, Any], place: str, seen: set[str], depth: int) -> Iterator[dict[str, Any]]:
        """Yield the manifests of a document, fetching those that it only names; a fault of one is noted."""
        if type_of(document) == "manifest":
            yield document
            return
        members = [document.get(key) for key in ("items", "manifests", "collections", "members", "first", "next")]
        for member in (one for value in members for one in listed(value)):
            address = id_of(member)
            if address is None or address in seen:
                continue
            seen.add(address)
            if depth >= _DEEPEST:
                self.faults.append(f"{address}: is more than {_DEEPEST} collections deep")
                continue
            whole = member if isinstance(member, dict) and _is_whole(member) else self._fetched(address, place)
            if whole is not None:
                yield from self.manifests(whole, address, seen, depth + 1)

    def _fetched(self, address: str, place: str) -> dict[str, Any] | None:
        try:
            document = self._resources.json(address)
        except ImageError as error:
            self.faults.append(str(error))
            return None
        if isinstance(document, dict) and type_of(document) in ("manifest", "collection", "collectionpage"):
            return document
        self.faults.append(f"{address}: is no manifest or collection ({place} names it)")
        return None

    def take(self, manifest: dict[str, Any], source: str) -> None:
        """Add the canvases and texts of a manifest."""
        identifier = id_of(manifest) or source
        shown = []
        for canvas in canvases_of(manifest, self._wanted):
            if canvas.painted is None:
                self._without_picture += 1
                continue
            self.canvases.setdefault(canvas.id, canvas)
            self.artwork_of.setdefault(canvas.id, identifier)
            shown.append(canvas.id)
            self._add(canvas.id, canvas.texts, [canvas.id])
        self._add(identifier, texts_of(manifest, self._wanted), list(dict.fromkeys(shown)))

    def _add(self, owner: str, texts: Any, image_ids: list[str]) -> None:
        if not image_ids:
            return
        for text in texts:
            if self._language is not None and text.language not in (self._language, None):
                continue
            key = f"{owner}#{text.field}" + (f"@{text.language}" if text.language else "")
            number = 2
            unique = key
            while unique in self._texts and self._texts[unique][0] != text:
                unique, number = f"{key}-{number}", number + 1
            self._texts.setdefault(unique, (text, image_ids))

    def items(self) -> list[TextItem]:
        return [
            TextItem(key, text.value, tuple(image_ids), language=text.language)
            for key, (text, image_ids) in self._texts.items()
        ]

    def tell(self, source: str) -> None:
        if self.faults:
            count = f"{len(self.faults)} part{'s' if len(self.faults) != 1 else ''} cannot be read"
            warnings.warn(f"{source}: {count}, the first: {self.faults[0]}", Note, stacklevel=3)
        if self._without_picture:
            count = f"{self._without_picture} canvas{'es' if self._without_picture != 1 else ''}"
            warnings.warn(f"{source}: {count} without a picture left out", Note, stacklevel=3)


def _is_whole(member: dict[str, Any]) -> bool:
    """Tell a manifest or collection that is there from one that is only named."""
    return any(member.get(key) for key in ("items", "sequences", "manifests", "collections", "members"))
