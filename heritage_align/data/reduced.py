"""Huge scans at a reduced size, where their format keeps or computes one: no pixel of the whole is decoded.

JPEG is scaled by 2, 4 or 8 while it is decoded; JPEG 2000 keeps levels of half the size; a pyramid TIFF keeps smaller
copies as pages behind the first or below it (SubIFDs).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from heritage_align.data import jpeg2000

_SUBFILE_TYPE, _SUB_IFDS = 254, 330  # tags of TIFF
_SMALLER_COPY = 1  # bit of the subfile type
_MOST_COPIES = 64


def reduce(image: Image.Image, stream: IO[bytes], max_pixels: int) -> bool:
    """Set an opened picture up to be decoded at the largest size of at most `max_pixels` that its file offers.

    Args:
        image: as Pillow opened it; its `size` is the reduced one afterwards.
        stream: its file.
        max_pixels: width x height.

    Returns:
        Whether it can be had.
    """
    if image.format in ("JPEG", "MPO"):
        return _scale(image, max_pixels)
    if image.format == "JPEG2000":
        return _leave_out_levels(image, stream, max_pixels)
    if isinstance(image, TiffImageFile):
        return _seek_copy(image, max_pixels)
    return False


def _scale(image: Image.Image, max_pixels: int) -> bool:
    width, height = image.size
    for scale in (2, 4, 8):
        if -(-width // scale) * -(-height // scale) <= max_pixels:
            image.draft(image.mode, (max(1, width // scale), max(1, height // scale)))
            return image.width * image.height <= max_pixels
    return False


def _leave_out_levels(image: Any, stream: IO[bytes], max_pixels: int) -> bool:
    width, height = image.size
    for left_out in range(1, jpeg2000.levels(stream) + 1):
        if -(-width // 2**left_out) * -(-height // 2**left_out) <= max_pixels:
            # What Pillow's attribute `reduce` does, with sides rounded up as the format has it: its own are rounded to
            # the nearest, and a picture of 1001 x 777 cannot be decoded at a quarter then (Pillow 13.0).
            image._size = tuple(-(-side // 2**left_out) for side in (width, height))
            [(name, _, offset, (kind, _, *rest))] = image.tile
            image.tile = [ImageFile._Tile(name, (0, 0, *image._size), offset, (kind, left_out, *rest))]
            return True
    return False


def _seek_copy(image: TiffImageFile, max_pixels: int) -> bool:
    whole, shape = image.size, image.mode
    copies = [
        (size[0] * size[1], place)
        for place, size, mode in _copies(image)
        if size[0] * size[1] <= max_pixels and mode == shape and _same_shape(whole, size)
    ]
    if not copies:
        return False
    _, place = max(copies)
    _go_to(image, place)
    return True


def _copies(image: TiffImageFile) -> Iterator[tuple[tuple[str, int], tuple[int, int], str]]:
    """Yield place, size and mode of every page that may be a smaller copy of the first."""
    whole = image.size
    below = image.tag_v2.get(_SUB_IFDS) or ()
    offsets = below if isinstance(below, tuple) else (below,)
    for number in range(1, min(getattr(image, "n_frames", 1), _MOST_COPIES)):
        image.seek(number)
        marked = int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _SMALLER_COPY
        if marked or _halved(whole, image.size):
            yield ("page", number), image.size, image.mode
    for offset in offsets[:_MOST_COPIES]:
        _go_to(image, ("below", int(offset)))
        yield ("below", int(offset)), image.size, image.mode


def _go_to(image: Any, place: tuple[str, int]) -> None:
    kind, number = place
    if kind == "page":
        image.seek(0)
        image.seek(number)
        return
    image._frame_pos = [number]  # as Pillow's own get_child_images goes to the pages below
    image._seek(0)


def _same_shape(whole: tuple[int, int], size: tuple[int, int]) -> bool:
    """Tell a copy from a detail or a label: sides in proportion, to the pixel that rounding leaves."""
    return abs(whole[0] * size[1] - whole[1] * size[0]) <= max(whole)


def _halved(whole: tuple[int, int], size: tuple[int, int]) -> bool:
    """Tell a copy that says nothing of itself: both sides halved any number of times, rounded either way."""
    powers = (2**k for k in range(1, 16))
    return any(all(side // p <= half <= -(-side // p) for side, half in zip(whole, size)) for p in powers)
