"""Caption files of Flickr8K-CN, Flickr30K-CN and COCO-CN, with or without their split lists.

One caption a line: an image key, the caption's number behind ``#`` (with a tag of how it came about in the
Flickr sets), white space, the caption::

    1000092795.jpg#zhb#0 两个年轻人在看自己的手        (Lan, Li and Dong 2017; zh*: Chinese, en*: English)
    COCO_val2014_000000000042#0<TAB>一只狗躺在鞋架上   (Li et al. 2019)

A split list is one image key a line. The picture of a key is the file of that name, with any of the usual
endings, anywhere below the pictures' folder (COCO keeps ``train2014/`` and ``val2014/`` apart).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from heritage_align.data.collection import Collection
from heritage_align.data.fields import UniqueIds, as_text
from heritage_align.data.limits import SUFFIXES
from heritage_align.data.lines import numbered_lines
from heritage_align.data.pictures import FilePictures, walk_pictures
from heritage_align.data.problems import Problems
from heritage_align.types import TextItem

_CAPTION = re.compile(r"(?P<id>(?P<image>[^\s#]+)(?:#(?P<tag>[A-Za-z]+))?#\d+)\s+(?P<text>.*)")
_LANGUAGES = {"zh": "zh", "en": "en"}


class Caption(NamedTuple):
    """One line of a caption file: place, id (``1000092795.jpg#zhb#0``), the image's key without ending,
    text."""

    place: str
    id: str
    image: str
    text: str
    language: str | None


def read_captions(
    path: Path,
    images: Path,
    *,
    split: Path | None = None,
    language: str | None = "zh",
    name: str | None = None,
    encoding: str | None = None,
) -> Collection:
    """Read a caption file and the pictures that it names; ids are the keys without file name endings.

    Args:
        path: the caption file.
        images: the folder below which the pictures are.
        split: a list of image keys; captions of other images are left out. None takes all.
        language: of captions whose tag does not tell.
        encoding: of the text files; None finds it out (`data.encodings`) and says a guess on stderr.
        name: of the data set; by default the split list's or the caption file's name.

    Raises:
        DataError: a file cannot be read; a line is not of the form above; an id occurs twice; an image of the
            split list has no caption; no picture exists.
    """
    problems = Problems(path)
    wanted = None if split is None else read_split_list(split, problems, encoding)
    captions = [c for c in caption_lines(path, problems, language, encoding) if wanted is None or c.image in wanted]
    described = {caption.image for caption in captions}
    for key, place in (wanted or {}).items():
        if key not in described:
            problems.add(place, f"image {key!r} has no caption in {path}")
    keys = wanted if wanted is not None else dict.fromkeys(caption.image for caption in captions)
    files: dict[str, Path] = {}
    for relative, file in walk_pictures(images):
        first = files.setdefault(image_key(relative), file)
        if first is not file and image_key(relative) in keys:
            problems.add(str(file), f"image {image_key(relative)!r} is also {first}")
    problems.raise_if_any()
    pictures = FilePictures({key: files.get(key, images / f"{key}.*") for key in keys})
    return Collection(name or (split or path).stem, pictures, map(text_item, captions))


def text_item(caption: Caption) -> TextItem:
    """Return a caption as the right answer for its image."""
    return TextItem(caption.id, caption.text, (caption.image,), language=caption.language)


def caption_lines(
    path: Path, problems: Problems, language: str | None, encoding: str | None = None
) -> Iterator[Caption]:
    """Yield the captions of a file; lines of another form and repeated ids become problems."""
    unique = UniqueIds("caption", problems)
    for number, line in numbered_lines(path, problems, encoding):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        match = _CAPTION.fullmatch(line.strip("\r\n").strip("\ufeff"))
        if match is None:
            problems.add(place, f"is not 'image#number caption': {line.strip()[:60]!r}")
            continue
        try:
            text = as_text(match["text"])
        except ValueError as error:
            problems.add(place, f"caption {match['id']!r} {error}")
            continue
        if unique.add(match["id"], place):
            tag = (match["tag"] or "").lower()
            yield Caption(place, match["id"], image_key(match["image"]), text, _LANGUAGES.get(tag[:2], language))


def read_split_list(path: Path, problems: Problems, encoding: str | None = None) -> Mapping[str, str]:
    """Return image key -> place of a list of images, one a line; a repeated one becomes a problem."""
    keys: dict[str, str] = {}
    for number, line in numbered_lines(path, problems, encoding):
        # Flickr's lists name captions in places (a.jpg#zhb#0); what counts is the image before the first #.
        key = image_key(line.strip().split("#")[0])
        if not key:
            continue
        if key in keys:
            problems.add(f"{path}:{number}", f"image {key!r} was already named at {keys[key]}")
        keys.setdefault(key, f"{path}:{number}")
    return keys


def image_key(name: str) -> str:
    """Return an image's name without folder and file name ending: ``val2014/COCO_42.jpg`` is ``COCO_42``."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
