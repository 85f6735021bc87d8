"""Clusters of the overlapping noun phrases of one text (Sheng et al. 2021, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from heritage_align.text.scripts import has_han
from heritage_align.text.string_kernel import DECAY, phrase_similarity

THRESHOLD = 0.5
"""Ours; the paper states no number. Its own example falls into the two clusters that a reader sees for all thresholds
from 0.40 to 0.70."""

LATIN_ORDER, HAN_ORDER = 3, 2
"""Letters of the kernel's subsequences; ours. A Chinese letter says more, and two make a word: at order 3 红色牡丹 is
like 牡丹 by 0.36, at order 2 by 0.55."""


def cluster_phrases(
    phrases: Sequence[str], threshold: float = THRESHOLD, order: int | None = None, decay: float = DECAY
) -> list[list[int]]:
    """Group phrases that are alike, directly or through others (single linkage).

    The paper takes "an unsupervised string kernel method" (Lodhi et al. 2002) and says no more. Single linkage is ours:
    spans of one noun phrase overlap in a chain ("straight-sided bowl", "bowl with underglaze blue", "underglaze blue"),
    and the result depends on no order.

    Args:
        phrases: noun phrases of one text.
        threshold: normalised kernel from which two phrases are alike, 0..1.
        order: of the kernel, see `subsequence_kernel`; None takes 2 where a phrase is Chinese, else 3.
        decay: of the kernel.

    Returns:
        Places of the members, ascending; clusters by their first member. Every phrase is in exactly one.
    """
    if len(phrases) < 2:
        return [[place] for place in range(len(phrases))]
    if order is None:
        order = HAN_ORDER if any(has_han(phrase) for phrase in phrases) else LATIN_ORDER
    alike = phrase_similarity(phrases, order, decay) >= threshold
    cluster_of = list(range(len(phrases)))
    for i in range(len(phrases)):
        for j in range(i):
            if alike[i, j] and cluster_of[i] != cluster_of[j]:
                old, new = max(cluster_of[i], cluster_of[j]), min(cluster_of[i], cluster_of[j])
                cluster_of = [new if c == old else c for c in cluster_of]
    members: dict[int, list[int]] = {}
    for place, cluster in enumerate(cluster_of):
        members.setdefault(cluster, []).append(place)
    return list(members.values())


def longest(phrases: Sequence[str], cluster: Sequence[int]) -> int:
    """Return the place of the longest phrase of a cluster, the first of equally long ones."""
    return max(cluster, key=lambda place: (len(phrases[place]), -place))
