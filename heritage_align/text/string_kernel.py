"""The string subsequence kernel of Lodhi et al. 2002 ("Text classification using string kernels", JMLR 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
_Codes = np.ndarray[Any, np.dtype[np.int64]]

DECAY = 0.5
"""Weight of a letter and of a gap; ours."""


def subsequence_kernel(s: str, t: str, order: int, decay: float = DECAY) -> float:
    """Return the gap-weighted number of common subsequences (Lodhi et al. 2002, definition 1).

    Every subsequence u of `order` letters counts ``decay ** (length that u spans in s + length that it spans in t)``,
    for every pair of its occurrences: ``cat`` and ``car`` share ``ca`` at order 2, which gives ``decay ** 4``.

    Args:
        s: a string.
        t: another.
        order: letters of a subsequence, at least 1.
        decay: weight of a letter or a gap, 0 (no gaps, in the limit) to 1 (gaps cost nothing).
    """
    return float(_kernels(_codes(s), _codes(t)[None], order, decay)[0])


def phrase_similarity(phrases: Sequence[str], order: int, decay: float = DECAY) -> Array:
    """Return the normalised kernel ``K(s, t) / sqrt(K(s, s) K(t, t))`` of all pairs, ``(n, n)`` in 0..1.

    Phrases are compared without regard to case and to runs of blanks, and with a blank at either end, as a word's first
    and last letters say more than those inside; with that, one letter is enough for order 3. Phrases that are even
    shorter than the order are like themselves alone.
    """
    strings = [f" {' '.join(phrase.lower().split())} " for phrase in phrases]
    longest = max(map(len, strings), default=0)
    # -1 fills up and is like no letter of a query: those are not filled up.
    padded = np.full((len(strings), longest), -1, dtype=np.int64)
    for row, string in zip(padded, strings):
        row[: len(string)] = _codes(string)
    raw = np.zeros((len(strings), len(strings)))
    for i, string in enumerate(strings):
        raw[i, i:] = _kernels(_codes(string), padded[i:], order, decay)
    raw = np.maximum(raw, raw.T)
    lengths = np.sqrt(np.diag(raw))
    scale = np.outer(lengths, lengths)
    same = np.array(strings)[:, None] == np.array(strings)[None, :]
    similar = np.where(scale > 0, raw / np.where(scale > 0, scale, 1.0), 0.0)
    return np.where(same, 1.0, np.minimum(similar, 1.0))


def _codes(string: str) -> _Codes:
    return np.array([ord(letter) for letter in string], dtype=np.int64)


def _kernels(s: _Codes, t: _Codes, order: int, decay: float) -> Array:
    """Return the kernel of ``s (a,)`` with every row of ``t (n, b)``.

    ``ends[j, k]`` is the weight of the common subsequences whose last letters are s[j] and t[k]. One letter more is
    a matrix product with the weights of the gaps on either side, where Lodhi et al. write out the recursion.
    """
    if order < 1 or not 0.0 < decay <= 1.0:
        raise ValueError(f"expected order >= 1 and 0 < decay <= 1, got {order}, {decay}")
    matches = decay**2 * (s[None, :, None] == t[:, None, :])
    before_s, before_t = _gaps(s.shape[0], decay), _gaps(t.shape[1], decay)
    ends: Array = matches
    for _ in range(order - 1):
        ends = matches * (before_s @ ends @ before_t.T)
    total: Array = ends.sum(axis=(1, 2))
    return total


def _gaps(length: int, decay: float) -> Array:
    """Return ``(length, length)``: ``decay ** (j - i - 1)`` where i comes before j, 0 elsewhere."""
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    weights: Array = np.where(distance > 0, decay ** np.maximum(distance - 1, 0), 0.0)
    return weights
