"""Requests of the IIIF Image API, versions 1.1 to 3: the smallest picture that is large enough, or the tiles of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from heritage_align.data.iiif.canvases import id_of, kinds_of
from heritage_align.data.limits import MAX_PIXELS
from heritage_align.errors import ImageError

MOST_TILES = 4096
"""A picture of 2^30 pixels in tiles of 512 x 512."""


class Request(NamedTuple):
    """A picture, or a tile of it, to be asked for.

    Attributes:
        addresses: under which it may be found, tried in this order: servers of files write one form of several.
        place: where its left upper corner belongs.
    """

    addresses: tuple[str, ...]
    place: tuple[int, int] = (0, 0)


class Plan(NamedTuple):
    """What is asked for.

    Attributes:
        requests: one for the whole picture, or its tiles.
        size: of the whole that tiles are put together to; None for one request.
    """

    requests: tuple[Request, ...]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Info:
    """What an ``info.json`` says.

    Attributes:
        id: address of the service.
        version: 1, 2 or 3.
        width, height: of the whole picture.
        scales: whether any size may be asked for (level 1 and above, or the feature).
        sizes: that are kept, ascending.
        tiles: width, height and scale factors.
        most: longest side that is given out; None for any.
    """

    id: str
    version: int
    width: int
    height: int
    scales: bool
    sizes: tuple[tuple[int, int], ...]
    tiles: tuple[tuple[int, int, tuple[int, ...]], ...]
    most: float | None


def read_info(document: Any, service: str) -> Info:
    """Read an ``info.json``; raises ImageError where it has no size."""
    if not isinstance(document, dict):
        raise ImageError(f"{service}: its info.json is no object")
    width, height = _whole(document.get("width")), _whole(document.get("height"))
    if width is None or height is None:
        raise ImageError(f"{service}: its info.json gives no width and height")
    profile = document.get("profile")
    profiles = profile if isinstance(profile, list) else [profile]
    named = " ".join(str(part) for part in profiles if isinstance(part, str))
    said = [*_strings(document.get("extraFeatures"))]
    said += [feature for part in profiles if isinstance(part, dict) for feature in _strings(part.get("supports"))]
    level = re.search(r"level\s*([0-2])", named)
    scales = (level is not None and int(level[1]) >= 1) or bool({"sizeByW", "sizeByWh", "sizeByConfinedWh"} & set(said))
    context = kinds_of(document, "@context", "type")
    version = 3 if "image/3" in context or "ImageService3" in context else 2 if "image/2" in context else 1
    limits: list[dict[str, Any]] = [document, *(part for part in profiles if isinstance(part, dict))]
    return Info(
        (id_of(document) or service).rstrip("/"),
        version,
        width,
        height,
        scales,
        tuple(sorted(_sizes(document.get("sizes")))),
        tuple(_tiles(document)),
        _most(limits, width, height),
    )


def plan(info: Info, side: int) -> Plan:
    """Choose requests for a picture whose longer side is at least `side`, or all that there is.

    Args:
        info: of the service.
        side: in pixels.

    Raises:
        ImageError: there are tiles alone, too many (`MOST_TILES`) or of too large a picture (`MAX_PIXELS`).
    """
    longest = max(info.width, info.height)
    target = min(side, longest, *([math.floor(info.most)] if info.most is not None else []))
    if info.scales:
        width, height = (max(1, round(length * target / longest)) for length in (info.width, info.height))
        return Plan((_whole_request(info, (width, height)),))
    enough = [size for size in info.sizes if max(size) >= target]
    if enough:
        return Plan((_whole_request(info, enough[0]),))
    if info.tiles:
        return _tile_plan(info, target)
    if info.sizes:
        return Plan((_whole_request(info, info.sizes[-1]),))
    return Plan((_whole_request(info, (info.width, info.height)),))


def _whole_request(info: Info, size: tuple[int, int]) -> Request:
    return Request(tuple(_address(info, "full", form) for form in _forms(info, size)))


def _forms(info: Info, size: tuple[int, int]) -> Iterator[str]:
    """Yield how a size is written, the version's canonical form first."""
    width, height = size
    whole = (["max", "full"] if info.version == 3 else ["full", "max"]) if size == (info.width, info.height) else []
    yield from whole if info.most is None else ()
    yield from (f"{width},{height}", f"{width},") if info.version == 3 else (f"{width},", f"{width},{height}")
    yield from whole if info.most is not None else ()


def _tile_plan(info: Info, target: int) -> Plan:
    longest = max(info.width, info.height)
    width, height, factors = info.tiles[0]
    large_enough = [factor for factor in factors if longest / factor >= target]
    factor = max(large_enough) if large_enough else min(factors)
    whole = math.ceil(info.width / factor), math.ceil(info.height / factor)
    rows, columns = -(-info.height // (height * factor)), -(-info.width // (width * factor))
    if rows * columns > MOST_TILES or whole[0] * whole[1] > MAX_PIXELS:
        has = f"{rows * columns} tiles of {whole[0]} x {whole[1]} pixels"
        raise ImageError(f"{info.id}: gives no less than {has}; the most are {MOST_TILES} tiles, {MAX_PIXELS} pixels")
    requests = []
    for row in range(rows):
        for column in range(columns):
            x, y = column * width * factor, row * height * factor
            part = min(width * factor, info.width - x), min(height * factor, info.height - y)
            size = math.ceil(part[0] / factor), math.ceil(part[1] / factor)
            region = f"{x},{y},{part[0]},{part[1]}"
            regions = ["full", region] if part == (info.width, info.height) else [region]
            addresses = [_address(info, name, form) for name in regions for form in _forms(info, size)]
            requests.append(Request(tuple(addresses), (column * width, row * height)))
    return Plan(tuple(requests), whole)


def _address(info: Info, region: str, size: str) -> str:
    return f"{info.id}/{region}/{size}/0/{'native' if info.version == 1 else 'default'}.jpg"


def _most(limits: Sequence[dict[str, Any]], width: int, height: int) -> float | None:
    """Return the longest side that a server gives out, by its limits of width, height and area."""
    longest, found = max(width, height), []
    for limit in limits:
        across, down = _whole(limit.get("maxWidth")), _whole(limit.get("maxHeight"))
        area = _whole(limit.get("maxArea"))
        if across is not None:
            found.append(longest * across / width)
            found += [longest * across / height] if down is None else []
        if down is not None:
            found.append(longest * down / height)
        if area is not None:
            found.append(longest * math.sqrt(area / (width * height)))
    return max(1.0, min(found)) if found and min(found) < longest else None


def _sizes(value: Any) -> Iterator[tuple[int, int]]:
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict):
            width, height = _whole(entry.get("width")), _whole(entry.get("height"))
            if width is not None and height is not None:
                yield width, height


def _tiles(document: dict[str, Any]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    found = document.get("tiles")
    if found is None and "tile_width" in document:  # version 1.1
        found = [{"width": document["tile_width"], "height": document.get("tile_height")}]
        found[0]["scaleFactors"] = document.get("scale_factors")
    for entry in found if isinstance(found, list) else ():
        if isinstance(entry, dict) and (width := _whole(entry.get("width"))) is not None:
            factors = entry.get("scaleFactors")
            kept = tuple(f for f in (factors if isinstance(factors, list) else [1]) if _whole(f) is not None)
            if kept:
                yield width, _whole(entry.get("height")) or width, kept


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31 else None


def _strings(value: Any) -> list[str]:
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []
