"""Where motifs stand: a layout gives groups of places, one for each element of a design, largest first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Generator = np.random.Generator
Place = tuple[float, float]


@dataclass(frozen=True)
class Group:
    """Places of one element.

    Attributes:
        places: centres as fractions of the picture's side.
        size: side of the motif's square as a fraction of the picture's side.
    """

    places: tuple[Place, ...]
    size: float


def _ring(count: int, radius: float, phase: float) -> tuple[Place, ...]:
    angles = [phase + math.tau * k / count for k in range(count)]
    return tuple((0.5 + radius * math.cos(a), 0.5 + radius * math.sin(a)) for a in angles)


def _corners(inset: float) -> tuple[Place, ...]:
    return tuple((x, y) for y in (inset, 1 - inset) for x in (inset, 1 - inset))


def _main(rng: Generator, size: float) -> Group:
    if rng.random() < 0.5:
        return Group(((0.5, 0.5),), size)
    apart = 0.26 * size / 0.36
    places = ((0.5 - apart / 2, 0.5), (0.5 + apart / 2, 0.5))
    return Group(places, size * 0.68)


def roundel(rng: Generator) -> list[Group]:
    """One or two motifs in a ring that is set with small ones; corners and edges filled."""
    edges: tuple[Place, ...] = ((0.5, 0.065), (0.935, 0.5), (0.5, 0.935), (0.065, 0.5))
    count = int(rng.integers(5, 9))
    return [
        _main(rng, 0.38),
        Group(_corners(0.125), 0.2),
        Group(_ring(count, 0.335, float(rng.random())), 0.105),
        Group(edges[:: int(rng.integers(1, 3))], 0.115),
    ]


def lattice(rng: Generator) -> list[Group]:
    """Cells of a lattice with two motifs in turn, one cell that differs, small motifs on the crossings."""
    cells = [((c + 0.5) / 3, (r + 0.5) / 3) for r in range(3) for c in range(3)]
    odd_one = int(rng.integers(0, 9))
    first = tuple(p for i, p in enumerate(cells) if i % 2 == 0 and i != odd_one)
    second = tuple(p for i, p in enumerate(cells) if i % 2 == 1 and i != odd_one)
    crossings = tuple((x / 3, y / 3) for y in (1, 2) for x in (1, 2))
    return [
        Group(first, 0.2),
        Group(second, 0.2),
        Group(crossings, 0.115),
        Group((cells[odd_one],), 0.2),
    ]


def _scatter(rng: Generator, wanted: list[tuple[int, float]], bottom: float) -> list[Group]:
    """Throw motifs on the ground where they do not overlap; a group without room has fewer, never none."""
    taken: list[tuple[float, float, float]] = []
    groups = []
    for count, size in wanted:
        places: list[Place] = []
        for attempt in range(60 * count):
            if len(places) == count or (places and attempt > 30 * count):
                break
            edge = size / 2
            x, y = float(rng.uniform(edge, 1 - edge)), float(rng.uniform(edge, bottom - edge))
            squeeze = 0.48 if attempt < 20 * count else 0.36  # a crowded ground lets motifs touch
            if all(math.hypot(x - a, y - b) > squeeze * (size + s) for a, b, s in taken):
                taken.append((x, y, size))
                places.append((x, y))
        groups.append(Group(tuple(places) or ((size / 2, bottom - size / 2),), size))
    return groups


def sprays(rng: Generator) -> list[Group]:
    """Motifs scattered over the whole ground."""
    counts = rng.integers((1, 2, 2, 2), (3, 5, 6, 7)).tolist()
    return _scatter(rng, list(zip(counts, (0.3, 0.19, 0.125, 0.11))), 1.0)


def waves(rng: Generator) -> list[Group]:
    """Motifs scattered above a band of waves."""
    counts = rng.integers((1, 2, 2, 2), (3, 4, 5, 4)).tolist()
    return _scatter(rng, list(zip(counts, (0.28, 0.19, 0.125, 0.11))), 0.76)


def bands(rng: Generator) -> list[Group]:
    """Rows of one motif each."""
    order = rng.permutation(4)
    heights = (0.34, 0.27, 0.21, 0.18)
    groups: list[Group] = [Group((), 0.0)] * 4
    top = 0.0
    for row in order.tolist():
        size = heights[row] * (0.8 if row < 2 else 0.66)
        count = min(int(rng.integers(2, 5)) + (2 if row > 1 else 0), int(0.95 / size))
        y = top + heights[row] / 2
        groups[row] = Group(tuple(((k + 0.5) / count, y) for k in range(count)), size)
        top += heights[row]
    return groups


def medallion(rng: Generator) -> list[Group]:
    """A panel with a main motif and attendants, and a border of small motifs."""
    border = [(0.07 + 0.86 * k / 6, y) for y in (0.07, 0.93) for k in range(7)]
    border += [(x, 0.07 + 0.86 * k / 6) for x in (0.07, 0.93) for k in range(1, 6)]
    sparse = tuple(p for i, p in enumerate(border) if i % 2 == 0)
    attendants: tuple[Place, ...] = ((0.23, 0.24), (0.77, 0.76), (0.77, 0.24), (0.23, 0.76))
    split = int(rng.integers(1, 3))
    return [
        _main(rng, 0.34),
        Group(attendants[:split], 0.16),
        Group(attendants[split + 1 :], 0.115),
        Group(sparse, 0.105),
    ]


PLACERS: dict[str, Callable[[Generator], list[Group]]] = {
    "roundel": roundel,
    "lattice": lattice,
    "sprays": sprays,
    "waves": waves,
    "bands": bands,
    "medallion": medallion,
}
