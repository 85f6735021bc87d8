"""Labels and metadata in their languages, in the forms of both versions of the Presentation API."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

FIELDS = {"label": ("label",), "summary": ("summary", "description"), "metadata": ("metadata",)}
"""What is taken -> its keys in versions 3 and 2."""
_NO_LANGUAGE = ("none", "@none", "und", "")
_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_BREAK = re.compile(r"<(br|p|li|div)\b", re.IGNORECASE)


class Text(NamedTuple):
    """A text of a manifest or canvas.

    Attributes:
        field: ``label``, ``summary``, or ``metadata-<number>`` from 1.
        language: primary tag of its language (``zh`` of ``zh-Hant``), None where it says none.
        value: without markup.
    """

    field: str
    language: str | None
    value: str


def texts_of(resource: dict[str, Any], wanted: tuple[str, ...]) -> Iterator[Text]:
    """Yield the texts of a resource; an entry of metadata as ``label: value``, in each language that has the value."""
    for field in wanted:
        content = next((resource[key] for key in FIELDS[field] if resource.get(key)), None)
        if field != "metadata":
            yield from (Text(field, language, value) for language, value in in_languages(content))
            continue
        for number, entry in enumerate(content if isinstance(content, list) else (), start=1):
            if isinstance(entry, dict):
                yield from _entry(entry, f"metadata-{number}")


def _entry(entry: dict[str, Any], field: str) -> Iterator[Text]:
    labels = list(in_languages(entry.get("label")))
    joined: dict[str | None, list[str]] = {}
    for language, value in in_languages(entry.get("value")):
        joined.setdefault(language, []).append(value)
    for language, values in joined.items():
        called = next((label for of, label in labels if of == language), labels[0][1] if labels else "")
        yield Text(field, language, f"{called}: {'; '.join(values)}" if called else "; ".join(values))


def in_languages(content: Any) -> Iterator[tuple[str | None, str]]:
    """Yield language and text of a string, a language map (3), a value with its language (2), or a list of them."""
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, dict):
            yield from _plain(None, part)
        elif "@value" in part:
            yield from _plain(part.get("@language"), part["@value"])
        else:
            for language, values in part.items():
                for value in values if isinstance(values, list) else [values]:
                    yield from _plain(language, value)


def _plain(language: Any, value: Any) -> Iterator[tuple[str | None, str]]:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        text = without_markup(str(value)).encode("utf-8", "replace").decode()
        if text:
            tag = language.lower().encode("utf-8", "replace").decode() if isinstance(language, str) else ""
            yield (None if tag in _NO_LANGUAGE else tag.split("-")[0]), text


def without_markup(text: str) -> str:
    """Return a text without HTML, which both versions allow, and with single spaces.

    Python's parser raises AssertionError for ``<![`` and takes 24 s for 30 KB of ``<a`` (3.11). Here a tag ends at the
    first ``>``, in the value of an attribute too.
    """
    if "<" in text:
        text = _TAG.sub(lambda tag: " " if _BREAK.match(tag[0]) else "", _without_comments(text))
    if "&" in text:
        with suppress(ValueError):  # a character's number of more than 4300 digits
            text = html.unescape(text)
    return " ".join(text.split())


def _without_comments(text: str) -> str:
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept.append(text[at:start])
        at = end + 3
    return "".join([*kept, text[at:]])
