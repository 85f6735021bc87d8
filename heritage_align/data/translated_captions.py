"""Caption files and their translations by a machine, as the code of NRCCR (Wang et al. 2022) has them for MSCOCO,
Multi30K and VATEX.

One caption a line, in two files; the same image and number name the same caption::

    COCO_train2014_000000000009#enc#0 A plate of food ...        source
    COCO_train2014_000000000009#enc2zh#0 一盘食物 ...            its translation

The tag between the signs may be missing or be any word.
"""

from __future__ import annotations

import re
from pathlib import Path

from heritage_align.data.captions import image_key, read_split_list
from heritage_align.data.collection import Collection
from heritage_align.data.fields import as_text
from heritage_align.data.lines import numbered_lines
from heritage_align.data.pictures import FilePictures, walk_pictures
from heritage_align.data.problems import Problems
from heritage_align.types import TextItem

Key = tuple[str, str]
"""An image and the number of one of its captions."""

_LINE = re.compile(r"(?P<image>[^\s#]+)(?:#[A-Za-z0-9]+)?#(?P<number>\d+)\s+(?P<text>.*)")


def read_translated_captions(
    source: Path,
    target: Path,
    images: Path,
    *,
    source_language: str,
    target_language: str,
    split: Path | None = None,
    name: str | None = None,
    require_pictures: bool = True,
    encoding: str | None = None,
) -> Collection:
    """Read captions with their translations; a text's id is ``<image>#<language>#<number>``.

    Args:
        source: file of human captions.
        target: file of their translations; every caption needs one.
        images: folder below which the pictures are, named by their image's key with any usual ending.
        source_language: of `source`.
        target_language: of `target`.
        split: a list of image keys; captions of other images are left out.
        name: of the data set; by default the split's or the source's name.
        require_pictures: False where only features of the pictures are read.
        encoding: of the text files; None finds it out (`data.encodings`) and says a guess on stderr.

    Raises:
        DataError: a file cannot be read; a line is of another form; a caption comes twice or has no translation; an
            image of the split list has no caption.
    """
    problems = Problems(source)
    wanted = None if split is None else read_split_list(split, problems, encoding)
    captions, translations = (numbered_captions(path, problems, encoding) for path in (source, target))
    items: list[TextItem] = []
    for (image, number), text in captions.items():
        if wanted is not None and image not in wanted:
            continue
        translation = translations.get((image, number))
        if translation is None:
            problems.add(f"caption {number} of {image!r}", f"has no translation in {target}")
            continue
        for language, words in ((source_language, text), (target_language, translation)):
            items.append(TextItem(f"{image}#{language}#{number}", words, (image,), language=language))
    described = dict.fromkeys(item.image_ids[0] for item in items)
    for key, place in (wanted or {}).items():
        if key not in described and not problems.count:
            problems.add(place, f"image {key!r} has no caption in {source}")
    problems.raise_if_any()
    files = {image_key(relative): file for relative, file in walk_pictures(images)} if require_pictures else {}
    pictures = FilePictures({key: files.get(key, images / f"{key}.*") for key in described})
    return Collection(name or (split or source).stem, pictures, items, require_pictures=require_pictures)


def numbered_captions(path: Path, problems: Problems, encoding: str | None = None) -> dict[Key, str]:
    """Return the captions of a file by image and number; lines of another form and repetitions become problems."""
    found: dict[Key, str] = {}
    for line_number, line in numbered_lines(path, problems, encoding):
        if not line.strip():
            continue
        place = f"{path}:{line_number}"
        match = _LINE.fullmatch(line.strip("\r\n"))
        if match is None:
            problems.add(place, f"is not 'image#tag#number caption': {line.strip()[:60]!r}")
            continue
        image, number = image_key(match["image"]), match["number"]
        try:
            key = image, str(int(number))  # which Python makes of 4300 digits at most
            text = as_text(match["text"])
        except ValueError as error:
            problems.add(place, f"caption {number[:20]} of {image!r} {error}")
            continue
        if key in found:
            problems.add(place, f"caption {key[1]} of {key[0]!r} was there already")
        found[key] = text
    return found
