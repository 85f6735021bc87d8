"""Runs in TREC's form, ``query Q0 id rank score tag``, so that any evaluation or fusion tool reads them.

The form separates its six fields by white space. Ids that hold any (file names do) are written with it
percent-encoded, as in an address, and so is ``%``; reading undoes it. Scores are written in full, so that a
run comes back as it was. Evaluation tools order by score, and trec_eval breaks ties by id, where ours keep
the candidates' order.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from heritage_align.data.lines import numbered_lines
from heritage_align.data.problems import Problems
from heritage_align.errors import DataError
from heritage_align.types import Run

_UNSAFE = re.compile(r"[\s%]")
_ENCODED = re.compile(r"(?:%[0-9A-F]{2})+")
_Line = tuple[float, int, str]


def to_trec(run: Run, path: str | os.PathLike[str]) -> None:
    """Write a run; the file appears under its name only when it is complete.

    A query without answers leaves no line.

    Raises:
        DataError: an empty id or tag, a score that is NaN, or a file that cannot be written.
    """
    path = Path(path)
    if not run.tag.strip():
        raise DataError(f"{path}: the run has no tag")
    tag = _encode(run.tag)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            for query, ids, scores in zip(run.query_ids, run.ids, run.scores):
                for rank, (answer, score) in enumerate(zip(ids, scores), start=1):
                    if not query or not answer:
                        raise DataError(f"{path}: query {query!r}, rank {rank}: an empty id cannot be written")
                    if math.isnan(score):
                        raise DataError(f"{path}: query {query!r}, answer {answer!r}: the score is NaN")
                    stream.write(f"{_encode(query)} Q0 {_encode(answer)} {rank} {float(score)!r} {tag}\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def from_trec(path: str | os.PathLike[str]) -> Run:
    """Read a run of ours or of another system.

    Queries come in the order of the file. Answers are ordered by score; equal scores by the rank column, then
    by line, so that a run of ours keeps its order and one with careless ranks is still ordered by what
    counts.

    Raises:
        DataError: the file cannot be read or is empty; lines without six fields, with a rank that is no
            integer or a score that is no number, answers that occur twice, or several tags. Names file and
            line.
    """
    path = Path(path)
    problems = Problems(path)
    queries: dict[str, list[_Line]] = {}
    places: dict[tuple[str, str], int] = {}
    tag, tag_line = "", 0
    for number, line in numbered_lines(path, problems, "utf-8-sig"):
        columns = line.split()
        if not columns:
            continue
        place = f"{path}:{number}"
        if len(columns) != 6:
            problems.add(place, f"expected 6 fields 'query Q0 id rank score tag', got {len(columns)}")
            continue
        query, answer = _decode(columns[0]), _decode(columns[2])
        try:
            entry = _score(columns[4]), _rank(columns[3]), answer
        except ValueError as error:
            problems.add(place, str(error))
            continue
        first = places.setdefault((query, answer), number)
        if first != number:
            problems.add(place, f"query {query!r} has the answer {answer!r} on line {first} already")
            continue
        tag, tag_line = (tag, tag_line) if tag_line else (columns[5], number)
        if columns[5] != tag:
            problems.add(place, f"tag {columns[5]!r} differs from {tag!r} on line {tag_line}: two runs in one file")
        queries.setdefault(query, []).append(entry)
    problems.raise_if_any()
    if not queries:
        raise DataError(f"{path}: holds no run, it is empty")
    for entries in queries.values():
        entries.sort(key=lambda entry: (-entry[0], entry[1]))
    return Run(
        query_ids=tuple(queries),
        ids=[[answer for _, _, answer in entries] for entries in queries.values()],
        scores=[[score for score, _, _ in entries] for entries in queries.values()],
        tag=_decode(tag),
    )


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        raise ValueError(f"score {text!r} is not a number") from None
    if math.isnan(score):
        raise ValueError("score is NaN")
    return score


def _rank(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"rank {text!r} is not an integer") from None


def _encode(identifier: str) -> str:
    return _UNSAFE.sub(lambda match: quote(match.group(), safe=""), identifier)


def _decode(text: str) -> str:
    return _ENCODED.sub(lambda match: _decode_unsafe(match.group()), text)


def _decode_unsafe(encoded: str) -> str:
    """Undo `_encode`, and leave alone what it would not have written (``%E4%B8%AD`` in another system's
    ids)."""
    decoded = unquote(encoded)
    return decoded if all(_UNSAFE.match(character) for character in decoded) else encoded
