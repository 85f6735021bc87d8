"""Which script a text is written in, for texts that do not say their language."""

from __future__ import annotations

import re
from collections.abc import Sequence

HAN = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
"""Pattern of one Chinese character: CJK unified ideographs, their extensions, compatibility ideographs."""

_HAN = re.compile(HAN)


def has_han(text: str) -> bool:
    """Return whether a text holds a Chinese character (`HAN`)."""
    return _HAN.search(text) is not None


def listed(phrases: Sequence[str]) -> str:
    """Join phrases as a list in their script: ``红凤、蓝鱼`` or ``red phoenix, blue fish``."""
    return ("、" if any(has_han(phrase) for phrase in phrases) else ", ").join(phrases)
