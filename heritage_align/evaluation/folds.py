"""Folds for cross-validation that split by artwork: pictures of one artwork are never on both sides.

Several pictures of one object share its motifs and often its words; split apart, they would be tested on what was
trained on (Sheng et al. 2021, section 4.4, split their golden artworks in four).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heritage_align.errors import DataError


@dataclass(frozen=True)
class CrossValidationFold:
    """One fold's pictures, in the order in which they were given; the three parts share no artwork.

    Attributes:
        train: image ids to train or fine-tune on.
        val: image ids to stop early by; empty where no share was asked for.
        test: image ids to evaluate on. The test parts of all folds together are all pictures, each once.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def artwork_folds(
    groups: Mapping[str, str] | Sequence[str],
    k: int = 4,
    *,
    seed: int = 0,
    validation: float = 0.1,
) -> list[CrossValidationFold]:
    """Split pictures by artwork into `k` folds with about equal numbers of pictures.

    Artworks, the largest first, go to the fold with the fewest pictures, which leaves no two test parts further apart
    than the largest artwork. Equal sizes are in the order of a digest of seed and artwork: the result depends on
    neither the order of `groups` nor the machine.

    Args:
        groups: image id -> artwork, or image ids that are an artwork each.
        k: folds, at least 2.
        seed: of the order of artworks.
        validation: share of the pictures outside the test part that becomes the validation part, in [0, 1); at least
            one artwork where it is above 0.

    Raises:
        DataError: k or the share is out of range, an id occurs twice, or there are too few artworks.
    """
    if not isinstance(groups, Mapping) and len(set(groups)) != len(groups):
        raise DataError("groups: an image id occurs twice")
    artwork_of = dict(groups) if isinstance(groups, Mapping) else {image_id: image_id for image_id in groups}
    if k < 2:
        raise DataError(f"k: cross-validation needs at least 2 folds, got {k}")
    if not 0 <= validation < 1:
        raise DataError(f"validation: expected a share in [0, 1), got {validation}")
    sizes: dict[str, int] = {}
    for artwork in artwork_of.values():
        sizes[artwork] = sizes.get(artwork, 0) + 1
    if len(sizes) < k:
        raise DataError(f"{k} folds need {k} artworks, there are {len(sizes)} ({len(artwork_of)} pictures)")
    tests = _spread(sizes, k, seed)
    folds = []
    for number, test in enumerate(tests):
        rest = {artwork: size for artwork, size in sizes.items() if artwork not in test}
        val = _validation(rest, validation, f"{seed}/{number}") if validation else set()
        if len(val) == len(rest):
            raise DataError(
                f"fold {number}: {len(rest)} artworks outside its test part are too few for a training part and a "
                f"validation part of {validation:.0%}"
            )
        folds.append(
            CrossValidationFold(
                train=tuple(i for i, a in artwork_of.items() if a in rest and a not in val),
                val=tuple(i for i, a in artwork_of.items() if a in val),
                test=tuple(i for i, a in artwork_of.items() if a in test),
            )
        )
    return folds


def _spread(sizes: Mapping[str, int], k: int, seed: int) -> list[set[str]]:
    tests: list[set[str]] = [set() for _ in range(k)]
    counts = [0] * k
    for artwork in sorted(_shuffled(sizes, str(seed)), key=lambda artwork: -sizes[artwork]):
        smallest = counts.index(min(counts))
        tests[smallest].add(artwork)
        counts[smallest] += sizes[artwork]
    return tests


def _validation(sizes: Mapping[str, int], share: float, seed: str) -> set[str]:
    """Take artworks as long as each brings the number of pictures closer to the share; at least the smallest."""
    wanted, count = share * sum(sizes.values()), 0
    taken: set[str] = set()
    order = _shuffled(sizes, f"{seed}/validation")
    for artwork in order:
        if abs(count + sizes[artwork] - wanted) < abs(count - wanted):
            taken.add(artwork)
            count += sizes[artwork]
    return taken or {min(order, key=lambda artwork: sizes[artwork])}


def _shuffled(artworks: Mapping[str, int], seed: str) -> list[str]:
    return sorted(artworks, key=lambda artwork: (hashlib.sha256(f"{seed}/{artwork}".encode()).digest(), artwork))
