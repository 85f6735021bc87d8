"""Small pictures and broken files for the readers' tests."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import strategies as st
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


@st.composite
def _corrupted(draw: st.DrawFn, data: bytes, head: int) -> bytes:
    broken = bytearray(data)
    for _ in range(draw(st.integers(1, 8))):
        end = len(broken) if draw(st.booleans()) else min(head, len(broken))
        at = draw(st.integers(0, max(end - 1, 0)))
        action = draw(st.sampled_from(["overwrite", "cut", "insert", "truncate"]))
        if action == "overwrite":
            patch = draw(st.binary(min_size=1, max_size=4))
            broken[at : at + len(patch)] = patch
        elif action == "cut":
            del broken[at : at + draw(st.integers(1, 40))]
        elif action == "insert":
            broken[at:at] = draw(st.binary(min_size=1, max_size=16))
        else:
            del broken[at:]
    return bytes(broken)


@pytest.fixture(scope="session")
def corrupted() -> Callable[[bytes, int], st.SearchStrategy[bytes]]:
    """Return a strategy of files that are overwritten, cut out, added to and truncated; half of the hits fall into the
    first bytes, the header, whose number is the second argument."""
    return _corrupted
