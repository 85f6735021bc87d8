"""Overlays, pixel by pixel: frames on the best region, peaks in the right cell, masked regions left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heritage_align.report import overlay
from heritage_align.report.fonts import INSTALL_HINT, FontFace
from heritage_align.report.heat import best_regions, check_responses, heat_maps, pixel_box
from heritage_align.report.overlay import MAX_PHRASES, draw_overlay, heat_panel, outline_best
from heritage_align.report.palette import PHRASE_COLOURS, contrast, ink_on, phrase_colour

Array = np.ndarray[Any, np.dtype[Any]]
LATIN = FontFace(None)


@pytest.fixture(autouse=True)
def _latin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "find_font", lambda: LATIN)


def grid(rows: int, columns: int) -> Array:
    """Boxes of a patch grid in row-major order."""
    y, x = (a.ravel() for a in np.mgrid[:rows, :columns])
    return np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], axis=1)


def is_colour(image: Image.Image, colour: tuple[int, int, int]) -> Array:
    """Where a picture has exactly this colour."""
    return (np.asarray(image) == np.array(colour)).all(axis=-1)


def extent(mask: Array) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (end excluded) of what is True."""
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def test_frame_is_drawn_exactly_on_the_box() -> None:
    picture = Image.new("RGB", (200, 100), (128, 128, 128))
    boxes = np.array([[0.0, 0.0, 0.2, 0.2], [0.25, 0.2, 0.85, 0.9]])
    outline_best(picture, boxes, [(1, "1", PHRASE_COLOURS[0])], LATIN)
    assert extent(is_colour(picture, PHRASE_COLOURS[0])) == (50, 20, 170, 90)
    assert picture.getpixel((110, 60)) == (128, 128, 128), "the inside stays as it is"


def test_phrases_that_share_a_region_are_all_visible() -> None:
    picture = Image.new("RGB", (300, 300), (128, 128, 128))
    boxes = np.array([[0.1, 0.1, 0.9, 0.9]])
    outline_best(picture, boxes, [(0, str(n + 1), phrase_colour(n)) for n in range(6)], LATIN)
    for n in range(6):
        left, top, right, bottom = extent(is_colour(picture, phrase_colour(n)))
        assert right - left > 180
        assert bottom - top > 180


def test_tags_of_close_boxes_do_not_cover_each_other() -> None:
    taken: list[tuple[int, int, int, int]] = []
    for _ in range(6):
        taken.append(overlay._tag_place((40, 40, 220, 220), (22, 22), (300, 300), taken))
    apart = [
        (a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1])
        for i, a in enumerate(taken)
        for b in taken[i + 1 :]
    ]
    assert all(apart)


def test_tag_of_a_small_frame_stands_outside_it() -> None:
    assert overlay._tag_place((100, 100, 120, 120), (22, 22), (300, 300), [])[3] <= 100
    at_the_top = overlay._tag_place((100, 0, 120, 20), (22, 22), (300, 300), [])
    assert at_the_top[0] >= 120
    assert at_the_top[1] >= 0


def test_heat_map_is_the_mean_over_covering_regions() -> None:
    boxes = np.array([[0, 0, 0.5, 1], [0.25, 0, 0.75, 1], [0, 0, 1, 1]])
    responses = np.array([[1.0, 3.0, 100.0]])
    heat = heat_maps(boxes, responses, np.array([True, True, False]), (4, 1))
    np.testing.assert_array_equal(heat, [[[1.0, 2.0, 3.0, np.nan]]])


def test_heat_peak_lies_in_the_right_cell() -> None:
    responses = np.zeros((1, 12))
    responses[0, 1 * 4 + 2] = 1.0  # second row, third column of 3 x 4
    heat = heat_maps(grid(3, 4), responses, np.ones(12, bool), (40, 30))
    panel = np.asarray(heat_panel(Image.new("RGB", (400, 300), (90, 90, 90)), heat[0])).astype(int)
    yellow = panel[..., 0] > panel[..., 2] + 60
    assert extent(yellow) == (20, 10, 30, 20)
    assert yellow.sum() == 100


def test_heat_colours_run_from_the_lowest_to_the_highest_value() -> None:
    grey = Image.new("RGB", (2, 1), (90, 90, 90))
    low, high = np.asarray(heat_panel(grey, np.array([[5.0, 5.1]]))).astype(int)[0]
    assert np.abs(low - high).max() > 100
    np.testing.assert_array_equal(heat_panel(grey, np.array([[-3.0, 7.0]])), [[low, high]])


def test_equal_responses_give_one_middle_tint() -> None:
    heat = heat_maps(grid(2, 2), np.full((1, 4), 0.25), np.ones(4, bool), (20, 20))
    panel = np.asarray(heat_panel(Image.new("RGB", (20, 20), (90, 90, 90)), heat[0]))
    assert (panel == panel[0, 0]).all()


def test_best_region_is_kept_and_the_first_of_equals() -> None:
    responses = np.array([[0.9, 0.5, 0.5], [0.1, 0.2, 0.3]])
    assert best_regions(responses, np.array([False, True, True])) == [1, 2]
    everything = check_responses(grid(1, 3), 2, responses, np.zeros(3, bool))
    assert everything.all(), "a mask that keeps nothing is ignored"


