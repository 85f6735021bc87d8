"""The data sets of Chinese-CLIP (Yang et al. 2022) and of those who took over its form, such as CulTi.

Texts are ``{split}_texts.jsonl``, one object a line: ``{"text_id": 1, "text": "...", "image_ids": [7, 8]}``,
where ``image_ids`` may be missing (a test set whose answers are kept back) and ``phrases`` (a list of noun
phrases) is an extension of ours. Pictures are ``{split}_imgs.tsv``, ``lmdb/{split}/imgs`` or a folder of
files named by id. MUGE as the competition hands it out has other names for the same: ``MR_{split}_queries.jsonl`` with
``query_id``, ``query_text`` and ``item_ids``, and ``MR_{split}_imgs.tsv``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from heritage_align.data.collection import Collection
from heritage_align.data.encoded_pictures import LmdbPictures, TsvPictures
from heritage_align.data.fields import UniqueIds, as_id, as_list, as_text, as_texts, optional, required
from heritage_align.data.lines import Row, jsonl_rows
from heritage_align.data.lmdb_file import LmdbFile, is_lmdb
from heritage_align.data.pictures import FilePictures, Pictures, walk_pictures
from heritage_align.data.plain_pickle import read_plain_pickle
from heritage_align.data.problems import Problems
from heritage_align.errors import DataError, did_you_mean
from heritage_align.types import TextItem

_OWN = ("text_id", "text", "image_ids")
_MUGE = ("query_id", "query_text", "item_ids")


def read_chinese_clip(
    folder: Path,
    split: str,
    *,
    texts: Path | None = None,
    images: Path | None = None,
    all_pictures: bool = False,
    language: str | None = "zh",
    name: str | None = None,
    encoding: str | None = None,
) -> Collection:
    """Read one split of a Chinese-CLIP data set.

    Args:
        folder: the data set's folder.
        split: ``train``, ``valid``, ``test``: the beginning of the file names.
        texts: the texts' file; by default ``{split}_texts.jsonl`` or ``MR_{split}_queries.jsonl``, or where both are
            missing the pairs in ``lmdb/{split}/pairs`` (their pickles are parsed, never executed).
        images: a TSV, an LMDB folder or a folder of pictures; by default the first that exists of
            ``{split}_imgs.tsv``, ``lmdb/{split}/imgs``, ``MR_{split}_imgs.tsv``, ``{split}_images`` and ``images``.
        all_pictures: of a folder of pictures take all, not only those that the split's texts name. Splits
            that share a folder would otherwise be searched together. Without any named picture all are taken.
        language: of the texts; None where unknown.
        encoding: of the texts' file; None finds it out (`data.encodings`) and says a guess on stderr.
        name: of the data set; by default the folder's name and the split.

    Raises:
        DataError: files are missing, or hold what the first lines above do not allow.
    """
    source = images or _first_existing(folder, split)
    queries = folder / f"MR_{split}_queries.jsonl"
    texts = texts or (queries if queries.exists() else folder / f"{split}_texts.jsonl")
    pairs = folder / "lmdb" / split / "pairs"
    encoded = _encoded_pictures(source)
    known = None if encoded is None else frozenset(encoded.ids)
    if texts.exists() or not pairs.is_dir():
        if not texts.exists():
            raise DataError(f"{texts}: no such file{_other_splits(folder, split)}")
        problems = Problems(texts)
        items = list(_read_texts(jsonl_rows(texts, problems, encoding), problems, known, language))
    else:
        problems = Problems(pairs)
        items = list(_read_texts(_lmdb_rows(pairs, problems), problems, known, language))
    problems.raise_if_any()
    pictures = encoded or _folder_pictures(source, items, all_pictures)
    return Collection(name or f"{folder.resolve().name}/{split}", pictures, items)


def _first_existing(folder: Path, split: str) -> Path:
    tried = [f"{split}_imgs.tsv", f"lmdb/{split}/imgs", f"MR_{split}_imgs.tsv", f"{split}_images", "images"]
    for candidate in tried:
        if (folder / candidate).exists():
            return folder / candidate
    hint = "" if folder.is_dir() else " (there is no such folder)"
    raise DataError(f"{folder}: found no pictures{hint}; looked for {', '.join(tried)}")


def _other_splits(folder: Path, split: str) -> str:
    found = sorted(path.name.removesuffix("_texts.jsonl") for path in folder.glob("*_texts.jsonl"))
    return f"; splits found: {', '.join(found)}.{did_you_mean(split, found)}" if found else ""


def _encoded_pictures(source: Path) -> Pictures | None:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_file():
        if is_lmdb(source):
            raise DataError(f"{source}: is the data.mdb of an LMDB, without its folder: move it to {source}/data.mdb")
        return TsvPictures(source)
    return LmdbPictures(source) if (source / "data.mdb").exists() else None


def _folder_pictures(folder: Path, items: Iterable[TextItem], all_pictures: bool) -> FilePictures:
    """Return pictures named ``<id>.<suffix>``; an id without a file gets ``<id>.*``, which is found missing
    later."""
    problems = Problems(folder)
    files: dict[str, Path] = {}
    for relative, file in walk_pictures(folder):
        image_id = relative.removesuffix(file.suffix)
        if image_id in files:
            problems.add(str(file), f"image id {image_id!r} is already that of {files[image_id].name}")
        files.setdefault(image_id, file)
    problems.raise_if_any()
    named = list(dict.fromkeys(image_id for item in items for image_id in item.image_ids))
    ids = [*named, *files] if all_pictures or not named else named
    return FilePictures({image_id: files.get(image_id, folder / f"{image_id}.*") for image_id in ids})


def _read_texts(
    rows: Iterable[Row], problems: Problems, known: Container[str] | None, language: str | None
) -> Iterator[TextItem]:
    unique = UniqueIds("text id", problems)
    for place, fields in rows:
        text_id, text, image_ids = _MUGE if "query_id" in fields else _OWN
        try:
            item = TextItem(
                id=required(fields, text_id, as_id),
                text=required(fields, text, as_text),
                image_ids=optional(fields, image_ids, _ids, ()),
                phrases=optional(fields, "phrases", as_texts, ()),
                language=language,
            )
        except ValueError as error:
            problems.add(place, str(error))
            continue
        for image_id in item.image_ids:
            if known is not None and image_id not in known:
                problems.add(place, f"text {item.id!r} belongs to image {image_id!r}, which is not there")
        if unique.add(item.id, place):
            yield item


def _ids(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(as_id(entry) for entry in as_list(value)))


def _lmdb_rows(path: Path, problems: Problems) -> Iterator[Row]:
    """Yield the texts of an LMDB of pairs ``(image_id, text_id, text)``, one record a text with all its
    images."""
    texts: dict[Any, tuple[str, dict[str, Any]]] = {}
    pairs = LmdbFile(path)
    for number in range(_sample_count(path, pairs.get(b"num_samples"), len(pairs))):
        place = f"{path}, pair {number}"
        try:
            image_id, text_id, text = _pair(pairs.get(str(number).encode()))
        except ValueError as error:
            problems.add(place, str(error))
            continue
        first, fields = texts.setdefault(text_id, (place, {"text_id": text_id, "text": text, "image_ids": []}))
        if fields["text"] != text:
            problems.add(place, f"text {text_id!r} differs from that of {first}")
        fields["image_ids"].append(image_id)
    for place, fields in texts.values():
        yield Row(place, fields)


def _sample_count(path: Path, value: bytes | None, entries: int) -> int:
    try:
        count = int(value or b"")
    except ValueError:
        raise DataError(f"{path}: has no number under the key num_samples") from None
    if not 0 <= count <= 2 * entries:  # some may be missing, which is said of each; billions are a damaged number
        raise DataError(f"{path}: holds {entries - 1} pairs, its num_samples says {count}")
    return count


def _pair(value: bytes | None) -> tuple[Any, Any, Any]:
    if value is None:
        raise ValueError("is missing, although num_samples counts it")
    pair = read_plain_pickle(value)
    if not isinstance(pair, tuple) or len(pair) != 3:
        raise ValueError("is not (image id, text id, text)")
    return pair
