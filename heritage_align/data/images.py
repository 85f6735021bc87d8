"""Decode a picture that may be broken, hostile or unusual into an upright 8-bit sRGB image, or say why not."""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from heritage_align.data import jpeg2000
from heritage_align.data.colour import to_srgb
from heritage_align.data.jpeg import MOST_SCANS, too_many_scans
from heritage_align.data.limits import MAX_PIXELS, RAW_SUFFIXES
from heritage_align.data.reduced import reduce as reduce_to
from heritage_align.errors import ImageError
from heritage_align.foreign_files import LOOKED_AT, foreign_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from heritage_align.protocols import ImageFile

DATA_SETTING = (
    "data.max_pixels raises it (--set data.max_pixels=N; RGB takes up to 7 bytes a pixel while it is decoded)"
)
"""What a message says of the limit where the picture is a data set's."""

# An allow list: Pillow also opens EPS, by starting Ghostscript, and formats without a magic number (TGA),
# which take any bytes for a picture.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "PPM")

_STRIP = 2**22
"""Pixels that are converted at once, where a conversion has steps between: whole scans would take up to 30 bytes a
pixel."""

_DNG_VERSION, _SUBFILE_TYPE, _SUB_IFDS = 50706, 254, 330

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_OTHER_FILES = (
    (0, b"%PDF", "a PDF"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%!PS", "PostScript"),
    (0, b"PK\x03\x04", "a zip archive or an office document"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x1f\x8b", "packed (gzip)"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (0, b"II\xbc\x01", "a JPEG XR picture"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance picture"),
    (0, b"SIMPLE  =", "a FITS picture"),
    (0, b"gimp xcf", "a GIMP file"),
    (128, b"DICM", "a DICOM file"),
    (4, b"ftyp", "a film (MP4, QuickTime)"),
    (0, b"\x00\x05\x16\x07", "what macOS keeps beside a file (._ files)"),
    (0, b"[InternetShortcut]", "a link to a web page"),
)
"""Place, bytes and name of what is found under pictures' names; those that `foreign_head` tells are not among them."""

_OF_FORMATS = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (4, b"jP  ", "JPEG 2000"),
)

# warnings.catch_warnings swaps a list that all threads share; only the reading of the header is serialised.
_OPEN_LOCK = threading.Lock()


class Header(NamedTuple):
    """A picture whose pixels are not decoded.

    Attributes:
        image: as Pillow opened it, set up to be decoded at a reduced size where that is asked for.
        orientation: EXIF's of the whole, where a smaller page says nothing of its own; None: the picture's own.
        profile: ICC profile of its colours.
        reduced: whether it will be decoded at a reduced size.
    """

    image: Image.Image
    orientation: int | None
    profile: bytes | None
    reduced: bool


def load_image(
    source: str | os.PathLike[str] | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    reduce: bool = True,
    remedy: str = "max_pixels raises it",
) -> Image.Image:
    """Decode a picture into upright sRGB.

    The first frame of an animation is taken; EXIF and TIFF orientation is applied and then forgotten, so
    that nobody applies it twice; transparency is laid on white; 16-bit grey is scaled by 255/65535 instead
    of clipped; integer and float pictures of another range are stretched from their minimum to their
    maximum; colours of another profile become those of sRGB (`colour`). Safe to call from several threads.

    Args:
        source: a path, or the encoded bytes themselves.
        max_pixels: width x height beyond which the picture is decoded at the largest reduced size that its format
            offers (`reduced`), or is refused from its header, before any pixel is decoded. It takes the place of
            Pillow's own guard.
        name: what messages call the picture; by default its path, or ``<n bytes>``.
        reduce: False refuses where a reduced size would be decoded: boxes in pixels are those of the whole.
        remedy: what a message says of the limit.

    Returns:
        An image of mode RGB with at least one pixel and no metadata.

    Raises:
        ImageError: the file is missing, a folder, empty, no picture of a supported format, too large,
            truncated or broken; the message begins with `name`.
    """
    with open_source(source, name) as (stream, size, name):
        return decoded(read_header(stream, size, name, max_pixels, reduce=reduce, remedy=remedy), name)


