"""Every kind of picture that a museum's hard disk holds decodes upright to RGB, or is refused by name."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from heritage_align.data.images import load_image, read_header
from heritage_align.data.pixels import load_pixels
from heritage_align.errors import ImageError


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(size: tuple[int, int] = (24, 16)) -> Image.Image:
    """A picture whose quadrants are red, green (top), blue, yellow (bottom): tells every rotation apart."""
    width, height = size
    image = Image.new("RGB", size)
    half_x, half_y = width // 2, height // 2
    for x, y, colour in [(0, 0, "red"), (half_x, 0, "lime"), (0, half_y, "blue"), (half_x, half_y, "yellow")]:
        image.paste(colour, (x, y, x + half_x, y + half_y))
    return image


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose pixels are missing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"])
def test_common_formats_decode_to_their_colours(kind: str, tmp_path: Path) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    options = {"lossless": True} if kind == "WEBP" else options
    path = tmp_path / "picture"
    path.write_bytes(encode(corners(), kind, **options))
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (24, 16))
    difference = np.abs(np.asarray(image, dtype=int) - np.asarray(corners(), dtype=int))
    assert difference.max() <= (8 if kind == "JPEG" else 0)
    assert load_image(path.read_bytes()).tobytes() == image.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_orientation_is_applied_once_and_forgotten(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    options = {"lossless": True} if kind == "WEBP" else options
    # The inverse of each turn: what a camera held that way writes.
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = corners() if orientation == 1 else corners().transpose(Image.Transpose(back[orientation]))
    image = load_image(encode(stored, kind, exif=exif, **options))
    assert image.size == (24, 16)
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(corners(), dtype=int)).max() <= 8
    assert ImageOps.exif_transpose(image).tobytes() == image.tobytes()
    assert not image.info


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_says_nothing_against_the_pixels() -> None:
    data = encode(corners(), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff" + b"\x00" * 9)
    assert load_image(data).size == (24, 16)


def test_cmyk_is_converted() -> None:
    data = encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)
    red, green, blue = load_image(data).getpixel((4, 4))
    assert red < 10
    assert min(green, blue) > 245


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    grey = np.array([[0, 257, 128 * 257, 40000, 65535]], dtype=np.uint16)
    image = load_image(encode(Image.fromarray(grey), kind))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 156, 255]
    assert np.asarray(image)[0, :, 1].tolist() == [0, 1, 128, 156, 255]


def test_dark_16_bit_grey_stays_dark() -> None:
    image = load_image(encode(Image.fromarray(np.full((4, 4), 2570, dtype=np.uint16)), "PNG"))
    assert image.getpixel((0, 0)) == (10, 10, 10)


def test_float_and_wide_integer_pictures() -> None:
    def levels(values: np.ndarray) -> list[int]:
        return np.asarray(load_image(encode(Image.fromarray(values), "TIFF")))[0, :, 0].tolist()

    assert levels(np.array([[0.0, 0.2, 1.0]], dtype=np.float32)) == [0, 51, 255]
    assert levels(np.array([[-10.0, 0.0, np.nan, 10.0]], dtype=np.float32)) == [0, 128, 0, 255]
    assert levels(np.array([[-3e38, 0.0, 3e38]], dtype=np.float32)) == [0, 128, 255]
    assert levels(np.array([[np.nan, np.inf]], dtype=np.float32)) == [0, 0]
    assert levels(np.array([[0, 1_000_000, 2_000_000]], dtype=np.int32)) == [0, 128, 255]
    assert levels(np.array([[70_000, 70_000]], dtype=np.int32)) == [0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((1, 0), (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
    decoded = load_image(encode(image, "PNG"))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 0)]


def test_transparent_palette_entry_is_laid_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    for data in (encode(image, "PNG", transparency=0), encode(image, "GIF", transparency=0)):
        decoded = load_image(data)
        assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]
    opaque = load_image(encode(image, "PNG"))
    assert opaque.getpixel((0, 0)) == (10, 20, 30)


def test_bilevel_and_grey() -> None:
    assert load_image(encode(Image.new("1", (3, 3), 1), "PNG")).getpixel((1, 1)) == (255, 255, 255)
    assert load_image(encode(Image.new("L", (3, 3), 77), "PNG")).getpixel((1, 1)) == (77, 77, 77)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert load_image(data).getpixel((4, 4)) == (255, 0, 0)


def broken_folder(path: Path) -> None:
    path.mkdir()


def broken_pipe(path: Path) -> None:
    os.mkfifo(path)


def missing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [(broken_folder, "is a folder"), (broken_pipe, "not a regular file"), (missing, "no such file")],
)
def test_what_is_no_file_is_refused_by_name(make: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "牡丹.jpg"
    make(path)
    with pytest.raises(ImageError, match=f"牡丹.jpg: .*{reason}"):
        load_image(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not a picture at all", "not a picture in a supported format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture in a supported format"),
        (b"\x80\x04\x95\x10", "not a picture in a supported format"),
        (encode(corners((64, 64)), "JPEG")[:-60], "truncated or broken"),
        (encode(corners((64, 64)), "PNG")[:90], "truncated or broken"),
        (encode(corners((64, 64)), "TIFF")[:60], "broken|not a picture"),
        (encode(corners((64, 64)), "GIF")[:-40], "truncated or broken"),
        (png(0, 10), "broken header|no pixels|not a picture|truncated"),
        (png(5, 5), "truncated or broken"),
        (b"P6 0 5 255\n", "broken header|no pixels|not a picture"),
    ],
    ids=["empty", "text", "eps", "pickle", "jpeg", "png", "tiff", "gif", "no-width", "no-pixels", "ppm"],
)
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_broken_bytes_are_refused_by_name(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "cat1.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=f"cat1.jpg: .*({reason})"):
        load_image(path)
    with pytest.raises(ImageError, match=f"^row 7: .*({reason})"):
        load_image(data, name="row 7")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 2097152\n",
            "pointer of the file of 2.0 MiB",
        ),
        (b"../../.git/annex/objects/xx/yy/SHA256E-s12--aa.jpg/SHA256E-s12--aa.jpg", "git annex get"),
        (b"<!DOCTYPE html><html><body>Please log in", "is a web page"),
        (b'{"error": "no such image"}', r"is the error message of a server, .*no such image"),
        (bytes(4096), "begins with zeros alone"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing, not a picture in a"),
        (b"%PDF-1.7\n", "is a PDF, not a picture in a supported format"),
        (b"8BPS\x00\x01", "is a Photoshop file, not a picture in a supported format"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00", r"is a film \(MP4, QuickTime\)"),
        (bytes(128) + b"DICM", "is a DICOM file"),
        (encode(corners(), "PNG")[:33].replace(b"\x08\x02", b"\x07\x02"), "broken header, or is a PNG file of a kind"),
        (b"II*\x00\x08\x00\x00\x00\x00\x00", "broken header, or is a TIFF file of a kind"),
    ],
)
def test_what_lies_in_the_place_of_a_picture_is_said(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    for load in (load_image, load_pixels):
        with pytest.raises(ImageError, match=rf"a\.jpg: .*{said}"):
            load(tmp_path / "a.jpg")


def test_unreadable_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(encode(corners(), "PNG"))

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    for call in ("open", "stat"):  # chmod does not stop root, as whom containers run tests
        with monkeypatch.context() as patch:
            patch.setattr(Path, call, refuse)
            with pytest.raises(ImageError, match=r"locked\.png: cannot be read: Permission denied"):
                load_image(path)


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(corners(), "PNG"))
    for name in ("a.png/b.png", "nul\0.png"):
        with pytest.raises(ImageError, match="no such file"):
            load_image(tmp_path / name)


def test_a_bomb_is_refused_before_its_pixels_have_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda image: loaded.append(image))
    with pytest.raises(ImageError, match="3600000000 pixels exceed"):
        load_image(png(60_000, 60_000))
    assert not loaded  # Pillow decodes a PNG to be asked how it lies: 10.8 GB and 12 s


def test_too_many_pixels_are_refused_from_the_header(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ImageError, match=r"10000 x 10000 = 100000000 pixels exceed the limit of 89478485"):
        load_image(png(10_000, 10_000), name="scan.png")
    with pytest.raises(ImageError, match=r"scan.png: 50000 x 50000 = 2500000000 pixels exceed the limit of 1000000000"):
        load_image(png(50_000, 50_000), name="scan.png", max_pixels=10**9)
    # Beyond Pillow's own guard (179 million) ours alone decides; Pillow's is as it was afterwards.
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    header = read_header(io.BytesIO(png(14_000, 13_000)), 99, "scan.png", 10**9, reduce=True, remedy="")
    assert header.image.size == (14_000, 13_000)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    with pytest.raises(ImageError, match="24 x 16 = 384 pixels exceed the limit of 383"):
        load_image(encode(corners(), "PNG"), max_pixels=383)
    assert load_image(encode(corners(), "PNG"), max_pixels=384).size == (24, 16)
    assert not recwarn.list


def test_many_threads_get_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    corners((200, 100)).save(path)
    expected = load_image(path).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: load_image(path).tobytes(), range(64))) == {expected}


def test_a_jpeg_of_too_many_scans_is_refused() -> None:
    """Every scan, of which one may have 14 bytes, goes over all pixels: 100 KB would be decoded for half an hour."""
    data = encode(corners(), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    scan = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
    for read in (load_image, load_pixels):
        assert read(data[:-2] + scan * 80 + b"\xff\xd9") is not None
        with pytest.raises(ImageError, match="has more than 100 scans"):
            read(data[:-2] + scan * 100 + b"\xff\xd9")


def test_what_is_behind_a_jpeg_or_in_its_head_are_no_scans() -> None:
    """A film that a telephone appends, and a thumbnail, hold bytes that look like the beginning of a scan."""
    data = encode(corners(), "JPEG", progressive=True, restart_marker_rows=1, comment=b"\xff\xda" * 200)
    plain = np.asarray(load_image(encode(corners(), "JPEG")))
    for whole in (data, data + b"\xff\xda" * 200, data + b"\0" * (2**20 - len(data) - 1) + b"\xff\xda" * 200):
        assert np.abs(np.asarray(load_image(whole), dtype=int) - plain).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "I", "F", "negative", "NaN"])
def test_a_large_picture_is_converted_strip_by_strip_into_the_same(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8)
    grey = noise[..., 0].astype(np.float32) * 257
    if mode == "P":
        image = Image.fromarray(noise[..., :3]).quantize(64)
        data = encode(image, "PNG", transparency=bytes(range(0, 256, 4)))
    elif mode in ("RGBA", "LA"):
        data = encode(Image.fromarray(noise).convert(mode), "PNG")
    else:
        grey = grey - 40_000 if mode == "negative" else grey / 65535 if mode == "F" else grey
        grey[3, 4] = np.nan if mode in ("NaN", "F") else grey[3, 4]
        kinds = {"I;16": np.uint16, "I": np.int32}
        data = encode(Image.fromarray(grey.astype(kinds.get(mode, np.float32))), "TIFF")
    whole = load_image(data)
    monkeypatch.setattr("heritage_align.data.images._STRIP", 200)
    strips = load_image(data)
    assert strips.mode == whole.mode == "RGB"
    assert strips.tobytes() == whole.tobytes()
