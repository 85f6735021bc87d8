"""Many queries, one a line, and their answers, one a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from heritage_align.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from heritage_align.config import Config
    from heritage_align.search import Searcher
    from heritage_align.types import Hit, TextItem

BATCH = 256
"""Queries answered together at most: a chunk of the store is then read once for all of them."""
READ_BYTES = 2**16
LONGEST_LINE = 2**20
"""Bytes; a file with a longer line is no file of queries."""
SUFFIXES = (".jsonl", ".trec")
A_LINE = "expected a text, or an id, a tab and a text, in each line"


def answer_queries(
    searcher: Searcher,
    source: str,
    out: Path | None,
    top_k: int | None,
    candidates: int | None,
    min_relevance: float | None = None,
) -> int:
    """Answer the queries of a file or of standard input, as they come; returns how many there were.

    Args:
        searcher: answers.
        source: a file, or ``-`` for standard input.
        out: ``.jsonl`` or ``.trec``, there when all is answered; standard output, as JSON lines, where None.
        top_k: answers a query.
        candidates: images handed to the full similarity.
        min_relevance: answers of less relevance are left out.

    Raises:
        DataError: a file that cannot be read or written, a line that is not UTF-8, an id that occurs twice, no query.
    """
    from heritage_align.encoding.reading import told_together

    with told_together():
        return _answer_all(searcher, source, out, top_k, candidates, min_relevance)


def _answer_all(
    searcher: Searcher,
    source: str,
    out: Path | None,
    top_k: int | None,
    candidates: int | None,
    min_relevance: float | None,
) -> int:
    from heritage_align.runs import to_trec
    from heritage_align.types import Run

    count = 0
    if out is not None and out.suffix.lower() == ".trec":
        queries: list[str] = []
        ids: list[list[str]] = []
        scores: list[list[float]] = []
        for items in batches_of_queries(source):
            part = searcher.search(items, top_k=top_k, candidates=candidates, min_relevance=min_relevance)
            queries += part.query_ids
            ids += part.ids
            scores += part.scores
        _refuse_none(len(queries), source)
        to_trec(Run(tuple(queries), ids, scores, tag=searcher.pipeline.config.name), out)
        return len(queries)
    with _lines_to(out) as stream:
        unicode = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
        for items in batches_of_queries(source):
            answers = searcher.hits(items, top_k=top_k, candidates=candidates, min_relevance=min_relevance)
            for item, hits in zip(items, answers):
                stream.write(_record(item, hits, unicode=unicode))
            stream.flush()
            count += len(items)
        _refuse_none(count, source)
    return count


def load_query(path: Path, config: Config) -> Image:
    """Decode a picture of the command line, as those of the configuration's data set are."""
    from heritage_align.data.images import DATA_SETTING, load_image
    from heritage_align.data.limits import MAX_PIXELS
    from heritage_align.protocols import PictureSettings

    settings = config.data.settings if config.data is not None else None
    if isinstance(settings, PictureSettings):
        return load_image(path, max_pixels=settings.max_pixels, remedy=DATA_SETTING)
    return load_image(path, max_pixels=MAX_PIXELS, remedy="give a smaller copy of it")


def check_source(source: str) -> None:
    """Raise DataError, before a model is loaded, if a file of queries cannot be read or is something else."""
    with _opened(source):
        pass
    if source == "-":
        return
    from heritage_align.data.table_rows import refuse_others

    if Path(source).is_file():
        refuse_others(Path(source), "save the queries as a text, one a line")


def batches_of_queries(source: str) -> Iterator[list[TextItem]]:
    """Yield queries as soon as their lines are there: a program may write one and wait for its answer.

    A line is a text, or an id, a tab and a text; without an id the line's number is one. Blank lines are passed over.
    Of a file the encoding is found out, as a table's is; standard input is UTF-8.
    """
    seen: set[str] = set()
    with _opened(source) as stream:
        for lines in _batches_of_texts(stream, source):
            items = []
            for number, line in lines:
                item = _query(line, number, source)
                if item is None:
                    continue
                if item.id in seen:
                    raise DataError(f"{_named(source)}:{number}: query id {item.id!r} occurs twice")
                seen.add(item.id)
                items.append(item)
            for start in range(0, len(items), BATCH):
                yield items[start : start + BATCH]