def test_pixel_box_has_at_least_one_pixel_inside() -> None:
    assert pixel_box(np.array([0.999, 0.999, 1.0, 1.0]), 10, 10) == (9, 9, 10, 10)
    assert pixel_box(np.array([0.0, 0.5, 1.0, 0.5]), 10, 10) == (0, 5, 10, 6)


def test_sheet_shows_the_frame_of_the_best_kept_region_only() -> None:
    image = Image.new("RGB", (540, 480), (120, 120, 120))  # drawn at its own size
    responses = np.zeros((1, 4))
    responses[0] = [0.9, 0.1, 0.2, 0.8]
    keep = np.array([False, True, True, True])
    sheet = draw_overlay(image, grid(2, 2), ["crane"], responses, keep=keep, score=0.5)
    colour = PHRASE_COLOURS[0]
    frame = is_colour(sheet, colour)[:504, :564]
    left, top, right, bottom = extent(frame)
    assert (left, top, right, bottom) == (24 + 270, 24 + 240, 24 + 540, 24 + 480)


def test_only_the_strongest_phrases_are_drawn_in_text_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    legend = overlay._legend
    monkeypatch.setattr(overlay, "_legend", lambda *a: seen.append(a) or legend(*a))
    responses = np.linspace(0.1, 0.9, 8)[:, None] * np.ones((8, 4))
    draw_overlay(Image.new("RGB", (64, 64)), grid(2, 2), [f"p{i}" for i in range(8)], responses)
    _, entries, notes, *_ = seen[0]
    assert [e.label for e in entries] == [f"p{i}" for i in range(2, 8)]
    assert [e.number for e in entries] == list(range(1, MAX_PHRASES + 1))
    assert any("6 strongest of 8" in note for note in notes)


def test_without_a_chinese_font_phrases_become_numbers_and_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    write = overlay.write

    def spy(draw: Any, at: Any, font: Any, size: int, text: str, *rest: Any) -> None:
        drawn.append(text)
        write(draw, at, font, size, text, *rest)

    monkeypatch.setattr(overlay, "write", spy)
    draw_overlay(Image.new("RGB", (64, 64)), grid(2, 2), ["牡丹", "crane"], np.eye(2, 4), title="牡丹与鹤")
    assert "phrase 1" in drawn
    assert "crane" in drawn
    assert not any(ord(c) > 0x2E80 for text in drawn for c in text)
    assert INSTALL_HINT.split(":")[0] in " ".join(drawn)


def test_with_a_chinese_font_the_words_are_drawn(chinese_font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    face = FontFace(str(chinese_font), chinese=True)
    monkeypatch.setattr(overlay, "find_font", lambda: face)
    one = draw_overlay(Image.new("RGB", (64, 64)), grid(2, 2), ["牡丹"], np.eye(1, 4))
    other = draw_overlay(Image.new("RGB", (64, 64)), grid(2, 2), ["云花"], np.eye(1, 4))
    assert (np.asarray(one) != np.asarray(other)).any()


@pytest.mark.parametrize("size", [(1, 1), (3000, 8), (8, 3000), (32, 32)])
def test_every_shape_of_picture_gives_a_sheet_of_the_same_width(size: tuple[int, int]) -> None:
    sheet = draw_overlay(Image.new("RGB", size), grid(3, 3), ["a", "b"], np.eye(2, 9), score=-0.1, title="t")
    assert sheet.width == overlay.WIDTH
    assert sheet.height < 1200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((0, 4))}, r"boxes: expected \(n_regions, 4\)"),
        ({"boxes": grid(2, 2) * 50}, "boxes: expected fractions"),
        ({"responses": np.zeros((2, 4))}, r"responses: expected .* = \(1, 4\), got \(2, 4\)"),
        ({"responses": np.array([[0, np.nan, 0, 0]])}, "responses: expected finite"),
        ({"keep": np.ones(3, bool)}, r"keep: expected \(4,\), got \(3,\)"),
        ({"phrases": [], "responses": np.zeros((0, 4))}, "phrases: expected at least one"),
    ],
)
def test_bad_input_names_the_argument(change: dict[str, Any], message: str) -> None:
    fine: dict[str, Any] = {"boxes": grid(2, 2), "phrases": ["crane"], "responses": np.zeros((1, 4))}
    with pytest.raises(ValueError, match=message):
        draw_overlay(Image.new("RGB", (8, 8)), **{**fine, **change})


def test_masked_regions_may_hold_anything() -> None:
    responses = np.array([[-np.inf, 0.2, np.nan, 0.1]])
    keep = np.array([False, True, False, True])
    draw_overlay(Image.new("RGB", (8, 8)), grid(2, 2), ["crane"], responses, keep=keep)


def test_every_tag_is_readable() -> None:
    assert min(contrast(ink_on(c), c) for c in PHRASE_COLOURS) >= 4.5
    assert contrast((255, 255, 255), (0, 0, 0)) == pytest.approx(21.0)
