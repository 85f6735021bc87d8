"""Canvases of a manifest of either version, and the picture that is painted on each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heritage_align.data.iiif.texts import Text, texts_of

_SOUND = ("sound", "audio", "video", "movingimage", "text", "dataset", "model")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_DEEPEST = 8  # parts of choices of parts ...


@dataclass(frozen=True)
class Painted:
    """A picture on a canvas.

    Attributes:
        address: of the picture itself.
        service: address of its image service, None without one.
    """

    address: str | None
    service: str | None


@dataclass(frozen=True)
class Canvas:
    """One view of an object.

    Attributes:
        id: its address.
        width, height: of its coordinates; None where it does not say.
        painted: its picture; None for a canvas that shows none (sound, a page that is missing).
        texts: of the canvas itself.
    """

    id: str
    width: int | None
    height: int | None
    painted: Painted | None
    texts: tuple[Text, ...]


def id_of(resource: Any) -> str | None:
    """Return a resource's address, of either version; a string is one, and one with a lone surrogate none at all."""
    found = resource if isinstance(resource, str) else None
    if isinstance(resource, dict):
        found = resource.get("id") or resource.get("@id")
    if not isinstance(found, str) or _LONE_SURROGATE.search(found):
        return None
    return found.strip() or None


def type_of(resource: dict[str, Any]) -> str:
    """Return a resource's type in lower case without its prefix: ``manifest``, ``collection``, ``image``."""
    kind = resource.get("type") or resource.get("@type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    return kind.rpartition(":")[2].lower() if isinstance(kind, str) else ""


def kinds_of(resource: Any, *keys: str) -> str:
    """Return the words and addresses under some keys of an object, each of which may be a list; ``""`` of another."""
    values = [resource.get(key) for key in keys] if isinstance(resource, dict) else []
    return " ".join(id_of(part) or "" for value in values for part in listed(value))


def listed(value: Any) -> list[Any]:
    """Return a list; a single value as a list of one, nothing as none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def canvases_of(manifest: dict[str, Any], wanted: tuple[str, ...]) -> Iterator[Canvas]:
    """Yield the canvases of a manifest; what is none is passed over."""
    found = listed(manifest.get("items"))
    for sequence in listed(manifest.get("sequences")):
        if isinstance(sequence, dict):
            found += listed(sequence.get("canvases"))
    for canvas in found:
        identifier = id_of(canvas)
        if isinstance(canvas, dict) and identifier is not None:
            width, height = _side(canvas.get("width")), _side(canvas.get("height"))
            yield Canvas(identifier, width, height, _painted(canvas), tuple(texts_of(canvas, wanted)))


def _side(value: Any) -> int | None:
    return (
        int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value < 2**31 else None
    )


def _painted(canvas: dict[str, Any]) -> Painted | None:
    """Return the picture that covers the canvas; where all cover parts, the first."""
    found = []
    for page in listed(canvas.get("items")):
        for annotation in listed(page.get("items")) if isinstance(page, dict) else ():
            if isinstance(annotation, dict) and "painting" in listed(annotation.get("motivation", "painting")):
                found.append((annotation.get("target"), annotation.get("body")))
    for annotation in listed(canvas.get("images")):
        if isinstance(annotation, dict):
            found.append((annotation.get("on"), annotation.get("resource")))
    pictures = [(_is_part(target), picture) for target, body in found if (picture := _picture(body)) is not None]
    return min(pictures, key=lambda pair: pair[0])[1] if pictures else None


def _is_part(target: Any) -> bool:
    return (isinstance(target, dict) and "selector" in target) or "#xywh=" in (id_of(target) or "")


def _picture(body: Any, depth: int = 0) -> Painted | None:
    """Return the picture of a body: of a choice the default, of a part or a turned one the whole."""
    if depth > _DEEPEST:
        return None
    for candidate in listed(body):
        if isinstance(candidate, str) and id_of(candidate) is not None:
            return Painted(id_of(candidate), None)
        if not isinstance(candidate, dict):
            continue
        kind = type_of(candidate)
        if kind == "choice":
            first = candidate.get("default") or listed(candidate.get("items") or candidate.get("item"))[:1]
            inner = _picture(first, depth + 1)
        elif kind == "specificresource":
            inner = _picture(candidate.get("source") or candidate.get("full"), depth + 1)
        elif kind in _SOUND or kind == "textualbody":
            continue
        else:
            inner = Painted(id_of(candidate), _service(candidate))
        if inner is not None and (inner.address or inner.service):
            return inner
    return None


def _service(picture: dict[str, Any]) -> str | None:
    for service in listed(picture.get("service")):
        if isinstance(service, str):
            return id_of(service)
        said = kinds_of(service, "@context", "type", "@type", "profile").lower()
        if "image" in said or "level" in said:
            return id_of(service)
    return None