def load_file(file: ImageFile) -> Image.Image:
    """Decode a data set's picture; see `load_image`."""
    return load_image(file.source, name=file.name, **limits_of(file))


def limits_of(file: ImageFile) -> dict[str, Any]:
    """Return what `load_image` and `load_pixels` are told of a data set's picture."""
    most = MAX_PIXELS if file.max_pixels is None else file.max_pixels
    return {"max_pixels": most, "reduce": file.may_reduce, "remedy": DATA_SETTING}


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
    if path.suffix.lower() in RAW_SUFFIXES:
        raise ImageError(f"{name}: is a camera's RAW file; develop it to TIFF or JPEG first")
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


def read_header(stream: IO[bytes], size: int, name: str, max_pixels: int, *, reduce: bool, remedy: str) -> Header:
    """Open a picture of `size` bytes, no pixel decoded; raises ImageError where it is none or too large."""
    if size == 0:
        raise ImageError(f"{name}: is empty (0 bytes)")
    # Given broken bytes Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, IndexError,
    # KeyError, TypeError, OverflowError, struct.error, zlib.error ...: at this border they all mean the same.
    try:
        with _OPEN_LOCK, _without_pillows_limit():
            image: Any = Image.open(stream, formats=_formats())
        if image.format == "TIFF" and _is_raw(image):
            raise ImageError(f"{name}: is a camera's RAW file; develop it to TIFF or JPEG first")
        width, height = image.size
        pixels = width * height
        profile = image.info.get("icc_profile")
        # Of a TIFF alone: a PNG is decoded to be asked, whatever its size, as it may say it behind its pixels.
        stored = orientation(image) if pixels > max_pixels and image.format == "TIFF" else None
        if image.format in ("JPEG", "MPO") and too_many_scans(stream):
            raise ImageError(f"{name}: has more than {MOST_SCANS} scans; it would take minutes to decode")
        if image.format == "JPEG2000" and profile is None:
            profile = jpeg2000.icc_profile(stream)
        reduced = pixels > max_pixels and reduce and reduce_to(image, stream, max_pixels)
        if not reduced or stored is None or ExifTags.Base.Orientation in image.tag_v2:
            stored = None
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: {_unidentified(stream)}") from error
    except Exception as error:
        raise ImageError(f"{name}: has a broken header: {_reason(error)}") from error
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height})")
    if pixels > max_pixels and not reduced:
        raise ImageError(f"{name}: {width} x {height} = {pixels} pixels exceed the limit of {max_pixels}; {remedy}")
    return Header(image, stored, profile, reduced)


def decoded(header: Header, name: str) -> Image.Image:
    """Decode what `read_header` opened into upright sRGB; every failure of a decoder becomes an ImageError."""
    try:
        header.image.load()
        stored = orientation(header.image) if header.orientation is None else header.orientation
        upright = _upright(_to_rgb(header.image, header.profile), stored)
    except Exception as error:
        raise ImageError(f"{name}: is truncated or broken: {_reason(error)}") from error
    upright.info.clear()
    return upright


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Leave the limit to our own, which can be set and is asked before a pixel is decoded."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on odd tags; what matters is in what is raised
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _is_raw(image: Any) -> bool:
    """Tell a RAW file, whose first page is a thumbnail, by what TIFF's tags say."""
    tags = image.tag_v2
    return _DNG_VERSION in tags or (bool(int(tags.get(_SUBFILE_TYPE, 0)) & 1) and _SUB_IFDS in tags)


