"""Scans beyond the limit are decoded at the size that their format offers, or refused by the setting that raises it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from heritage_align.data import Collection
from heritage_align.data.images import load_image
from heritage_align.data.pictures import FilePictures
from heritage_align.data.pixels import load_pixels
from heritage_align.errors import ImageError
from heritage_align.types import GoldenPair

WHOLE = (1003, 770)


def scan(size: tuple[int, int] = WHOLE, mode: str = "RGB") -> Image.Image:
    width, height = size
    image = Image.new("RGB", size, "navy")
    draw = ImageDraw.Draw(image)
    draw.ellipse([width // 8, height // 8, width // 2, height // 2], fill="gold")
    draw.rectangle([width // 2, height // 2, width - 9, height - 9], fill="maroon")
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pyramid(marked: bool, compression: str | None = None) -> bytes:
    sizes = [tuple(-(-side // 2**k) for side in WHOLE) for k in range(4)]
    pages = [scan().resize(size, Image.Resampling.BOX) for size in sizes]
    for page in pages[1:]:
        if marked:
            page.encoderinfo = {"tiffinfo": {254: 1}}
    return encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression)


SCANS = {
    "JPEG": encoded(scan(), "JPEG", quality=95),
    "progressive JPEG": encoded(scan(), "JPEG", quality=95, progressive=True),
    "grey JPEG": encoded(scan(mode="L"), "JPEG", quality=95),
    "CMYK JPEG": encoded(scan(mode="CMYK"), "JPEG", quality=95),
    "JPEG 2000": encoded(scan(), "JPEG2000", num_resolutions=6),
    "JPEG 2000 in tiles": encoded(scan(), "JPEG2000", num_resolutions=6, tile_size=(256, 256)),
    "JPEG 2000 codestream": encoded(scan(), "JPEG2000", num_resolutions=6, no_jp2=True),
    "pages of a TIFF": pyramid(marked=False),
    "marked pages of a TIFF": pyramid(marked=True),
    "packed pages of a TIFF": pyramid(marked=True, compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("limit", [300_000, 60_000, 13_000])
def test_the_largest_size_below_the_limit(name: str, limit: int) -> None:
    image = load_image(SCANS[name], max_pixels=limit)
    width, height = image.size
    assert limit // 5 < width * height <= limit
    assert abs(width / height - WHOLE[0] / WHOLE[1]) < 0.02
    whole = load_image(SCANS[name])
    assert whole.size == WHOLE, "below the limit nothing changes"
    difference = np.asarray(image, int) - np.asarray(whole.resize(image.size, Image.Resampling.BOX), int)
    assert np.abs(difference).mean() < 4
    np.testing.assert_array_equal(load_pixels(SCANS[name], max_pixels=limit), np.asarray(image))


@pytest.mark.parametrize("name", ["JPEG", "pages of a TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_reduced_scan_stands_upright(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = scan()
    if name == "JPEG":
        data = encoded(image, "JPEG", exif=exif)
    else:
        half = image.resize((502, 385))
        data = encoded(image, "TIFF", save_all=True, append_images=[half], tiffinfo={0x0112: orientation})
    upright = load_image(data)
    reduced = load_image(data, max_pixels=300_000)
    assert (upright.width > upright.height) == (reduced.width > reduced.height)
    small = np.asarray(upright.resize(reduced.size, Image.Resampling.BOX), int)
    assert np.abs(np.asarray(reduced, int) - small).mean() < 6
    np.testing.assert_array_equal(load_pixels(data, max_pixels=300_000), np.asarray(reduced))


def sub_ifds() -> bytes:
    """A TIFF whose smaller copy is below its only page, as libvips and OME write it."""
    data = bytearray(encoded(scan(), "TIFF", tiffinfo={330: 0}))
    below = encoded(scan().resize((502, 385), Image.Resampling.BOX), "TIFF")
    base = len(data) + len(data) % 2
    data += bytes(base - len(data))
    moved = bytearray(below)
    order = "little"
    first = int.from_bytes(moved[4:8], order)
    count = int.from_bytes(moved[first : first + 2], order)
    for at in range(first + 2, first + 2 + 12 * count, 12):
        tag, kind = (int.from_bytes(moved[at + k : at + k + 2], order) for k in (0, 2))
        length = int.from_bytes(moved[at + 4 : at + 8], order) * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}[kind]
        single_offset = tag == 273 and length <= 4
        if length > 4 or single_offset:
            place = int.from_bytes(moved[at + 8 : at + 12], order)
            if tag == 273 and not single_offset:
                for strip in range(place, place + length, 4):
                    offset = int.from_bytes(moved[strip : strip + 4], order) + base
                    moved[strip : strip + 4] = offset.to_bytes(4, order)
            moved[at + 8 : at + 12] = (place + base).to_bytes(4, order)
    data += moved
    page = int.from_bytes(data[4:8], order)
    entries = int.from_bytes(data[page : page + 2], order)
    [at] = [
        at for at in range(page + 2, page + 2 + 12 * entries, 12) if int.from_bytes(data[at : at + 2], order) == 330
    ]
    data[at + 2 : at + 12] = (4).to_bytes(2, order) + (1).to_bytes(4, order) + (base + first).to_bytes(4, order)
    return bytes(data)


def test_copies_below_the_page_are_found(tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(sub_ifds())
    image = load_image(tmp_path / "scan.tif", max_pixels=300_000)
    assert image.size == (502, 385)
    assert load_image(tmp_path / "scan.tif").size == WHOLE


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP"])
def test_what_offers_no_smaller_size_is_refused_by_the_setting(kind: str, tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(encoded(scan(), kind))
    collection = Collection("scans", FilePictures({"a": tmp_path / "scan"}))
    assert collection.load_image("a").size == WHOLE
    collection.max_pixels = 300_000
    with pytest.raises(ImageError, match=r"scan: 1003 x 770 = 772310 pixels exceed .* 300000; data.max_pixels raises"):
        collection.load_image("a")


def test_a_label_and_a_detail_are_no_copies() -> None:
    label, detail = scan((300, 300)), scan((400, 300))
    data = encoded(scan(), "TIFF", save_all=True, append_images=[label, detail])
    with pytest.raises(ImageError, match="exceed the limit"):
        load_image(data, max_pixels=300_000)


def test_pictures_with_golden_boxes_are_never_reduced(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(SCANS["JPEG"])
    files = FilePictures({"boxed": tmp_path / "a.jpg", "free": tmp_path / "a.jpg"})
    collection = Collection("scans", files, golden=[GoldenPair("boxed", (0, 0, 9, 9), ("moon",))])
    collection.max_pixels = 300_000
    assert collection.load_image("free").size == (502, 385)
    with pytest.raises(ImageError, match="data.max_pixels"):
        collection.load_image("boxed")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", SCANS)
def test_broken_scans_are_refused_by_name(name: str) -> None:
    data, refused = SCANS[name], 0
    for cut in (40, len(data) // 3, len(data) // 2):
        for load in (load_image, load_pixels):
            try:
                load(data[:cut], name="it", max_pixels=60_000)
            except ImageError as error:
                refused += str(error).startswith("it: ")
    assert refused >= 2  # of half a JPEG 2000, or a TIFF whose smaller page is whole, a picture is left


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "JPEG2000"])
def test_memory_is_bounded_by_the_reduced_size(kind: str, tmp_path: Path) -> None:
    size = (6400, 5200)
    options = {"JPEG2000": {"tile_size": (1024, 1024), "num_resolutions": 6}}.get(kind, {})
    image = scan(size)
    if kind == "TIFF":
        half = [image.resize((size[0] >> k, size[1] >> k)) for k in (1, 2, 3)]
        options = {"save_all": True, "append_images": half, "compression": "tiff_lzw"}
    image.save(tmp_path / "scan", kind, **options)
    code = (
        "import resource, sys; from heritage_align.data.images import load_image; load_image(sys.argv[1]) "
        "if sys.argv[2] == 'small' else None; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "image = load_image(sys.argv[3], max_pixels=600_000); "
        "print(image.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    scan((64, 64)).save(tmp_path / "small", kind)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "small"), "small", str(tmp_path / "scan")],
        capture_output=True,
        text=True,
        check=True,
    )
    size_text, grown = done.stdout.rsplit(" ", 1)
    assert size_text == "(800, 650)"
    assert int(grown) < 60_000, f"kB; the whole would take {size[0] * size[1] * 4 // 1000}"
