"""Karpathy's split files of COCO and Flickr30K (Karpathy and Fei-Fei 2015), with English or other captions.

``{"images": [{"filename": "1.jpg", "filepath": "val2014", "split": "test", "sentids": [0, 1],
"sentences": [{"sentid": 0, "raw": "A dog."}, ...]}, ...]}``; ``filepath`` and ``sentids`` may be missing.
"""

from __future__ import annotations

from collections.abc import Collection as Values
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heritage_align.data.captions import caption_lines, image_key, text_item
from heritage_align.data.collection import Collection
from heritage_align.data.fields import UniqueIds, as_id, as_list, as_text, optional, required
from heritage_align.data.lines import read_json
from heritage_align.data.pictures import FilePictures, path_below
from heritage_align.data.problems import Problems
from heritage_align.types import TextItem


def read_karpathy(
    path: Path,
    images: Path,
    *,
    splits: Values[str] = ("test",),
    captions: Path | None = None,
    language: str | None = None,
    prefix: str | None = None,
    name: str | None = None,
    encoding: str | None = None,
) -> Collection:
    """Read splits of a Karpathy file; the whole JSON is parsed at once (COCO: 144 MB of text).

    Args:
        path: ``dataset_coco.json``, ``dataset_flickr30k.json`` or a file of that form.
        images: the folder that ``filepath/filename`` is relative to. A picture's id is its file name without
            ending.
        splits: ``train``, ``restval``, ``val``, ``test``; COCO's usual training set is train and restval.
        captions: a caption file (`heritage_align.data.captions`) whose texts take the place of the file's
            own; images of the splits that it does not describe are left out.
        language: of the texts; by default ``en``, or ``zh`` with a caption file.
        prefix: beginning of the paths that stands for `images`, where they are of another computer.
        name: of the data set; by default the file's name and the splits.
        encoding: of the caption file; None finds it out (`data.encodings`) and says a guess on stderr.

    Raises:
        DataError: the file cannot be read or is not of this form; entries are named as ``images[12]``.
    """
    problems = Problems(path)
    files: dict[str, Path] = {}
    items: list[TextItem] = []
    unique_images, unique_texts = UniqueIds("image", problems), UniqueIds("sentid", problems)
    seen: dict[str, None] = {}
    for place, entry in _entries(path, problems):
        try:
            split = required(entry, "split", as_text)
            seen[split] = None
            if split not in splits:
                continue
            image_id, file = _picture(entry, images, prefix)
            texts = () if captions else tuple(_sentences(entry, image_id, language or "en"))
        except ValueError as error:
            problems.add(place, str(error))
            continue
        if unique_images.add(image_id, place):
            files[image_id] = file
            items.extend(item for item in texts if unique_texts.add(item.id, place))
    for split in splits:
        if split not in seen and not problems.count:
            problems.add(str(path), f"has no images of split {split!r}; splits: {', '.join(seen)}")
    if captions:
        lines = caption_lines(captions, problems, language or "zh", encoding)
        items = [text_item(caption) for caption in lines if caption.image in files]
        described = {item.image_ids[0] for item in items}
        files = {image_id: file for image_id, file in files.items() if image_id in described}
    problems.raise_if_any()
    return Collection(name or f"{path.stem}/{'+'.join(splits)}", FilePictures(files), items)


def _entries(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    def images_of(document: Any) -> list[Any]:
        return required(document if isinstance(document, dict) else {}, "images", as_list)

    entries = read_json(path, "a Karpathy split file", images_of)
    for number, entry in enumerate(entries):
        if isinstance(entry, dict):
            yield f"{path}, images[{number}]", entry
        else:
            problems.add(f"{path}, images[{number}]", f"expected an object {{...}}, got {type(entry).__name__}")


def _picture(entry: dict[str, Any], images: Path, prefix: str | None) -> tuple[str, Path]:
    folder = optional(entry, "filepath", as_text, ".")
    relative, file = path_below(images, f"{folder}/{required(entry, 'filename', as_text)}", prefix=prefix)
    return image_key(relative), file


def _sentences(entry: dict[str, Any], image_id: str, language: str) -> Iterator[TextItem]:
    sentences = required(entry, "sentences", as_list)
    sentids: list[Any] = optional(entry, "sentids", as_list, [])
    declared = set(map(str, sentids))
    if not sentences:
        raise ValueError("'sentences' is empty")
    for number, sentence in enumerate(sentences):
        if not isinstance(sentence, dict):
            raise ValueError(f"sentences[{number}] must be an object {{...}}, got {type(sentence).__name__}")
        try:
            text_id, text = required(sentence, "sentid", as_id), required(sentence, "raw", as_text)
        except ValueError as error:
            raise ValueError(f"sentences[{number}] {error}") from None
        if declared and text_id not in declared:
            raise ValueError(f"sentences[{number}] 'sentid' {text_id} is not among the image's 'sentids'")
        yield TextItem(text_id, text, (image_id,), language=language)