def _query(text: str, number: int, source: str) -> TextItem | None:
    from heritage_align.text import is_blank
    from heritage_align.types import TextItem

    if "\0" in text:
        raise DataError(f"{_named(source)}:{number}: holds a NUL character; is this a text file?")
    if is_blank(text):
        return None
    if text.startswith(("{", "[")) and _is_json(text):
        raise DataError(f"{_named(source)}:{number}: is JSON; {A_LINE}")
    identifier, tab, rest = text.partition("\t")
    if not tab:
        return TextItem(str(number), text)
    if not identifier.strip() or is_blank(rest):
        raise DataError(f"{_named(source)}:{number}: {A_LINE}; got {text!r}")
    return TextItem(identifier.strip(), rest)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _batches_of_texts(stream: BinaryIO, source: str) -> Iterator[list[tuple[int, str]]]:
    """Yield lines without their ends, numbered from 1; raises DataError for the first that cannot be decoded."""
    if source != "-" and stream.seekable():
        yield from _batches_of_file(Path(source))
        return
    for lines in _batches_of_lines(stream, source):
        texts = []
        for number, line in lines:
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{_named(source)}:{number}: is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}"
                ) from None
            if "\r" in text:
                raise DataError(
                    f"{_named(source)}:{number}: holds carriage returns; on standard input lines end with LF"
                )
            texts.append((number, text))
        yield texts


def _batches_of_file(path: Path) -> Iterator[list[tuple[int, str]]]:
    from heritage_align.data.encodings import decoded_lines

    lines = decoded_lines(path)
    while batch := list(islice(lines, BATCH)):
        texts = []
        for number, line, fault in batch:
            if fault is not None:
                raise DataError(f"{path}:{number}: {fault}")
            if len(line) > LONGEST_LINE:
                raise DataError(f"{path}:{number}: is longer than {LONGEST_LINE:,} characters; is this a text file?")
            texts.append((number, line.strip("\r\n")))
        yield texts


def _batches_of_lines(stream: BinaryIO, source: str) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the whole lines that can be had without waiting, numbered from 1."""
    number, pieces, length = 0, list[bytes](), 0
    read = getattr(stream, "read1", stream.read)
    while chunk := read(READ_BYTES):
        head, newline, tail = chunk.rpartition(b"\n")
        pieces.append(head if newline else tail)
        length += len(pieces[-1])
        if newline:
            lines = b"".join(pieces).split(b"\n")
            yield list(enumerate(lines, number + 1))
            number += len(lines)
            pieces, length = [tail], len(tail)
        elif length > LONGEST_LINE:
            raise DataError(
                f"{_named(source)}:{number + 1}: is longer than {LONGEST_LINE:,} bytes; is this a text file?"
            )
    if length:
        yield [(number + 1, b"".join(pieces))]


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(source).open("rb") as stream:
            yield stream
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _lines_to(out: Path | None) -> Iterator[IO[str]]:
    """Open standard output, or a file that appears under its name when all is written."""
    if out is None:
        yield sys.stdout
        return
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        temporary.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _record(item: TextItem, hits: Sequence[Hit], *, unicode: bool) -> str:
    record = {"id": item.id, "query": item.text, "hits": [hit.asdict() for hit in hits]}
    return json.dumps(record, ensure_ascii=not unicode, allow_nan=False) + "\n"


def _refuse_none(count: int, source: str) -> None:
    if not count:
        raise DataError(f"{_named(source)}: holds no query")


def _named(source: str) -> str:
    return "standard input" if source == "-" else source
