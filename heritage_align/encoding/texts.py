"""Encode texts whole, and their fragments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heritage_align.encoding.reading import note_texts
from heritage_align.errors import DataError
from heritage_align.fragment_groups import grouped
from heritage_align.ops import Ragged
from heritage_align.protocols import Encoder, FragmentEncoder, Fragmenter, FragmentGrouper
from heritage_align.text import is_blank, is_unicode
from heritage_align.types import TextFeatures, TextItem


def encode_texts(
    encoder: Encoder,
    fragmenter: Fragmenter | None,
    items: Sequence[TextItem],
    *,
    batch_size: int,
    place: str = "encoder",
) -> TextFeatures:
    """Encode texts whole, and their fragments one by one where there is a fragmenter; groups of them are averaged.

    What the encoder does not read of them is said in one warning of category `Note`.

    Args:
        encoder: of texts.
        fragmenter: None for whole texts alone.
        items: the texts.
        batch_size: texts, and fragments, encoded at once.
        place: of the encoder's settings in the configuration, for that warning.

    Raises:
        DataError: names the first text that is blank, not a string, or, it or a phrase of it, no Unicode.
    """
    for item in items:
        if not isinstance(item.text, str) or is_blank(item.text):
            raise DataError(f"text {item.id!r} is empty or not a string: {item.text!r}")
        for text in (item.text, *item.phrases):
            if not is_unicode(text):
                raise DataError(
                    f"text {item.id!r} is no Unicode: {text!r} holds a lone surrogate; what is typed in a terminal of "
                    "another encoding than the system's has them"
                )
    note_texts(encoder, items, place)
    ids = tuple(item.id for item in items)
    if fragmenter is None:
        return TextFeatures(ids, _encode_strings(encoder, [item.text for item in items], batch_size))
    phrases = tuple(fragmenter.split(item) for item in items)
    if isinstance(encoder, FragmentEncoder):
        features = _encode_together(encoder, items, phrases, batch_size)
    else:
        features = _encode_apart(encoder, items, phrases, batch_size)
    if isinstance(fragmenter, FragmentGrouper):
        groups = [fragmenter.groups(split) for split in phrases]
        if any(len(of_text) < len(split) for of_text, split in zip(groups, phrases)):
            return grouped(features, groups)
    return features


def _encode_apart(
    encoder: Encoder, items: Sequence[TextItem], phrases: tuple[tuple[str, ...], ...], batch_size: int
) -> TextFeatures:
    whole = _encode_strings(encoder, [item.text for item in items], batch_size)
    # The same phrase recurs in many captions of a collection; each is encoded once.
    distinct = list(dict.fromkeys(p for split in phrases for p in split))
    row = {phrase: i for i, phrase in enumerate(distinct)}
    encoded = _encode_strings(encoder, distinct, batch_size)
    picked = torch.tensor([row[p] for split in phrases for p in split], dtype=torch.int64)
    offsets = torch.tensor([0, *(len(split) for split in phrases)]).cumsum(0)
    ids = tuple(item.id for item in items)
    return TextFeatures(ids, whole, Ragged(encoded[picked.to(encoded.device)], offsets), phrases)


def _encode_together(
    encoder: FragmentEncoder, items: Sequence[TextItem], phrases: tuple[tuple[str, ...], ...], batch_size: int
) -> TextFeatures:
    wholes, fragments = [], []
    for start in range(0, len(items), batch_size):
        part = slice(start, start + batch_size)
        encoded = encoder.encode_fragmented([item.text for item in items[part]], phrases[part])
        wholes.append(encoded.global_features)
        fragments.append(encoded.fragments)
    offsets = torch.tensor([0, *(len(split) for split in phrases)]).cumsum(0)
    ids = tuple(item.id for item in items)
    return TextFeatures(ids, torch.cat(wholes), Ragged(torch.cat(fragments), offsets), phrases)


def _encode_strings(encoder: Encoder, texts: Sequence[str], batch_size: int) -> Tensor:
    if not texts:
        return torch.empty(0, encoder.dim)
    return torch.cat([encoder.encode_texts(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)])
