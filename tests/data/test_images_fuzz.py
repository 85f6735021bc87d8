"""Corrupted files come out as an ImageError or as a picture within the limit, never as anything else."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from heritage_align.data.images import load_image
from heritage_align.errors import ImageError

Corrupted = Callable[[bytes, int], st.SearchStrategy[bytes]]
LIMIT = 200_000


def sample(kind: str) -> bytes:
    """A small picture with texture, so that every part of a decoder has something to do."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, object] = {"exif": exif} if kind in ("JPEG", "TIFF", "PNG", "WEBP") else {}
    if kind == "TIFF":
        options["compression"] = "tiff_lzw"
    if kind == "GIF":
        options |= {"save_all": True, "append_images": [image.rotate(90)], "transparency": 0}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


KINDS = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"] + ["AVIF"] * features.check("avif")
SAMPLES = {kind: sample(kind) for kind in KINDS}


def check(data: bytes) -> bool:
    """Load `data`; return whether a picture came out."""
    reason, image = "", None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd tags
        try:
            image = load_image(data, max_pixels=LIMIT, name="fuzz")
        except ImageError as error:
            reason = str(error)
    if image is None:
        assert reason.startswith("fuzz: ")
        return False
    assert image.mode == "RGB"
    assert 1 <= image.width * image.height <= LIMIT
    assert np.asarray(image).shape == (image.height, image.width, 3)
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_corrupted_files(kind: str, corrupted: Corrupted) -> None:
    assert check(SAMPLES[kind])
    outcomes = []

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(data=corrupted(SAMPLES[kind], 100))
    def run(data: bytes) -> None:
        outcomes.append(check(data))

    run()
    assert not all(outcomes), "the corruption never reached the decoder"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(data=st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    check(data)
