"""Decode a picture into the pixels that `load_image` gives, outside Python's lock and without a copy in Pillow's form.

A JPEG of 800 x 600 takes two thirds of the processor time of `load_image` and numpy, whose copies hold the lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from heritage_align.data.colour import changes_colours, to_srgb
from heritage_align.data.images import decoded, limits_of, open_source, orientation, read_header
from heritage_align.data.limits import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from heritage_align.protocols import ImageFile

_RGB = 3  # torchvision.io.ImageReadMode.RGB


def load_pixels(
    source: str | os.PathLike[str] | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    reduce: bool = True,
    remedy: str = "max_pixels raises it",
) -> NDArray[np.uint8]:
    """Decode a picture into upright sRGB.

    The header is read by Pillow. The pixels of grey and colour JPEGs are decoded by torchvision where it has its
    decoder, and by `load_image`'s way if that refuses them; those of other kinds always. Both decoders are
    libjpeg-turbo, with the same settings: the pixels are the same. Of corrupt data that both forgive torchvision's
    writes a line to stderr.

    Args:
        source: a path, or the encoded bytes themselves.
        max_pixels: as of `load_image`.
        name, reduce, remedy: as of `load_image`.

    Returns:
        ``(height, width, 3)``, contiguous.

    Raises:
        ImageError: what `load_image` raises.
    """
    with open_source(source, name) as (stream, size, name):
        data = bytearray(size)
        del data[stream.readinto(data) :]  # type: ignore[attr-defined]
        header = read_header(BytesIO(data), len(data), name, max_pixels, reduce=reduce, remedy=remedy)
        image = header.image
        # Of four components (CMYK) Pillow's conversion is its own; 12-bit and arithmetic-coded files it refuses.
        if image.format in ("JPEG", "MPO") and not header.reduced and _is_plain(image.mode, header.profile):
            pixels = _jpeg(data)
            if pixels is not None and pixels.shape == (image.height, image.width, 3):
                if changes_colours(header.profile, "RGB"):
                    pixels = np.asarray(to_srgb(Image.fromarray(np.ascontiguousarray(pixels)), header.profile))
                return np.ascontiguousarray(_upright(pixels, orientation(image)))
        return np.array(decoded(header, name))


def file_pixels(file: ImageFile) -> NDArray[np.uint8]:
    """Decode a data set's picture; see `load_pixels`."""
    return load_pixels(file.source, name=file.name, **limits_of(file))


def _is_plain(mode: str, profile: bytes | None) -> bool:
    # A profile of greys is of one channel, and torchvision gives three.
    return mode == "RGB" or (mode == "L" and not changes_colours(profile, "L"))


def _jpeg(data: bytearray) -> NDArray[np.uint8] | None:
    """Return ``(height, width, 3)``, None where torchvision refuses: a truncated file, or one that Pillow forgives."""
    decode = _decoder()
    if decode is None:
        return None
    try:
        pixels = decode(torch.frombuffer(data, dtype=torch.uint8), _RGB, False)
    except RuntimeError:
        return None
    found: NDArray[np.uint8] = pixels.permute(1, 2, 0).numpy()
    return found


@cache
def _decoder() -> Callable[[Tensor, int, bool], Tensor] | None:
    """Return torchvision's operator; None where torchvision comes without it.

    Not ``torchvision.io.decode_jpeg``, which is deprecated since 0.29 and warns at every call.
    """
    try:
        import torchvision  # noqa: F401  (registers torch.ops.image; its import is spared to those who decode no file)

        found: Callable[[Tensor, int, bool], Tensor] = torch.ops.image.decode_jpeg
    except (ImportError, AttributeError):
        return None
    return found


def _upright(pixels: NDArray[np.uint8], stored: int) -> NDArray[np.uint8]:
    """Turn pixels as EXIF's orientation says; `_UPRIGHT` of `images` in numpy."""
    if stored in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if stored in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if stored in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


class DecodedPicture(Image.Image):
    """Decoded pixels as a picture: Pillow's form of them is built when it is first asked for.

    Args:
        pixels: ``(height, width, 3)`` uint8, contiguous, not changed afterwards.
    """

    _pixels: NDArray[np.uint8] | None = None  # of the class for pickle, which calls no __init__

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__()
        self._mode, self._size = "RGB", (pixels.shape[1], pixels.shape[0])  # as Pillow's file formats set them
        self._pixels = pixels

    def load(self) -> Any:
        """Build the picture; Pillow calls this before it touches a pixel."""
        pixels = self._pixels
        if pixels is not None:
            self.im = Image.fromarray(pixels).im
            self._pixels = None
        return super().load()
