"""Amounts of memory as a configuration gives them: a share of what there is, or a size."""

from __future__ import annotations

import os
import re

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def checked_amount(value: object) -> float | str:
    """Return an amount if it is one: a share from 0 to 1, or a size such as ``"8GiB"``.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    if isinstance(value, str) and _size(value) is not None:
        return value
    raise ValueError(f"expected a share from 0 to 1 or a size such as 8GiB, got {value!r}")


def amount_in_bytes(amount: float | str, available: int) -> int:
    """Return an amount in bytes; a share is one of `available` bytes, a size may be more than that."""
    if isinstance(amount, str):
        size = _size(amount)
        assert size is not None  # checked_amount
        return size
    return int(amount * available)


def physical_memory() -> int:
    """Return the machine's memory in bytes; 8 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 8 * 2**30


def _size(text: str) -> int | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)b?|b)", text.strip(), re.IGNORECASE)
    return None if found is None else int(float(found[1]) * _UNITS[(found[2] or "").lower()])
