"""Profiles are applied in every decoding path, and a bad one says nothing against the pixels."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from heritage_align.data.colour import changes_colours, to_srgb
from heritage_align.data.images import load_image
from heritage_align.data.pixels import load_pixels

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WIDE = {b"rXYZ": (0.6097, 0.3111, 0.0195), b"gXYZ": (0.2053, 0.6257, 0.0609), b"bXYZ": (0.1492, 0.0632, 0.7446)}
"""Adobe RGB (1998)'s colourants, adapted to D50, as its specification's appendix has them."""


def with_primaries(values: dict[bytes, tuple[float, float, float]]) -> bytes:
    """sRGB's profile with other colourants: a wide space with sRGB's curve."""
    data = bytearray(SRGB)
    for at in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12):
        if (tag := bytes(data[at : at + 4])) in values:
            place = int.from_bytes(data[at + 4 : at + 8], "big")
            for number, value in enumerate(values[tag]):
                data[place + 8 + 4 * number : place + 12 + 4 * number] = round(value * 65536).to_bytes(4, "big")
    return bytes(data)


ADOBE = with_primaries(WIDE)


def picture(mode: str = "RGB") -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 32))
    levels = np.stack([x, y, 255 - x], -1).astype(np.uint8)
    return Image.fromarray(levels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def adobe_to_srgb(levels: np.ndarray) -> np.ndarray:
    """The same by hand: linear light, colourants, sRGB's inverse, and what is outside of sRGB cut off."""
    light = levels / 255.0
    linear = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([WIDE[b"rXYZ"], WIDE[b"gXYZ"], WIDE[b"bXYZ"]]).T
    srgb = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    linear = np.clip(linear @ (np.linalg.inv(srgb) @ to_xyz).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_wide_colours_become_those_of_srgb(kind: str, options: dict[str, object]) -> None:
    data = encoded(picture(), kind, icc_profile=ADOBE, **options)
    expected = adobe_to_srgb(np.asarray(picture(), dtype=float))
    assert np.abs(expected - np.asarray(picture(), dtype=float)).max() > 20
    found = load_image(data)
    assert found.mode == "RGB"
    assert not found.info
    difference = np.abs(np.asarray(found, dtype=float) - expected)
    assert difference.mean() < 1
    assert difference.max() <= 2 or kind == "JPEG"
    np.testing.assert_array_equal(load_pixels(data), np.asarray(found))


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_fast_decoder_gives_the_same_colours(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for mode in ("RGB", "L", "CMYK"):
        profile = {"RGB": ADOBE, "L": grey_profile(), "CMYK": ADOBE}[mode]
        data = encoded(picture(mode), "JPEG", icc_profile=profile, exif=exif)
        np.testing.assert_array_equal(load_pixels(data), np.asarray(load_image(data)))
    # Chosen by what is in it: sRGB's profile leaves the bytes of the decoder alone.
    plain, marked = (encoded(picture(), "JPEG", **options) for options in ({}, {"icc_profile": SRGB}))
    np.testing.assert_array_equal(load_pixels(plain), load_pixels(marked))
    assert not changes_colours(SRGB, "RGB")


def grey_profile() -> bytes:
    """A profile of greys with gamma 1: linear light."""

    def tag(kind: bytes, body: bytes) -> bytes:
        return kind + bytes(4) + body + bytes(-len(body) % 4)

    def xyz(*values: float) -> bytes:
        return tag(b"XYZ ", b"".join(round(v * 65536).to_bytes(4, "big", signed=True) for v in values))

    parts = {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"kTRC": tag(b"curv", bytes(4))}
    parts[b"desc"] = tag(b"desc", (7).to_bytes(4, "big") + b"linear\0" + bytes(79))
    table, body, place = b"", b"", 128 + 4 + 12 * len(parts)
    for name, content in parts.items():
        table += name + (place + len(body)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content
    head = bytearray(128)
    head[0:4] = (place + len(body)).to_bytes(4, "big")
    head[8:12], head[12:16], head[16:20], head[20:24], head[36:40] = b"\2\x40\0\0", b"mntr", b"GRAY", b"XYZ ", b"acsp"
    head[68:80] = b"".join(round(v * 65536).to_bytes(4, "big") for v in (0.9642, 1.0, 0.8249))
    return bytes(head) + len(parts).to_bytes(4, "big") + table + body


def test_greys_of_linear_light_become_lighter() -> None:
    for kind, image in (
        ("PNG", Image.new("L", (4, 4), 55)),
        ("TIFF", Image.fromarray(np.full((4, 4), 55 * 257, "u2"))),
    ):
        shown = load_image(encoded(image, kind, icc_profile=grey_profile()))
        assert abs(shown.getpixel((0, 0))[0] - 128) <= 2  # 0.0465 ** (1 / 2.4) * 1.055 - 0.055 = 0.5


def test_transparency_is_laid_on_white_of_the_right_colours() -> None:
    image = picture().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 128))
    opaque = np.asarray(load_image(encoded(picture(), "PNG", icc_profile=ADOBE)), dtype=float)
    shown = np.asarray(load_image(encoded(image, "PNG", icc_profile=ADOBE)), dtype=float)
    assert np.abs(shown - (opaque * 128 / 255 + 127)).max() <= 2


def test_palettes_have_their_colours() -> None:
    palette = picture().quantize(16)
    plain = np.asarray(load_image(encoded(palette, "PNG")), dtype=float)
    shown = np.asarray(load_image(encoded(palette, "PNG", icc_profile=ADOBE)), dtype=float)
    assert np.abs(shown - adobe_to_srgb(plain)).max() <= 2


def test_lab_is_shown() -> None:
    lab = ImageCms.applyTransform(
        picture(), ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    )
    shown = np.asarray(load_image(encoded(lab, "TIFF")), dtype=float)
    assert np.abs(shown - np.asarray(picture(), dtype=float)).mean() < 3


@pytest.mark.parametrize(
    "profile",
    [b"nonsense", ADOBE[:200], ADOBE[:-40], bytes(len(ADOBE)), SRGB.replace(b"RGB ", b"CMYK"), grey_profile()],
)
def test_a_profile_that_is_broken_or_of_other_colours_is_ignored(profile: bytes) -> None:
    plain = load_image(encoded(picture(), "PNG"))
    for kind in ("PNG", "JPEG"):
        data = encoded(picture(), kind, icc_profile=profile)
        expected = plain if kind == "PNG" else load_image(encoded(picture(), kind))
        np.testing.assert_array_equal(np.asarray(load_image(data)), np.asarray(expected))
        np.testing.assert_array_equal(load_pixels(data), np.asarray(expected))


def test_many_threads_get_the_same_colours() -> None:
    data = [encoded(picture(), "PNG", icc_profile=ADOBE), encoded(picture().rotate(180), "PNG", icc_profile=ADOBE)]
    wanted = [load_image(part).tobytes() for part in data]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: load_image(data[n % 2]).tobytes(), range(64))) == wanted * 32


def test_other_modes_are_left_alone() -> None:
    image = Image.new("1", (3, 3), 1)
    assert to_srgb(image, ADOBE) is image


def test_jpeg_2000_has_its_profile() -> None:
    plain = encoded(picture(), "JPEG2000", irreversible=False)
    at = plain.index(b"colr") - 4
    length = int.from_bytes(plain[at : at + 4], "big")
    box = (11 + len(ADOBE)).to_bytes(4, "big") + b"colr" + b"\2\0\0" + ADOBE
    head = plain.index(b"jp2h") - 4
    grown = int.from_bytes(plain[head : head + 4], "big") + len(box) - length
    data = plain[:head] + grown.to_bytes(4, "big") + plain[head + 4 : at] + box + plain[at + length :]
    expected = adobe_to_srgb(np.asarray(picture(), dtype=float))
    assert np.abs(np.asarray(load_image(data), dtype=float) - expected).max() <= 2