def _unidentified(stream: IO[bytes]) -> str:
    """Say what a file is that Pillow cannot open, as far as its first bytes tell."""
    stream.seek(0)
    head = stream.read(LOOKED_AT)
    brands = {head[at : at + 4] for at in range(8, min(len(head), 64) - 3, 4)} if head[4:8] == b"ftyp" else set()
    if brands & {b"avif", b"avis"}:
        return "is an AVIF picture, which this build of Pillow does not read: pip install 'pillow>=11.3'"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}:
        return "is a HEIC picture, which needs pillow-heif: pip install 'heritage-align[heif]'"
    wanted = f"not a picture in a supported format ({', '.join(_formats())})"
    if (kind := _signed(head, _OTHER_FILES)) is not None:
        return f"is {kind}, {wanted}"
    if b"<svg" in head:
        return f"is an SVG drawing, {wanted}"
    instead = foreign_head(head)
    if instead is not None:
        return instead
    if (kind := _signed(head, _OF_FORMATS)) is not None:
        return f"has a broken header, or is a {kind} file of a kind that is not read"
    return f"is {wanted}"


def _signed(head: bytes, signatures: Iterable[tuple[int, bytes, str]]) -> str | None:
    """Return the name of the first signature (place, bytes, name) that a file's beginning has."""
    return next((kind for place, signature, kind in signatures if head.startswith(signature, place)), None)


@cache
def _formats() -> tuple[str, ...]:
    """Return the allowed formats that can be read here: AVIF needs Pillow 11.3, HEIF the package pillow-heif."""
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
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


def _to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert any mode to an 8-bit sRGB image that is no longer a file's."""
    is_grey = image.mode.startswith("I") or image.mode == "F"
    if not is_grey and not image.has_transparency_data:
        return _opaque(image, profile)
    found = _range(image) if is_grey else (0.0, 0.0)
    strips = _strips(image)
    if len(strips) == 1:
        return _by_way_of_more(image, profile, found)
    whole = Image.new("RGB", image.size)
    for box in strips:
        whole.paste(_by_way_of_more(image.crop(box), profile, found), box)
    return whole


def _strips(image: Image.Image) -> list[tuple[int, int, int, int]]:
    rows = max(1, _STRIP // image.width)
    return [(0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)]


def _by_way_of_more(image: Image.Image, profile: bytes | None, found: tuple[float, float]) -> Image.Image:
    """Convert grey of more than 8 bits, in whose picture this range was found, or a picture with transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        return to_srgb(Image.fromarray(_to_8_bit(np.asarray(image), image.mode, *found)), profile).convert("RGB")
    layer = image.convert("RGBA")
    colours = to_srgb(image.convert("L") if image.mode in ("LA", "La") else layer.convert("RGB"), profile)
    shown = Image.merge("RGBA", (*colours.convert("RGB").split(), layer.getchannel("A")))
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), shown).convert("RGB")


def _opaque(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in ("P", "YCbCr", "RGBA", "RGBX", "RGBa"):
        image = image.convert("RGB")
    found = to_srgb(image, profile)
    if found is image and image.mode == "RGB":
        # `convert` would copy, into fresh pages: up to 2 ms for 800 x 600 pixels, which are decoded in 1.6 ms.
        return image._new(image.im)
    return found.convert("RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """Return the least and the largest finite value of a grey picture; zeros where none is finite."""
    least, most = [], []
    for box in _strips(image):
        grey = np.asarray(image.crop(box)).astype(np.float32)
        finite = grey[np.isfinite(grey)]
        if finite.size:
            least.append(float(finite.min()))
            most.append(float(finite.max()))
    return (min(least), max(most)) if least else (0.0, 0.0)


def _to_8_bit(values: NDArray[Any], mode: str, least: float, most: float) -> NDArray[np.uint8]:
    """Scale 16-bit, 32-bit and float grey ``(height, width)``, of a picture with this range, to 0..255.

    Pillow reads a 16-bit PGM as mode I with values up to 65535; hence an integer picture within 0..65535 is
    taken for 16 bits, and a float picture within 0..1 for a fraction of white.
    """
    grey = values.astype(np.float32)
    grey[~np.isfinite(grey)] = least
    low, high = 0.0, 1.0 if mode == "F" else 65535.0
    if least < low or most > high:
        low, high = least, most
        grey = grey.astype(np.float64)  # the span of two float32 values may exceed float32
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.rint((grey - low) * scale).astype(np.uint8)
