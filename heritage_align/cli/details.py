"""Pictures, and parts of them, that a command line names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heritage_align.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from heritage_align.config import Config
    from heritage_align.search import Detail

Box = tuple[float, float, float, float]
PERCENT = "pct:"


def place_of(box: Box) -> str:
    """Return where in a picture a region lies, in words.

    Args:
        box: x0, y0, x1, y1 as fractions of width and height.

    Example:
        >>> place_of((0.25, 0, 0.5, 1))
        'at x 0.25-0.50, y 0.00-1.00'
    """
    x0, y0, x1, y1 = box
    return f"at x {x0:.2f}-{x1:.2f}, y {y0:.2f}-{y1:.2f}"


def check_boxes(boxes: Sequence[str], images: int) -> list[tuple[Box, bool]]:
    """Read --box, before any picture: corner, width and height in pixels, or, as IIIF writes it, in per cent.

    Args:
        boxes: ``x,y,w,h`` or ``pct:x,y,w,h``.
        images: how many --image there are.

    Returns:
        The numbers, and whether they are per cent.

    Raises:
        ConfigError: a box that is none; boxes that do not tell which picture they are of.
    """
    faults = [f"--box: expected x,y,w,h in pixels or pct:x,y,w,h, with w and h above 0; got {box!r}"
              for box in boxes if _numbers(box) is None]  # fmt: skip
    if boxes and images != 1 and len(boxes) != images:
        faults.append(f"--box: there are {len(boxes)} for {images} --image; give one each, or one --image")
    if faults:
        raise ConfigError(faults, "search")
    found = [_numbers(box) for box in boxes]
    return [(box, text.startswith(PERCENT)) for box, text in zip(found, boxes) if box is not None]


def load_details(images: Sequence[str], boxes: Sequence[tuple[Box, bool]], config: Config) -> list[Detail]:
    """Open pictures and take the boxes of them: every box of a single picture, the whole of each where there is none.

    Raises:
        ImageError: a picture cannot be read.
        DataError: a box outside its picture.
    """
    from heritage_align.search import Detail

    pictures = [picture_of(image, config) for image in images]
    if not boxes:
        return _told([Detail(picture, image) for image, picture in zip(images, pictures)])
    if len(images) == 1:
        images, pictures = [*images] * len(boxes), pictures * len(boxes)
    details = []
    for image, picture, ((x, y, width, height), percent) in zip(images, pictures, boxes):
        across, down = (picture.width / 100, picture.height / 100) if percent else (1.0, 1.0)
        # Rounded: 8.3333 % of 48 pixels is the fourth pixel's edge, and not a part of the third.
        x0, y0, x1, y1 = (round(v, 2) for v in (x * across, y * down, (x + width) * across, (y + height) * down))
        box = (x0, y0, x1, y1)
        details.append(Detail(picture, image, box))
        details[-1].inside()
    return _told(details)


def _told(details: list[Detail]) -> list[Detail]:
    """Say which details are plain: an answer to one is like any other."""
    for detail in details:
        part = detail.crop()
        if part.convert("RGB").getcolors(1) is not None:  # None of more than one
            what = detail.name if detail.box is None else f"the part of {detail.name}"
            click.echo(
                f"note: {what} is of one colour ({part.width} x {part.height} pixels): there is nothing in it to look "
                "for, and its answers are places of a like colour",
                err=True,
            )
    return details


def picture_of(image: str, config: Config) -> Image:
    """Open a picture: a file, by its path or ``file:`` address, or the id of a picture of the config's data."""
    from heritage_align.cli.queries import load_query
    from heritage_align.data.pictures import path_of_address

    if Path(image).exists():
        return load_query(Path(image), config)
    found = _of_the_data(image, config)
    if found is not None:
        return found
    if image.casefold().startswith("file:"):
        return load_query(Path(path_of_address(image)), config)
    if "://" in image:
        raise DataError(f"{image}: is an address, and no picture of the data; save the picture, and name its file")
    return load_query(Path(image), config)


def _of_the_data(image: str, config: Config) -> Image | None:
    from heritage_align.pipeline import build_dataset

    if config.data is None:
        return None
    try:
        dataset = build_dataset(config)
    except (ConfigError, DataError):  # its files need not be there for a picture that is none of them
        return None
    return dataset.load_image(image) if image in dataset.image_ids else None


def _numbers(text: str) -> Box | None:
    try:
        x, y, width, height = (float(part) for part in text.removeprefix(PERCENT).split(","))
    except ValueError:
        return None
    finite = max(map(abs, (x, y, width, height))) < float("inf")
    return (x, y, width, height) if finite and width > 0 and height > 0 else None
