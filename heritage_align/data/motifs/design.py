"""What is on a picture, before anything is drawn: designs, and variants that differ in one motif."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from heritage_align.data.motifs.layouts import PLACERS
from heritage_align.data.motifs.vocabulary import COLOUR_RGB, GROUND_RGB, MOTIFS

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

MIN_CONTRAST = 100.0  # euclidean RGB distance below which a motif sinks into its ground
UPRIGHT = frozenset({"wan", "mountain", "bamboo", "pine"})  # never mirrored or turned: 卍 would become another sign
MOTIF_CHANGE_SHARE = 0.7  # of the variants; the others change the colour of an element instead


@dataclass(frozen=True)
class Instance:
    """One drawn motif: centre and side as fractions of the picture's side, turn in radians."""

    x: float
    y: float
    size: float
    angle: float
    mirror: bool
    wobble: float


@dataclass(frozen=True)
class Element:
    """One thing that a caption names: a motif in a colour, at one or more places."""

    motif: str
    colour: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Design:
    """Everything that a picture shows.

    Attributes:
        layout: a key of `vocabulary.LAYOUTS`.
        ground: a key of `vocabulary.GROUNDS`.
        elements: different motifs, largest first.
        texture: seed of threads and wear, the same for all variants.
        changed: row of `elements` in which a variant differs from its base design; None for the base.
    """

    layout: str
    ground: str
    elements: tuple[Element, ...]
    texture: int
    changed: int | None = None


def _contrasting(ground: str) -> list[str]:
    base = np.array(GROUND_RGB[ground], dtype=float)
    return [c for c, rgb in COLOUR_RGB.items() if np.linalg.norm(np.array(rgb) - base) >= MIN_CONTRAST]


def base_design(rng: np.random.Generator) -> Design:
    """Draw a random design: layout, ground, different motifs in colours that stand out from the ground."""
    layout = str(rng.choice(list(PLACERS)))
    ground = str(rng.choice(list(GROUND_RGB)))
    groups = PLACERS[layout](rng)
    motifs = rng.choice(list(MOTIFS), size=len(groups), replace=False).tolist()
    colours = rng.choice(_contrasting(ground), size=len(groups)).tolist()
    elements = []
    for group, motif, colour in zip(groups, motifs, colours):
        angle = 0.0 if motif in UPRIGHT else round(float(rng.uniform(-0.25, 0.25)), 1)
        wobble = float(rng.integers(0, 3)) / 2
        mirrors = rng.random(len(group.places)) < 0.5
        instances = tuple(
            Instance(x, y, group.size, angle, bool(m) and motif not in UPRIGHT, wobble)
            for (x, y), m in zip(group.places, mirrors)
        )
        elements.append(Element(motif, colour, instances))
    return Design(layout, ground, tuple(elements), int(rng.integers(0, 2**31)))


def _variant(base: Design, row: int, rng: np.random.Generator) -> Design:
    element = base.elements[row]
    if rng.random() < MOTIF_CHANGE_SHARE:
        unused = [m for m in MOTIFS if m not in {e.motif for e in base.elements}]
        motif = str(rng.choice(unused))
        upright = motif in UPRIGHT
        instances = tuple(
            replace(i, angle=0.0 if upright else i.angle, mirror=i.mirror and not upright) for i in element.instances
        )
        changed = Element(motif, element.colour, instances)
    else:
        colours = [c for c in _contrasting(base.ground) if c != element.colour]
        changed = replace(element, colour=str(rng.choice(colours)))
    return replace(base, elements=(*base.elements[:row], changed, *base.elements[row + 1 :]), changed=row)


def artwork(seed: int, split: Split, number: int, variants: int) -> tuple[Design, ...]:
    """Return the `variants` designs of one artwork: a base, and others that differ from it in one element.

    An element below the largest is exchanged, a different one for each variant while there are any, so that
    only a detail tells the pictures of an artwork apart.

    Args:
        seed: of the collection.
        split: each split has designs of its own.
        number: of the artwork within its split.
        variants: pictures of the artwork, the base included.
    """
    rng = np.random.default_rng((seed, SPLITS.index(split), number))
    base = base_design(rng)
    rows = rng.permutation(np.arange(1, len(base.elements)))
    others = [_variant(base, int(rows[k % len(rows)]), rng) for k in range(variants - 1)]
    return (base, *others)
