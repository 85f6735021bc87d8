"""Pixels decoded outside Pillow are Pillow's, and what Pillow refuses is refused with the same words."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heritage_align.data import pixels as module
from heritage_align.data.images import load_image
from heritage_align.data.pixels import DecodedPicture, load_pixels
from heritage_align.errors import ImageError

LIMIT = 200_000


def noise(width: int = 61, height: int = 44, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def claims(data: bytes, width: int, height: int) -> bytes:
    """Change the size in a JPEG's header."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def outcome(load: object, data: bytes) -> tuple[str, np.ndarray | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd tags
        try:
            return "", np.asarray(load(data, name="it", max_pixels=LIMIT))  # type: ignore[operator]
        except ImageError as error:
            return str(error), None


def agree(data: bytes) -> bool:
    """Compare both ways; return whether a picture came out."""
    (wanted_reason, wanted), (reason, found) = outcome(load_image, data), outcome(load_pixels, data)
    assert reason == wanted_reason
    if wanted is None or found is None:
        assert found is wanted
        return False
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, wanted)
    return True


PLAIN = {
    "colour": encode(noise()),
    "full chroma": encode(noise(), subsampling=0),
    "progressive": encode(noise(), progressive=True),
    "restart markers": encode(noise(), restart_marker_rows=1),
    "grey": encode(noise(mode="L")),
    "one pixel": encode(noise(1, 1)),
    "multi-picture": encode(noise(), "MPO", save_all=True, append_images=[noise(9, 9)]),
    **{f"orientation {n}": encode(noise(), exif=exif(n)) for n in range(10)},
    **{f"grey, orientation {n}": encode(noise(mode="L"), exif=exif(n)) for n in (5, 8)},
}
OTHER = {
    "CMYK": encode(noise(mode="CMYK")),
    "CMYK on its side": encode(noise(mode="CMYK"), exif=exif(6)),
    "16-bit grey": encode(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 109), "PNG"),
    "palette": encode(noise(mode="P"), "PNG", transparency=3),
    "transparent": encode(noise(mode="RGBA"), "PNG"),
    "animated": encode(noise(mode="P"), "GIF", save_all=True, append_images=[noise(mode="P").rotate(90)]),
    "TIFF on its side": encode(noise(), "TIFF", exif=exif(6)),
    "WebP": encode(noise(), "WEBP", exif=exif(3)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_jpegs_are_decoded_without_pillow_to_the_same_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert agree(PLAIN[name])

    def refuse(*_: object) -> None:
        raise AssertionError("Pillow decoded it")

    monkeypatch.setattr(module, "decoded", refuse)
    load_pixels(PLAIN[name])


@pytest.mark.parametrize("name", OTHER)
def test_other_kinds_are_pillow_s(name: str) -> None:
    assert agree(OTHER[name])


def test_without_torchvision_s_decoder_pixels_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_decoder", lambda: None)
    for data in PLAIN.values():
        assert agree(data)


@pytest.mark.parametrize("name", [*PLAIN, "CMYK", "16-bit grey", "animated"])
def test_files_cut_off_anywhere(name: str) -> None:
    data = (PLAIN | OTHER)[name]
    cuts = {0, 1, 2, *range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 12, len(data))}
    refused = [cut for cut in sorted(cuts) if not agree(data[:cut])]
    assert 0 in refused
    assert max(refused) > len(data) // 2, "a picture of which the lower half is missing is none"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\0" * 500, "begins with zeros alone"),
        (b"not a picture", "not a picture"),
        (PLAIN["colour"][:2] + b"\0" * 300, "it: "),
        (claims(PLAIN["colour"], 60_000, 60_000), "exceed the limit of 200000"),
        (claims(PLAIN["colour"], 1000, 1000), ""),  # decoded at half its size
        (claims(PLAIN["colour"], 0, 44), "it: "),
        (claims(PLAIN["colour"], 400, 400), ""),  # what is missing is grey
        (PLAIN["colour"] + b"what a camera appends" * 9, ""),
        (PLAIN["colour"][:-2], "truncated or broken"),
    ],
)
def test_odd_files_meet_the_same_answer(data: bytes, reason: str) -> None:
    assert agree(data) == (reason == "")
    assert reason in outcome(load_pixels, data)[0]


def test_files_are_named_and_their_suffix_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PLAIN["orientation 6"])
    assert load_pixels(tmp_path / "a.png").shape == (61, 44, 3)
    for path, reason in ((tmp_path, "is a folder"), (tmp_path / "牡丹.jpg", "no such file")):
        with pytest.raises(ImageError, match=f"{path.name}: {reason}"):
            load_pixels(path)


@st.composite
def corrupted(draw: st.DrawFn) -> bytes:
    """Overwrite, cut out and insert in a JPEG; half of the hits are in its header."""
    broken = bytearray(draw(st.sampled_from(list(PLAIN.values()))))
    for _ in range(draw(st.integers(1, 4))):
        end = len(broken) if draw(st.booleans()) else min(700, len(broken))
        at = draw(st.integers(0, max(end - 1, 0)))
        action = draw(st.sampled_from(["overwrite", "cut", "insert"]))
        if action == "overwrite":
            patch = draw(st.binary(min_size=1, max_size=4))
            broken[at : at + len(patch)] = patch
        elif action == "cut":
            del broken[at : at + draw(st.integers(1, 40))]
        else:
            broken[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(broken)


def test_corrupted_jpegs_meet_the_same_answer() -> None:
    outcomes = []

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(data=corrupted())
    def run(data: bytes) -> None:
        outcomes.append(agree(data))

    run()
    assert 40 < sum(outcomes) < len(outcomes) - 40, "both pictures and refusals are compared"


def test_a_decoded_picture_is_built_when_it_is_looked_at() -> None:
    pixels = load_pixels(PLAIN["colour"])
    whole = load_image(PLAIN["colour"])

    def fresh() -> DecodedPicture:
        return DecodedPicture(pixels)

    picture = fresh()
    assert (picture.size, picture.width, picture.height, picture.mode) == (whole.size, 61, 44, "RGB")
    assert picture.getexif().get(0x0112, 1) == 1
    assert picture._im is None, "asking for its size built it"
    for look in (
        np.asarray,
        lambda image: np.asarray(image.crop((3, 4, 20, 30))),
        lambda image: np.asarray(image.resize((8, 8))),
        lambda image: np.asarray(image.convert("L")),
        lambda image: np.asarray(image.transpose(Image.Transpose.ROTATE_90)),
        lambda image: np.asarray(image.copy()),
        lambda image: np.array(image.getpixel((5, 6))),
        lambda image: np.asarray(pickle.loads(pickle.dumps(image))),
    ):
        np.testing.assert_array_equal(look(fresh()), look(whole))
