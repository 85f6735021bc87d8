"""Fields of records that others wrote: checked for type, emptiness and repetition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from heritage_align.data.problems import Problems
from heritage_align.text import is_blank, is_unicode

T = TypeVar("T")


def as_id(value: Any) -> str:
    """Return an id as a string: integers (Chinese-CLIP's form) and non-blank strings are ids.

    Raises:
        ValueError: anything else; the message continues a sentence that begins with the field's name.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"must be a string or an integer, got {shown(value)}")
    text = str(value)
    if not text.strip():
        raise ValueError("is empty")
    _check_encodable(text)
    return text


def as_text(value: Any) -> str:
    """Return a text without white space at its ends.

    Raises:
        ValueError: not a string, blank, or not to be written as UTF-8 (a lone surrogate).
    """
    if not isinstance(value, str):
        raise ValueError(f"must be a string, got {shown(value)}")
    text = value.strip()
    if is_blank(text):
        raise ValueError("is empty")
    _check_encodable(text)
    return text


def as_list(value: Any) -> list[Any]:
    """Return a JSON list; raises ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError(f"must be a list, got {shown(value)}")
    return value


def as_texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts as a tuple; raises ValueError that says which entry (from 1) is at fault."""
    texts = []
    for position, entry in enumerate(as_list(value), start=1):
        try:
            texts.append(as_text(entry))
        except ValueError as error:
            raise ValueError(f"entry {position} {error}") from None
    return tuple(texts)


def required(fields: Mapping[str, Any], name: str, convert: Callable[[Any], T]) -> T:
    """Return a converted field; raises ValueError that names the field, or the fields that are there
    instead."""
    if name not in fields:
        raise ValueError(f"has no {name!r} (it has: {', '.join(map(repr, fields)) or 'nothing'})")
    if fields[name] is None:
        raise ValueError(f"{name!r} is empty")
    return _convert(name, fields[name], convert)


def optional(fields: Mapping[str, Any], name: str, convert: Callable[[Any], T], default: T) -> T:
    """Return a converted field, or `default` where it is missing or null; raises ValueError that names the
    field."""
    return default if fields.get(name) is None else _convert(name, fields[name], convert)


def _convert(name: str, value: Any, convert: Callable[[Any], T]) -> T:
    try:
        return convert(value)
    except ValueError as error:
        raise ValueError(f"{name!r} {error}") from None


class UniqueIds:
    """Ids seen so far and where.

    Args:
        what: the kind of id, for messages: ``"text id"``.
    """

    def __init__(self, what: str, problems: Problems) -> None:
        self._what = what
        self._problems = problems
        self._places: dict[str, str] = {}

    def add(self, identifier: str, place: str) -> bool:
        """Note an id; a repetition becomes a problem that names both places, and returns False."""
        first = self._places.get(identifier)
        if first is not None:
            self._problems.add(place, f"{self._what} {identifier!r} was already used at {first}")
            return False
        self._places[identifier] = place
        return True


def _check_encodable(text: str) -> None:
    if not is_unicode(text):
        raise ValueError(f"{text!r} holds a lone surrogate, which no UTF-8 file can")


def shown(value: Any) -> str:
    """Return the type and the beginning of a value."""
    try:
        text = repr(value)
    except RecursionError:  # the parser, who is called from less deep, let pass what is nested nearly too deeply
        text = "..."
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
