"""Small pictures for the readers' tests."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

Draw = Callable[[Path, tuple[int, int, int]], Path]


@pytest.fixture
def png() -> Callable[[tuple[int, int, int]], bytes]:
    """Return a maker of 3 x 2 PNG files of one colour, by which a test recognises the right picture."""

    def encode(colour: tuple[int, int, int]) -> bytes:
        stream = BytesIO()
        Image.new("RGB", (3, 2), colour).save(stream, "PNG")
        return stream.getvalue()

    return encode


@pytest.fixture
def draw(png: Callable[[tuple[int, int, int]], bytes]) -> Draw:
    """Return a function that writes such a picture to a path and makes its folders."""

    def write(path: Path, colour: tuple[int, int, int] = (0, 0, 0)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(colour))
        return path

    return write
