"""Parallel text files: line k of every file is a caption of image k (Multi30K, Elliott et al. 2016).

::

    train_images.txt   1000092795.jpg          one image a line
    train.en           Two young men ...       the human captions
    train.de           Zwei junge Männer ...   their translations, by people or by a machine

Task 2 of Multi30K has five files a language (``train.1.en`` to ``train.5.en``): each is one more caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from heritage_align.data.collection import Collection
from heritage_align.data.fields import UniqueIds, as_text
from heritage_align.data.lines import numbered_lines
from heritage_align.data.pictures import FilePictures, path_below
from heritage_align.data.problems import Problems
from heritage_align.errors import DataError
from heritage_align.types import TextItem


def read_parallel_captions(
    image_list: Path,
    images: Path,
    captions: Mapping[str, Sequence[Path]],
    *,
    prefix: str | None = None,
    name: str | None = None,
    require_pictures: bool = True,
    encoding: str | None = None,
) -> Collection:
    """Read parallel captions; a text's id is ``<image>#<language>#<number>``, numbers from 0.

    Args:
        image_list: file with an image a line, a path relative to `images`; it is the image's id.
        images: folder of the pictures.
        captions: language -> its files, as many for every language.
        prefix: beginning of the list's paths that stands for `images`, where they are of another computer.
        name: of the data set; by default the list's name.
        require_pictures: False where only features of the pictures are read.
        encoding: of the text files; None finds it out (`data.encodings`) and says a guess on stderr.

    Raises:
        DataError: a file cannot be read, is packed, or has another number of lines than the list; a line is blank; an
            image comes twice; languages have different numbers of files.
    """
    problems = Problems(image_list)
    files: dict[str, Path] = {}
    unique = UniqueIds("image", problems)
    for place, line in _lines(image_list, problems, encoding):
        try:
            image_id, file = path_below(images, line, prefix=prefix)
        except ValueError as error:
            problems.add(place, str(error))
            continue
        if unique.add(image_id, place):
            files[image_id] = file
    problems.raise_if_any()
    counts = {language: len(paths) for language, paths in captions.items()}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{count} in {language!r}" for language, count in counts.items()) or "no language"
        raise DataError(f"{image_list}: parallel captions need as many files in every language, got {found}")
    items = [
        TextItem(f"{image_id}#{language}#{number}", text, (image_id,), language=language)
        for number in range(next(iter(counts.values())))
        for language, paths in captions.items()
        for image_id, text in zip(files, _texts(paths[number], len(files), problems, encoding))
    ]
    problems.raise_if_any()
    return Collection(name or image_list.stem, FilePictures(files), items, require_pictures=require_pictures)


def _texts(path: Path, count: int, problems: Problems, encoding: str | None) -> list[str]:
    """Return the lines of a file, one an image; another number of lines becomes a problem."""
    texts = [text for _, text in _lines(path, problems, encoding)]
    if len(texts) != count:
        problems.add(str(path), f"has {len(texts)} captions, the list has {count} images")
    return texts


def _lines(path: Path, problems: Problems, encoding: str | None) -> list[tuple[str, str]]:
    if path.suffix == ".gz":
        raise DataError(f"{path}: is packed; unpack it first (gunzip -k {path.name})")
    found = []
    for number, line in numbered_lines(path, problems, encoding):
        try:
            found.append((f"{path}:{number}", as_text(line)))
        except ValueError as error:
            problems.add(f"{path}:{number}", f"line {error}")
    return found
