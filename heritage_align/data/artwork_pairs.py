"""Artworks with annotated regions: the form of fine-grained alignment sets (after Sheng et al. 2021, section
4).

JSON Lines, one artwork a line; every field below without "optional" must be there::

    {
      "id": "met-39844",                        the artwork's id and its image's; unique
      "image": "pictures/39844.jpg",            the full picture, relative to the pictures' folder
      "text": "Porcelain bowl with ...",        the description; or "texts", see below
      "phrases": ["porcelain bowl", "..."],     optional: its noun phrases in order; by default those of the
                                                regions, each once, in their order
      "regions": [                              optional: the golden pairs
        {"box": [10, 20, 110, 95],              x0, y0, x1, y1 in pixels of the upright picture
         "phrases": ["underglaze blue", "..."]} one or more phrases that name this region
      ],
      "language": "en",                         optional: zh or en
      "split": "test"                           optional
    }

``"texts": [{"id": "t1", "text": "...", "phrases": [...], "language": "zh"}, ...]`` takes the place of "text"
where an artwork has several descriptions; its "id" is optional. Without one, a text's id is the artwork's
with ``#0``, ``#1`` ... behind it. Whether a box lies inside its picture is not known here: pictures are not
opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heritage_align.data.collection import Collection
from heritage_align.data.fields import UniqueIds, as_id, as_list, as_text, as_texts, optional, required, shown
from heritage_align.data.lines import jsonl_rows
from heritage_align.data.pictures import FilePictures, path_below
from heritage_align.data.problems import Problems
from heritage_align.types import GoldenPair, TextItem

Box = tuple[float, float, float, float]


def read_artwork_pairs(
    path: Path,
    *,
    images: Path | None = None,
    prefix: str | None = None,
    split: str | None = None,
    language: str | None = None,
    name: str | None = None,
    encoding: str | None = None,
) -> Collection:
    """Read artworks, their descriptions and their golden pairs.

    Args:
        path: the JSON Lines file.
        images: the folder that picture paths are relative to and must not leave; by default the file's own.
        prefix: beginning of the paths that stands for that folder, where they are of another computer.
        split: take the artworks whose "split" says this; None takes all.
        language: of texts that do not say theirs.
        name: of the data set; by default the file's name and the split.
        encoding: of the file; None finds it out (`data.encodings`) and says a guess on stderr.

    Raises:
        DataError: the file cannot be read, or artworks are at fault: each is named by its line.
    """
    problems = Problems(path)
    root = path.parent if images is None else images
    unique_artworks, unique_texts = UniqueIds("artwork", problems), UniqueIds("text id", problems)
    files: dict[str, Path] = {}
    items: list[TextItem] = []
    golden: list[GoldenPair] = []
    for place, record in jsonl_rows(path, problems, encoding):
        try:
            if split is not None and required(record, "split", as_text) != split:
                continue
            image_id = required(record, "id", as_id)
            _, file = path_below(root, required(record, "image", as_text), prefix=prefix)
            pairs = tuple(_golden(record, image_id))
            texts = tuple(_texts(record, image_id, pairs, language))
        except ValueError as error:
            problems.add(place, str(error))
            continue
        if unique_artworks.add(image_id, place):
            files[image_id] = file
            golden.extend(pairs)
            items.extend(item for item in texts if unique_texts.add(item.id, place))
    if split is not None and not files and not problems.count:
        problems.add(str(path), f"has no artworks of split {split!r}")
    problems.raise_if_any()
    return Collection(name or (f"{path.stem}/{split}" if split else path.stem), FilePictures(files), items, golden)


def _texts(
    record: dict[str, Any], image_id: str, pairs: tuple[GoldenPair, ...], language: str | None
) -> Iterator[TextItem]:
    if "text" in record and "texts" in record:
        raise ValueError("has both 'text' and 'texts'")
    named = tuple(dict.fromkeys(phrase for pair in pairs for phrase in pair.phrases))
    language = optional(record, "language", as_text, language or "") or None
    if "texts" not in record:
        phrases = optional(record, "phrases", as_texts, named)
        yield TextItem(f"{image_id}#0", required(record, "text", as_text), (image_id,), phrases, language)
        return
    entries = required(record, "texts", as_list)
    if not entries:
        raise ValueError("'texts' is an empty list")
    default_phrases = optional(record, "phrases", as_texts, named)
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"texts[{number}] must be an object {{...}}, got {type(entry).__name__}")
        try:
            yield TextItem(
                id=optional(entry, "id", as_id, f"{image_id}#{number}"),
                text=required(entry, "text", as_text),
                image_ids=(image_id,),
                phrases=optional(entry, "phrases", as_texts, default_phrases),
                language=optional(entry, "language", as_text, language or "") or None,
            )
        except ValueError as error:
            raise ValueError(f"texts[{number}] {error}") from None


def _golden(record: dict[str, Any], image_id: str) -> Iterator[GoldenPair]:
    regions: list[Any] = optional(record, "regions", as_list, [])
    for number, region in enumerate(regions):
        if not isinstance(region, dict):
            raise ValueError(f"regions[{number}] must be an object {{...}}, got {type(region).__name__}")
        try:
            phrases = required(region, "phrases", as_texts)
            if not phrases:
                raise ValueError("'phrases' is an empty list")
            yield GoldenPair(image_id, required(region, "box", as_box), phrases)
        except ValueError as error:
            raise ValueError(f"regions[{number}] {error}") from None


def as_box(value: Any) -> Box:
    """Return ``[x0, y0, x1, y1]`` as floats; raises ValueError for anything but a box with an area."""
    numbers = as_list(value)
    if len(numbers) != 4 or not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers):
        raise ValueError(f"must be four numbers [x0, y0, x1, y1], got {shown(value)}")
    try:
        x0, y0, x1, y1 = map(float, numbers)
    except OverflowError:  # an integer of more than 308 digits
        raise ValueError(f"must be four numbers of a picture's size, got {shown(value)}") from None
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x0 < 0 or y0 < 0 or x0 >= x1 or y0 >= y1:
        raise ValueError(f"must have 0 <= x0 < x1 and 0 <= y0 < y1, got {value!r}")
    return x0, y0, x1, y1
