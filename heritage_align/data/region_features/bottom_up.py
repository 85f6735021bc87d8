"""The TSV files of bottom-up attention (Anderson et al. 2018): a picture a line, arrays in base64.

Two orders of columns are in use, told apart by their number:

* 6, as published with the paper: ``image_id  image_w  image_h  num_boxes  boxes  features``;
* 10, as LXMERT and the detectron2 conversions write: ``image_id  image_h  image_w  objects_id  objects_conf  attrs_id
  attrs_conf  num_boxes  boxes  features``. Height comes first here.

Boxes (num_boxes, 4) in pixels, features (num_boxes, dim) and confidences (num_boxes) are little-endian float32;
``objects_conf``, the class confidence, is taken as the objectness. Object and attribute ids are not read. The file has
no global feature. It is read into memory whole, 4 bytes a number: convert a large one once.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heritage_align.data.lines import numbered_lines
from heritage_align.data.problems import Problems
from heritage_align.data.region_features.checks import pixel_fractions
from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.errors import DataError

_COLUMNS: dict[int, tuple[str, ...]] = {
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
    10: (
        "image_id",
        "image_h",
        "image_w",
        "objects_id",
        "objects_conf",
        "attrs_id",
        "attrs_conf",
        "num_boxes",
        "boxes",
        "features",
    ),
}

Floats = NDArray[np.float32]


class _Picture(NamedTuple):
    id: str
    boxes: Floats
    features: Floats
    objectness: Floats | None


def read_bottom_up(path: Path) -> RegionFeatures:
    """Read a TSV file.

    Raises:
        DataError: the file cannot be read, or lines are at fault: each is named by its number.
    """
    problems = Problems(path)
    pictures: list[_Picture] = []
    dim = columns = 0
    for number, line in numbered_lines(path, problems, "utf-8-sig"):
        if not line.strip():
            continue
        try:
            picture = _picture(line)
            # A picture without boxes says nothing about the width.
            width, here = picture.features.shape[1], line.count("\t") + 1
            if columns not in (0, here):
                raise ValueError(f"has {here} columns, the lines before {columns}")
            if dim and width and width != dim:
                raise ValueError(f"features have {width} numbers a box, those before {dim}")
        except ValueError as error:
            problems.add(f"{path}:{number}", str(error))
            continue
        dim, columns = dim or width, here
        pictures.append(picture)
    problems.raise_if_any()
    if not dim:
        raise DataError(f"{path}: has no regions")
    scores = [picture.objectness for picture in pictures if picture.objectness is not None]
    return RegionFeatures(
        str(path),
        tuple(picture.id for picture in pictures),
        np.cumsum([0, *(len(picture.boxes) for picture in pictures)]),
        np.concatenate([picture.features.reshape(-1, dim) for picture in pictures]),
        np.concatenate([picture.boxes for picture in pictures]),
        np.concatenate(scores) if scores else None,
    )


def bottom_up_dim(path: Path) -> int:
    """Return the width of the features, from the first picture with regions; raises DataError."""
    problems = Problems(path)
    for number, line in numbered_lines(path, problems, "utf-8-sig"):
        if line.strip():
            try:
                dim = _picture(line).features.shape[1]
            except ValueError as error:
                raise DataError(f"{path}:{number}: {error}") from error
            if dim:
                return dim
    problems.raise_if_any()
    raise DataError(f"{path}: has no regions")


def _picture(line: str) -> _Picture:
    """Parse a line; raises ValueError that says what is wrong with it."""
    cells = line.rstrip("\r\n").split("\t")
    if len(cells) not in _COLUMNS:
        raise ValueError(f"has {len(cells)} columns separated by tabs, expected 6 or 10")
    fields = dict(zip(_COLUMNS[len(cells)], cells))
    count, width, height = (_number(fields, name) for name in ("num_boxes", "image_w", "image_h"))
    boxes = _floats(fields, "boxes", count, 4)
    features = _floats(fields, "features", count, None)
    scores = _floats(fields, "objects_conf", count, 1)[:, 0] if "objects_conf" in fields else None
    return _Picture(fields["image_id"].strip(), pixel_fractions(boxes, width, height), features, scores)


def _number(fields: dict[str, str], name: str) -> int:
    if not (fields[name].isascii() and fields[name].isdecimal() and len(fields[name]) < 10):
        raise ValueError(f"{name} is {fields[name][:20]!r}, expected a number")
    return int(fields[name])


def _floats(fields: dict[str, str], name: str, count: int, width: int | None) -> Floats:
    """Decode ``(count, width)`` numbers; `width` None is whatever divides them."""
    try:
        data: Any = base64.b64decode(fields[name].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"{name} is no base64: {error}") from error
    row = 4 * (width or 1)
    fits = len(data) % (row * count) == 0 if width is None and count else len(data) == row * count
    if not fits or (width is None and count and not data):
        wanted = f"a multiple of {row * count}" if width is None else f"{row * count}"
        raise ValueError(f"{name} has {len(data)} bytes, {count} boxes need {wanted}")
    numbers = np.frombuffer(data, dtype="<f4")
    return numbers.reshape(count, len(numbers) // count if count else width or 0)
