"""Pictures: the same seed gives the same bytes, and boxes are those of the drawn pixels."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from heritage_align.data.motifs import Motifs
from heritage_align.data.motifs.design import UPRIGHT, artwork
from heritage_align.data.motifs.draw import box, mask, render
from heritage_align.data.motifs.layouts import PLACERS
from heritage_align.data.motifs.shapes import DRAWINGS, stamp
from heritage_align.data.motifs.vocabulary import LAYOUTS, MOTIFS


def test_the_same_seed_draws_the_same_bytes_in_any_order(motifs: Motifs) -> None:
    again = Motifs("test", artworks=12, variants=4, size=128)
    forwards = {i: motifs.load_image(i).tobytes() for i in motifs.image_ids}
    stamp.cache_clear()
    for image_id in reversed(again.image_ids):
        assert again.load_image(image_id).tobytes() == forwards[image_id]
    assert motifs.texts == again.texts
    assert motifs.golden == again.golden


def test_another_seed_draws_other_pictures(motifs: Motifs) -> None:
    other = Motifs("test", artworks=12, variants=4, size=128, seed=1)
    first = motifs.image_ids[0]
    assert other.load_image(first).tobytes() != motifs.load_image(first).tobytes()
    assert not set(other.designs.values()) & set(motifs.designs.values())


def test_fewer_artworks_are_the_first_of_more(motifs: Motifs) -> None:
    few = Motifs("test", artworks=2, variants=4, size=128)
    assert few.image_ids == motifs.image_ids[:8]
    assert few.texts == motifs.texts[:16]
    assert few.designs[few.image_ids[5]] == motifs.designs[few.image_ids[5]]


def test_every_layout_and_every_motif_occurs() -> None:
    designs = [artwork(0, "train", number, 1)[0] for number in range(150)]
    assert {d.layout for d in designs} == set(LAYOUTS) == set(PLACERS)
    assert {e.motif for d in designs for e in d.elements} == set(MOTIFS) == set(DRAWINGS)
    assert len(MOTIFS) >= 16


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_box_is_tight_around_the_pixels_that_the_motif_changed(layout: str) -> None:
    size = 160
    number = next(n for n in range(200) if artwork(3, "val", n, 1)[0].layout == layout)
    design = artwork(3, "val", number, 1)[0]
    for row, element in enumerate(design.elements):
        for k in range(len(element.instances)):
            cover = np.asarray(mask(design, row, k, size))
            rows, columns = np.nonzero(cover)
            x0, y0, x1, y1 = box(design, row, k, size)
            assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert 0 <= x0 < x1 <= size
            assert 0 <= y0 < y1 <= size


def test_removing_an_element_changes_pixels_inside_its_boxes_alone() -> None:
    size = 160
    design = artwork(0, "test", 4, 1)[0]
    without = type(design)(design.layout, design.ground, design.elements[:-1], design.texture)
    if design.layout == "bands":  # stripes follow their rows of motifs
        pytest.fail("choose an artwork of another layout")
    changed = (np.asarray(render(design, size)) != np.asarray(render(without, size))).any(-1)
    boxes = np.zeros((size, size), dtype=bool)
    last = len(design.elements) - 1
    for k in range(len(design.elements[last].instances)):
        x0, y0, x1, y1 = map(int, box(design, last, k, size))
        assert changed[y0:y1, x0:x1].mean() > 0.2
        boxes[y0:y1, x0:x1] = True
    assert not (changed & ~boxes).any()


@pytest.mark.parametrize("motif", list(MOTIFS))
def test_a_stamp_is_opaque_inside_and_clear_at_its_corners(motif: str) -> None:
    alpha = np.asarray(stamp(motif, 48, (200, 40, 40), (20, 10, 10)).getchannel("A"))
    assert 0.15 < (alpha > 127).mean() < 0.85
    assert alpha[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0


def test_motifs_differ_at_the_size_in_which_they_are_smallest() -> None:
    """At 256 px the smallest motifs are 27 px wide; a quarter of two stamps' common ink must differ."""
    ink = {m: np.asarray(stamp(m, 27, (200, 40, 40), (20, 10, 10)).convert("LA"), float) for m in MOTIFS}
    flat = {m: (v[..., 0] * v[..., 1] / 255).ravel() for m, v in ink.items()}
    names = list(flat)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            difference = np.abs(flat[a] - flat[b]).sum() / np.maximum(flat[a], flat[b]).sum()
            assert difference > 0.25, (a, b, difference)


def test_the_fret_is_never_mirrored_or_turned() -> None:
    """Mirrored, the sign would be another one; its top arm points to the left (卍)."""
    assert "wan" in UPRIGHT
    instances = [
        i
        for number in range(80)
        for d in artwork(0, "train", number, 4)
        for e in d.elements
        if e.motif == "wan"
        for i in e.instances
    ]
    assert instances
    assert not any(i.mirror or i.angle for i in instances)
    alpha = np.asarray(stamp("wan", 96, (200, 40, 40), (20, 10, 10)).getchannel("A"))
    band = alpha[14:20] > 127
    assert band[:, 20:48].all()  # from the middle to the left border the top arm
    assert not band[:, 58:70].any()  # right of the middle nothing, before the right arm's end comes up


def test_pictures_are_rgb_of_the_size_asked_for_and_scale() -> None:
    large, small = (Motifs("val", artworks=1, variants=1, size=s) for s in (256, 64))
    picture = large.load_image("val-00000-0")
    assert (picture.mode, picture.size) == ("RGB", (256, 256))
    reduced = np.asarray(picture.resize((64, 64), Image.Resampling.BOX), float)
    drawn = np.asarray(small.load_image("val-00000-0"), float)
    assert np.abs(reduced - drawn).mean() < 20  # threads and outlines do not scale, the picture does


def test_the_collection_is_the_one_that_the_encoder_was_trained_on() -> None:
    """Another digest means another collection: the shipped encoder and every table must be made again."""
    digest = hashlib.sha256()
    for design in (d for number in range(12) for d in artwork(0, "test", number, 2)):
        for element in design.elements:
            digest.update(f"{design.layout} {design.ground} {element.motif} {element.colour}".encode())
            digest.update("".join(f" {i.x:.3f} {i.y:.3f} {i.size:.3f}" for i in element.instances).encode())
    assert digest.hexdigest()[:16] == "0dbab7122dbb4a5d"
