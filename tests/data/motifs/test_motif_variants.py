"""Splits share nothing, and the pictures of one artwork differ in one detail."""

from __future__ import annotations

import numpy as np
import pytest

from heritage_align.data.motifs import Motifs
from heritage_align.data.motifs.design import MIN_CONTRAST, SPLITS, Design, artwork
from heritage_align.data.motifs.draw import box, render
from heritage_align.data.motifs.vocabulary import COLOUR_RGB, GROUND_RGB


def test_splits_share_no_artwork_and_no_design() -> None:
    splits = [Motifs(s, artworks=150, variants=2, size=64) for s in SPLITS]
    for k, one in enumerate(splits):
        for other in splits[k + 1 :]:
            assert not set(one.artwork_of.values()) & set(other.artwork_of.values())
            assert not set(one.designs.values()) & set(other.designs.values())
            assert not {t.text for t in one.texts} & {t.text for t in other.texts}


def _names(design: Design) -> list[tuple[str, str]]:
    return [(e.motif, e.colour) for e in design.elements]


@pytest.mark.parametrize("number", range(10))
def test_variants_differ_from_the_base_in_one_element_and_one_property(number: int) -> None:
    base, *others = artwork(0, "test", number, 4)
    assert base.changed is None
    assert len({repr(_names(d)) for d in (base, *others)}) == 4
    for other in others:
        assert (other.layout, other.ground, other.texture) == (base.layout, base.ground, base.texture)
        differing = [k for k, (a, b) in enumerate(zip(_names(base), _names(other))) if a != b]
        assert differing == [other.changed]
        assert other.changed != 0  # the largest motif stays
        (old_motif, old_colour), (new_motif, new_colour) = (_names(d)[differing[0]] for d in (base, other))
        assert (old_motif != new_motif) != (old_colour != new_colour)
        assert len({e.motif for e in other.elements}) == len(other.elements)
        places = [[(i.x, i.y, i.size) for i in e.instances] for e in base.elements]
        assert places == [[(i.x, i.y, i.size) for i in e.instances] for e in other.elements]


@pytest.mark.parametrize("number", range(6))
def test_pictures_of_an_artwork_differ_inside_the_changed_boxes_alone(number: int) -> None:
    size = 128
    base, *others = artwork(0, "val", number, 4)
    pixels = np.asarray(render(base, size))
    for other in others:
        row = other.changed
        assert row is not None
        differing = (np.asarray(render(other, size)) != pixels).any(-1)
        inside = np.zeros_like(differing)
        for design in (base, other):
            for k in range(len(design.elements[row].instances)):
                x0, y0, x1, y1 = map(int, box(design, row, k, size))
                inside[y0:y1, x0:x1] = True
        assert differing.any()
        assert not (differing & ~inside).any()


def test_a_detail_is_small() -> None:
    """The changed element covers a median of less than a tenth of the picture."""
    shares = []
    for number in range(60):
        for design in artwork(0, "test", number, 4)[1:]:
            assert design.changed is not None
            shares.append(sum(i.size**2 for i in design.elements[design.changed].instances))
    assert np.median(shares) < 0.1


def test_motifs_stand_out_from_their_ground() -> None:
    for number in range(60):
        for design in artwork(0, "train", number, 3):
            ground = np.array(GROUND_RGB[design.ground], float)
            for element in design.elements:
                assert np.linalg.norm(np.array(COLOUR_RGB[element.colour]) - ground) >= MIN_CONTRAST


def test_artwork_of_groups_the_variants(motifs: Motifs) -> None:
    for image_id, artwork_id in motifs.artwork_of.items():
        assert image_id.rpartition("-")[0] == artwork_id
    assert len(set(motifs.artwork_of.values())) == 12
