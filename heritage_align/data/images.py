"""Decode a picture that may be broken, hostile or unusual into an upright 8-bit RGB image, or say why not."""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from heritage_align.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 89_478_485
"""Default limit: 256 MiB of RGB, the size from which Pillow warns of a decompression bomb."""

# An allow list: Pillow also opens EPS, by starting Ghostscript, and formats without a magic number (TGA),
# which take any bytes for a picture.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# warnings.catch_warnings swaps a list that all threads share; only the reading of the header is serialised.
_OPEN_LOCK = threading.Lock()


def load_image(
    source: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Image.Image:
    """Decode a picture into upright RGB.

    The first frame of an animation is taken; EXIF and TIFF orientation is applied and then forgotten, so
    that nobody applies it twice; transparency is laid on white; 16-bit grey is scaled by 255/65535 instead
    of clipped; integer and float pictures of another range are stretched from their minimum to their
    maximum; colour profiles are ignored, that of CMYK too. Safe to call from several threads.

    Args:
        source: a path, or the encoded bytes themselves.
        max_pixels: width x height beyond which the picture is refused from its header, before any pixel is
            decoded. Pillow's own guard stays in force: beyond ``2 * PIL.Image.MAX_IMAGE_PIXELS`` (179
            million) that has to be raised too.
        name: what messages call the picture; by default its path, or ``<n bytes>``.

    Returns:
        An image of mode RGB with at least one pixel and no metadata.

    Raises:
        ImageError: the file is missing, a folder, empty, no picture of a supported format, too large,
            truncated or broken; the message begins with `name`.
    """
    with open_source(source, name) as (stream, size, name):
        return decoded(read_header(stream, size, name, max_pixels), name)


@contextmanager
def open_source(source: str | os.PathLike[str] | bytes, name: str | None) -> Iterator[tuple[IO[bytes], int, str]]:
    """Open a file or bytes for reading; gives the stream, its number of bytes and what messages call it.

    Raises:
        ImageError: there is no such file, or it cannot be read; also where reading fails later, within the block.
    """
    if isinstance(source, bytes):
        yield BytesIO(source), len(source), name or f"<{len(source)} bytes>"
        return
    path = Path(source)
    name = name or str(path)
    # One look at the disk for all questions: each holds Python's lock for 13 us.
    found = _status(path, name)
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f"{name}: is a folder, not a picture")
    if not stat.S_ISREG(found.st_mode):
        # Opening a named pipe would wait for ever, reading /dev/zero would never end.
        raise ImageError(f"{name}: is not a regular file")
    try:
        with path.open("rb") as stream:
            yield stream, found.st_size, name
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error


def _status(path: Path, name: str) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError(f"{name}: no such file") from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error


def read_header(stream: IO[bytes], size: int, name: str, max_pixels: int) -> Image.Image:
    """Open a picture of `size` bytes, no pixel decoded; raises ImageError where it is none or too large."""
    if size == 0:
        raise ImageError(f"{name}: is empty (0 bytes)")
    # Given broken bytes Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, IndexError,
    # KeyError, TypeError, OverflowError, struct.error, zlib.error ...: at this border they all mean the same.
    try:
        with _OPEN_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(stream, formats=_formats())
    except UnidentifiedImageError as error:
        known = ", ".join(_formats())
        raise ImageError(f"{name}: is not a picture in a supported format ({known})") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: is too large, Pillow refuses it: {error}") from error
    except Exception as error:
        raise ImageError(f"{name}: has a broken header: {_reason(error)}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height})")
    pixels = width * height
    if pixels > max_pixels:
        raise ImageError(f"{name}: {width} x {height} = {pixels} pixels exceed the limit of {max_pixels} (max_pixels)")
    return image


def decoded(image: Image.Image, name: str) -> Image.Image:
    """Decode what `read_header` opened into upright RGB; every failure of a decoder becomes an ImageError."""
    try:
        image.load()
        upright = _upright(_to_rgb(image), orientation(image))
    except Exception as error:
        raise ImageError(f"{name}: is truncated or broken: {_reason(error)}") from error
    upright.info.clear()
    return upright


@cache
def _formats() -> tuple[str, ...]:
    """Return the allowed formats that this build of Pillow can read (AVIF needs 11.3 and libavif)."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where the tag is missing or the EXIF block is broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a bad EXIF block says nothing against the pixels
        return 1


def _upright(image: Image.Image, stored: int) -> Image.Image:
    turn = _UPRIGHT.get(stored)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to an 8-bit RGB image that is no longer a file's."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode == "RGB":
        # `convert` would copy, into fresh pages: up to 2 ms for 800 x 600 pixels, which are decoded in 1.6 ms.
        return image._new(image.im)
    return image.convert("RGB")


def _to_8_bit(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    """Scale 16-bit, 32-bit and float grey ``(height, width)`` to 0..255.

    Pillow reads a 16-bit PGM as mode I with values up to 65535; hence an integer picture within 0..65535 is
    taken for 16 bits, and a float picture within 0..1 for a fraction of white.
    """
    grey = values.astype(np.float32)
    finite = np.isfinite(grey)
    grey[~finite] = grey[finite].min() if finite.any() else 0.0
    low, high = 0.0, 1.0 if mode == "F" else 65535.0
    if grey.min() < low or grey.max() > high:
        low, high = float(grey.min()), float(grey.max())
        grey = grey.astype(np.float64)  # the span of two float32 values may exceed float32
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.rint((grey - low) * scale).astype(np.uint8)
