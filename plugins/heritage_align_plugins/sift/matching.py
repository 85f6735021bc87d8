"""Keypoints of two pictures that are alike, and the similarity transform that most of them agree on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.complex128]

SCALES = (0.2, 5.0)
"""How much smaller or larger than the detail a picture may show it."""
PROPOSALS = 10
"""Transforms that are fitted to the matches that agree with them, those with the most votes."""
ROUNDS = 5
"""Of fitting a transform and asking anew which matches agree with it."""
FEWEST = 3
"""Points that have to agree: two fit a similarity transform whatever they are."""


class Keypoints(NamedTuple):
    """Keypoints of one picture.

    Attributes:
        points: ``(n,)`` complex, x + iy in pixels.
        frames: ``(n,)`` complex, size and direction: two frames' quotient is how one picture is scaled and turned
            against the other.
        descriptors: ``(n, 128)`` float32, unit rows.
    """

    points: Points
    frames: Points
    descriptors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.points)

    def inverted(self) -> Keypoints:
        """Return those of the picture with light and dark exchanged, at the same points.

        Every gradient is turned by 180 degrees, and with them the direction from which a descriptor's 4 x 4 cells
        are counted: their order is reversed, and each cell's histogram, relative to it, stays.
        """
        cells = self.descriptors.reshape(-1, 16, 8)[:, ::-1]
        return Keypoints(self.points, -self.frames, np.ascontiguousarray(cells.reshape(-1, 128)))


class Matches(NamedTuple):
    """Pairs of keypoints, ``(n_matches,)`` each: numbers of the detail's, and of the picture's."""

    detail: NDArray[np.intp]
    picture: NDArray[np.intp]


class Fit(NamedTuple):
    """A similarity transform ``z -> factor z + shift`` of a detail into a picture, and what agrees with it.

    Attributes:
        agree: points of the detail that the transform brings to a match of theirs, each to another.
        factor, shift: of the transform.
        pairs: points of the detail that have a match at all, each another.
    """

    agree: int
    factor: complex
    shift: complex
    pairs: int = 0


NOTHING = Fit(0, 1.0, 0.0)


def matches_of(detail: Keypoints, picture: Keypoints, ratio: float) -> Matches:
    """Return the picture's keypoints that are clearly nearer to one of the detail's than to any other.

    That is the ratio test of Lowe 2004, section 7.1, asked from the picture's side: a motif that a picture shows twice
    then matches twice, where from the detail's side each would be too near to the other.
    """
    if len(detail) < 2 or not len(picture):
        return Matches(np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))
    cosines = picture.descriptors @ detail.descriptors.T
    nearest = cosines.argmax(axis=1)
    highest = np.partition(cosines, -2, axis=1)[:, -2:]
    second, first = np.sqrt(np.maximum(2 - 2 * highest, 0)).T
    clear = np.flatnonzero(first < ratio * second)
    return Matches(nearest[clear], clear)


def agreed(detail: Keypoints, picture: Keypoints, matches: Matches, tolerance: float) -> Fit:
    """Return the transform that most matches agree with.

    Every match proposes the one that brings its keypoint to the other's place, size and direction (Lowe 2004, section
    7.3), and matches vote. The first of these are fitted by least squares to what agrees with them. Nothing is drawn.

    Args:
        detail, picture: their keypoints.
        matches: of these.
        tolerance: pixels of the detail by which a match may miss.
    """
    here, there = detail.points[matches.detail], picture.points[matches.picture]
    factors = picture.frames[matches.picture] / detail.frames[matches.detail]
    usable = (np.abs(factors) > SCALES[0]) & (np.abs(factors) < SCALES[1])
    if usable.sum() < FEWEST:
        return NOTHING
    factors, shifts = factors[usable], (there - factors * here)[usable]
    # A keypoint's size and direction are rough: far from it they miss by more than its place does.
    votes = _missed(factors[:, None], shifts[:, None], here, there) <= 2 * tolerance
    best = NOTHING
    for number in np.argsort(-votes.sum(axis=1), kind="stable")[:PROPOSALS]:
        fit = _fitted(here, there, votes[number].astype(np.float64), tolerance)
        if fit.agree > best.agree:
            best = fit
    return best._replace(pairs=_distinct(here, there)) if best.agree else NOTHING


def _distinct(here: Points, there: Points) -> int:
    """Return how many pairs there are: one point may have several keypoints, and several may meet in one of the
    picture; they count once."""
    return min(len(np.unique(here.round(1))), len(np.unique(there.round(1))))


def _missed(factors: Any, shifts: Any, here: Points, there: Points) -> NDArray[np.float64]:
    """Return by how many pixels of the detail transforms miss."""
    missed: NDArray[np.float64] = np.abs(factors * here + shifts - there) / np.abs(factors)
    return missed


def _fitted(here: Points, there: Points, weights: NDArray[np.float64], tolerance: float) -> Fit:
    """Return the best of the transforms that are fitted in turn to what agrees with the one before, by least squares
    with Tukey's biweights: a match that nearly misses counts, and hardly pulls."""
    best = NOTHING
    for _ in range(ROUNDS):
        if np.count_nonzero(weights) < FEWEST:
            break
        middles = np.average(here, weights=weights), np.average(there, weights=weights)
        a, b = here - middles[0], there - middles[1]
        spread = float((weights * np.abs(a) ** 2).sum())
        if not spread > 0:
            break
        factor = complex((weights * a.conj() * b).sum() / spread)
        shift = complex(middles[1] - factor * middles[0])
        if not SCALES[0] < abs(factor) < SCALES[1]:
            break
        missed = _missed(factor, shift, here, there) / tolerance
        near = missed < 1
        count = _distinct(here[near], there[near])
        if count >= max(FEWEST, best.agree):  # of equal ones the last: it is the better fitted
            best = Fit(count, factor, shift)
        weights = np.where(near, (1 - missed**2) ** 2, 0.0)
    return best
