"""Characters as encoders know them: one form of each sign, and simplified Chinese where a vocabulary is of it.

>>> plain_characters("ＡＢ１２　café 蓝地")
'AB12 café 蓝地'
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container
from functools import cache
from typing import Any, Literal

from heritage_align.errors import MissingDependency

CharacterForm = Literal["auto", "simplified", "as_written"]
"""``auto``: simplified where the vocabulary asks for it (`prefers_simplified`) and OpenCC is installed."""

# NFC leaves these as they are, as they differ in width or in looks alone: full-width letters and digits (punctuation
# stays, ， is Chinese), half-width kana, radicals, the ideographic space, Latin ligatures.
_OTHER_FORM = re.compile("[　０-９Ａ-Ｚａ-ｚ\uff66-\uff9f⺀-⻿⼀-⿟ﬀ-ﬆ]+")
# What nobody sees: soft hyphens, zero-width spaces and joiners of words, byte order marks, choices of a glyph.
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff\ufe00-\ufe0f\U000e0100-\U000e01ef]+")
_LEAD = 0.05


def plain_characters(text: str) -> str:
    """Return a text in one form: composed (NFC), so that compatibility ideographs are the usual ones; letters, digits
    and spaces of full width as plain ones; without what nobody sees (zero-width spaces, variation selectors)."""
    composed = unicodedata.normalize("NFC", _UNSEEN.sub("", text))
    return _OTHER_FORM.sub(lambda found: unicodedata.normalize("NFKC", found[0]), composed)


def is_blank(text: str) -> bool:
    """Say whether a text shows nothing, only white space and what nobody sees; no encoder has anything to read of it.

    >>> is_blank("\u200b \ufeff"), is_blank("。")
    (True, False)
    """
    return not _UNSEEN.sub("", text).strip()


def is_unicode(text: str) -> bool:
    r"""Say whether a text can be written as UTF-8: one with a lone surrogate, of JSON or of other bytes, cannot.

    >>> is_unicode("鹤"), is_unicode("\ud83d")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_simplified(text: str) -> str:
    """Return a text with traditional Chinese characters in their simplified forms, by OpenCC's tables of words.

    Raises:
        MissingDependency: OpenCC is not installed.
    """
    converter = _converter("t2s")
    if converter is None:
        raise MissingDependency("simplified characters need OpenCC: pip install 'heritage-align[chinese]'")
    converted: str = converter(text)
    return converted


def traditional_characters(text: str) -> list[str]:
    """Return the characters of a text that are traditional, by the national standards: Big5 has them, GB 2312 does not.

    >>> traditional_characters("藍地蓮紋 lotus")
    ['藍', '蓮', '紋']
    """
    return [character for character in text if not character.isascii() and _is_traditional(character)]


def prefers_simplified(vocabulary: Container[str]) -> bool:
    """Say whether a vocabulary is of simplified Chinese: of the common characters whose forms differ, at least one in
    twenty more is there in its simplified form than in its traditional one.

    BERT's Chinese vocabulary (Chinese-CLIP) has 79 % of the simplified and 69 % of the traditional ones. A vocabulary
    without Chinese has neither.
    """
    pairs = _pairs()
    simplified = sum(simple in vocabulary for _, simple in pairs)
    traditional = sum(written in vocabulary for written, _ in pairs)
    return bool(pairs) and simplified - traditional >= _LEAD * len(pairs)


def character_reader(form: CharacterForm, vocabulary: Container[str]) -> Callable[[str], str]:
    """Return what turns a text into the characters that an encoder reads: `plain_characters`, and simplified or not.

    Args:
        form: the encoder's setting.
        vocabulary: its tokens, single Chinese characters among them.

    Raises:
        MissingDependency: ``simplified``, and OpenCC is not installed.
    """
    if form == "simplified":
        to_simplified("")
    if form == "as_written" or (form == "auto" and not prefers_simplified(vocabulary)):
        return plain_characters
    return _simplified


def known_form(token: str, vocabulary: Container[str]) -> str:
    """Return a token, or where a vocabulary lacks it and OpenCC is installed, its simplified or traditional form there.

    For vocabularies that are counted from captions, which have the forms that these happen to be written in.
    """
    if token in vocabulary or token.isascii():
        return token
    forms = (convert(token) for convert in (_converter("t2s"), _converter("s2t")) if convert is not None)
    return next((form for form in forms if form in vocabulary), token)


def _simplified(text: str) -> str:
    return to_simplified(plain_characters(text))


def _is_traditional(character: str) -> bool:
    return _encodes(character, "big5") and not _encodes(character, "gb2312")


def _encodes(character: str, standard: str) -> bool:
    try:
        character.encode(standard)
    except UnicodeEncodeError:
        return False
    return True


@cache
def _converter(table: str) -> Callable[[str], str] | None:
    try:
        import opencc
    except ImportError:
        return None
    converter: Any = opencc.OpenCC(table)
    return converter.convert


@cache
def _pairs() -> tuple[tuple[str, str], ...]:
    """Return common characters, traditional and simplified; none without OpenCC."""
    if _converter("t2s") is None:
        return ()
    written = [character for character in map(chr, range(0x4E00, 0xA000)) if _is_traditional(character)]
    # A line each: characters in a row could be a word, whose characters OpenCC converts together.
    forms = zip(written, to_simplified("\n".join(written)).split("\n"))
    return tuple((one, other) for one, other in forms if one != other and _encodes(other, "gb2312"))
