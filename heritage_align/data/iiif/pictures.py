"""The pictures of canvases: a file, an address, or what an image service gives at the size that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from heritage_align.data.iiif.canvases import Canvas, Painted
from heritage_align.data.iiif.image_api import Plan, plan, read_info
from heritage_align.data.iiif.resources import MOST_PICTURE, Missing, Resources
from heritage_align.data.images import load_image
from heritage_align.errors import ImageError


class IiifPictures:
    """Pictures by the addresses of their canvases; reading one is safe from several threads.

    Args:
        canvases: id -> canvas that shows a picture, in the collection's order.
        resources: reads addresses.
        side: longer side in pixels that an image service is asked for.
    """

    def __init__(self, canvases: Mapping[str, Canvas], resources: Resources, side: int) -> None:
        self._canvases, self._resources, self._side = canvases, resources, side
        self.ids = tuple(canvases)

    def read(self, image_id: str) -> Path | bytes:
        """Return the picture's file or its encoded bytes; raises ImageError, which names the canvas."""
        painted = self._canvases[image_id].painted
        assert painted is not None, "canvases without a picture are left out"
        try:
            return self._read(painted)
        except ImageError as error:
            raise ImageError(f"{image_id}: {error}") from error

    def place(self, image_id: str) -> str:
        """Return the addresses of the canvas and its picture."""
        painted = self._canvases[image_id].painted
        assert painted is not None
        return f"{image_id} ({painted.address or painted.service})"

    def _read(self, painted: Painted) -> Path | bytes:
        if painted.service is not None:
            try:
                return self._of_service(painted.service)
            except Missing:
                if painted.address is None:
                    raise
        assert painted.address is not None
        place = self._resources.place(painted.address)
        return place if isinstance(place, Path) else self._resources.read(painted.address, MOST_PICTURE)

    def _of_service(self, service: str) -> bytes:
        service = service.rstrip("/").removesuffix("/info.json")
        info = read_info(self._resources.json(f"{service}/info.json"), service)
        # Files on a disk are where the manifest has them, whatever address they were made for.
        if isinstance(self._resources.place(service), Path):
            info = replace(info, id=service)
        planned = plan(info, self._side)
        parts = [self._first(request.addresses) for request in planned.requests]
        return parts[0] if planned.size is None else _joined(planned, parts)

    def _first(self, addresses: tuple[str, ...]) -> bytes:
        for number, address in enumerate(addresses, start=1):
            try:
                return self._resources.read(address, MOST_PICTURE)
            except Missing:
                if number == len(addresses):
                    raise
        raise AssertionError("a request has an address")


def _joined(planned: Plan, parts: list[bytes]) -> bytes:
    """Put tiles together; returns a PNG."""
    assert planned.size is not None
    whole = Image.new("RGB", planned.size)
    for request, part in zip(planned.requests, parts):
        whole.paste(load_image(part, name=request.addresses[0]), request.place)
    buffer = BytesIO()
    whole.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
