"""What encoders do not read of texts, told once: what is cut off, and texts of which the vocabulary has nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock

from heritage_align.errors import Note
from heritage_align.protocols import Encoder, ReadingEncoder
from heritage_align.types import TextItem

_SHOWN = 40  # characters of a text that a message quotes


@dataclass
class TextsRead:
    """How much was read of texts, by the place of the encoder's settings (``encoder``, ``text_encoder``)."""

    _counts: dict[tuple[str, int, int], _Counts] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def add(self, encoder: Encoder, items: Sequence[TextItem], place: str) -> None:
        """Count texts that an encoder is given; of one that does not say what it reads nothing is known."""
        if not isinstance(encoder, ReadingEncoder):
            return
        read = encoder.read_texts([item.text for item in items])
        limit, most = encoder.context_length, encoder.longest_context
        with self._lock:
            counts = self._counts.setdefault((place, limit, most), _Counts())
            counts.texts += len(items)
            for item, found in zip(items, read):
                if found.tokens > limit:
                    counts.cut += 1
                    counts.longest = max(counts.longest, found.tokens)
                if not found.known:
                    counts.unknown.append(item)

    def messages(self) -> list[str]:
        """Return what was not read, a sentence each; nothing where all was."""
        return [
            message
            for (place, limit, most), counts in self._counts.items()
            for message in counts.messages(place, limit, most)
        ]

    def tell(self) -> None:
        """Say what was not read, as a warning of category `Note`; nothing where all was."""
        for message in self.messages():
            warnings.warn(message, Note, stacklevel=2)


@dataclass
class _Counts:
    texts: int = 0
    cut: int = 0
    longest: int = 0
    unknown: list[TextItem] = field(default_factory=list)

    def messages(self, place: str, limit: int, most: int) -> Iterator[str]:
        if self.cut:
            which = "the text is" if self.texts == 1 else f"{self.cut} of {self.texts} texts are"
            rest = "the rest of each is" if self.cut > 1 else "the rest is"
            more = f"--set {place}.context_length={min(self.longest, most)} reads more, {most} is the most"
            if most <= limit:
                more = "this encoder cannot read more; shorter texts, or a fragmenter's phrases, can"
            yield (
                f"{which} longer than the {limit} tokens that the encoder reads (the longest has {self.longest}); "
                f"{rest} left out. {more}"
            )
        if self.unknown:
            first = self.unknown[0]
            text = first.text.strip()
            quoted = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            which = f"{len(self.unknown)} texts, the first" if len(self.unknown) > 1 else "text"
            yield (
                f"{which} {first.id!r} ({quoted!r}): the encoder's vocabulary knows none of its characters or words; "
                "to the encoder it says nothing, and its scores mean nothing"
            )


_TOGETHER: ContextVar[TextsRead | None] = ContextVar("texts_read", default=None)


@contextmanager
def collected() -> Iterator[TextsRead]:
    """Collect what is not read of texts that are encoded in the block; nothing is told."""
    read = TextsRead()
    token = _TOGETHER.set(read)
    try:
        yield read
    finally:
        _TOGETHER.reset(token)


@contextmanager
def told_together() -> Iterator[None]:
    """Tell what was not read of all texts that are encoded in the block at its end, instead of call by call."""
    with collected() as read:
        try:
            yield
        finally:
            read.tell()


def note_texts(encoder: Encoder, items: Sequence[TextItem], place: str) -> None:
    """Count what an encoder does not read of texts, and tell it unless that is done later (`told_together`)."""
    together = _TOGETHER.get()
    read = TextsRead() if together is None else together
    read.add(encoder, items, place)
    if together is None:
        read.tell()
