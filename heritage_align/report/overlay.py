"""One picture of which region answered which phrase: the boxes, a legend, and a heat map for each phrase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from heritage_align.report.drawing import (
    INK,
    PAPER,
    QUIET,
    RULE,
    Box,
    outline,
    overlaps,
    paste_tag,
    shorten,
    tag_size,
    text_width,
    wrap,
    write,
)
from heritage_align.report.fonts import INSTALL_HINT, FontFace, find_font
from heritage_align.report.heat import Bools, Floats, best_regions, check_responses, heat_maps, pixel_box
from heritage_align.report.palette import RGB, heat_colours, phrase_colour

MAX_PHRASES = 6
"""More phrases than this are not drawn: six colours stay apart, and two rows of maps fit a page."""

WIDTH = 980
_MARGIN = 24
_PICTURE = (540, 480)
_GAP = 20
_TAG = 22
_BODY = 16
_SMALL = 13


@dataclass(frozen=True)
class _Entry:
    """A phrase that is drawn: its number from 1, its words (None where no font has them) and its answer."""

    number: int
    label: str | None
    colour: RGB
    row: int
    region: int
    response: float


def draw_overlay(
    image: Image.Image,
    boxes: Floats,
    phrases: Sequence[str],
    responses: Floats,
    *,
    keep: Bools | None = None,
    score: float | None = None,
    title: str = "",
) -> Image.Image:
    """Draw which region answered which phrase.

    Above stands the picture with the best region of every phrase outlined, and a legend; below, for every
    phrase, the mean response of the regions over each pixel, from that map's lowest to its highest value. Of
    more than `MAX_PHRASES` phrases the ones with the strongest answers are drawn, in the text's order.

    Args:
        image: the upright picture.
        boxes: ``(n_regions, 4)`` xyxy as fractions of width and height.
        phrases: ``n_fragments`` phrases.
        responses: ``(n_fragments, n_regions)``, from `protocols.Similarity.respond`.
        keep: ``(n_regions,)`` bool; a masked region is neither outlined nor part of a map.
        score: of the whole text for the whole picture.
        title: usually the text.

    Returns:
        An RGB picture, 980 pixels wide.

    Raises:
        ValueError: names the argument that does not fit.
    """
    boxes, responses = np.asarray(boxes, dtype=np.float64), np.asarray(responses, dtype=np.float64)
    counted = check_responses(boxes, len(phrases), responses, keep)
    font = find_font()
    best = best_regions(responses, counted)
    peaks = responses[np.arange(len(best)), best]
    shown = sorted(np.argsort(-peaks, kind="stable")[:MAX_PHRASES].tolist())
    entries = [
        _Entry(n + 1, font.drawable(phrases[row]), phrase_colour(n), row, best[row], float(peaks[row]))
        for n, row in enumerate(shown)
    ]
    picture = _fitted(image, _PICTURE)
    maps = heat_maps(boxes, responses[shown], counted, _panel_size(picture.size, len(shown)))
    notes = _notes(counted, len(phrases), entries, gaps=bool(np.isnan(maps[0]).any()))

    parts = []
    drawable_title = font.drawable(title)
    if drawable_title:
        parts.append(_title(drawable_title, font))
    outline_best(picture, boxes, [(e.region, str(e.number), e.colour) for e in entries], font)
    parts.append(_upper(picture, entries, notes, score, font))
    parts.append(_panels(image, maps, entries, font))
    height = sum(p.height for p in parts) + _GAP * (len(parts) - 1) + 2 * _MARGIN
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    top = _MARGIN
    for part in parts:
        sheet.paste(part, (_MARGIN, top))
        top += part.height + _GAP
    return sheet


def outline_best(picture: Image.Image, boxes: Floats, best: Sequence[tuple[int, str, RGB]], font: FontFace) -> None:
    """Outline regions of `picture` in place; `best` holds ``(region, label, colour)``.

    Phrases that share a region get frames inside each other, and tags are put where they hide no other tag.
    """
    draw = ImageDraw.Draw(picture)
    line = 3
    tags: list[tuple[Box, str, RGB]] = []
    for position, (region, label, colour) in enumerate(best):
        inset = (line + 2) * sum(boxes[r].tolist() == boxes[region].tolist() for r, _, _ in best[:position])
        left, top, right, bottom = pixel_box(boxes[region], *picture.size)
        frame = (left + inset, top + inset, right - inset, bottom - inset)
        too_small = min(frame[2] - frame[0], frame[3] - frame[1]) <= 4
        outline(draw, (left, top, right, bottom) if too_small else frame, colour, line)
        place = _tag_place(
            (left, top, right, bottom), tag_size(font, label, _TAG), picture.size, [box for box, _, _ in tags]
        )
        tags.append((place, label, colour))
    for place, label, colour in tags:
        paste_tag(picture, place[:2], font, label, colour, _TAG)


def heat_panel(image: Image.Image, heat: Floats) -> Image.Image:
    """Lay one heat map ``(height, width)`` over the grey picture, scaled to the map's size."""
    grey = np.asarray(_grey(image).resize(heat.shape[::-1], Image.Resampling.LANCZOS), dtype=np.float64)
    covered = np.isfinite(heat)
    low, high = _range(heat)
    position = np.where(covered, (heat - low) / (high - low), 0.0) if high > low else np.full(heat.shape, 0.5)
    tint = heat_colours(position).astype(np.float64)
    # The tint carries the number, so it gets most of the weight; the picture has only to be recognised.
    mixed = 0.68 * tint + 0.32 * grey[..., None]
    pixels = np.where(covered[..., None], mixed, 0.35 * grey[..., None] + 150)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def _range(heat: Floats) -> tuple[float, float]:
    return float(np.nanmin(heat)), float(np.nanmax(heat))


def _grey(image: Image.Image) -> Image.Image:
    return ImageOps.autocontrast(image.convert("L"), cutoff=1)


def _fitted(image: Image.Image, limit: tuple[int, int]) -> Image.Image:
    scale = min(limit[0] / image.width, limit[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _columns(panels: int) -> tuple[int, int]:
    """Return how many maps stand in a row, and their width: four fill one row, five or six two rows."""
    columns = 4 if panels == 4 else 3
    return columns, (WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) // columns


def _panel_size(size: tuple[int, int], panels: int) -> tuple[int, int]:
    scale = min(_columns(panels)[1] / size[0], 280 / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _tag_place(box: Box, tag: tuple[int, int], limit: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Choose the place on the frame, corners first, where the tag covers the least of other tags."""
    right, bottom = box[2] - tag[0], box[3] - tag[1]
    places = [(box[0], box[1]), (right, box[1]), (box[0], bottom), (right, bottom)]
    places += [(box[0] + (tag[0] + 3) * step, box[1]) for step in range(1, 8)]
    places += [(box[0], box[1] + (tag[1] + 3) * step) for step in range(1, 8)]
    if min(box[2] - box[0], box[3] - box[1]) < 2 * max(tag):
        # A tag inside a small frame would hide what the frame is about.
        above, below, beside = box[1] - tag[1] - 2, box[3] + 2, box[2] + 2
        outside = [(box[0], above), (beside, box[1]), (box[0], below), (box[0] - tag[0] - 2, box[1])]
        fitting = [(x, y) for x, y in outside if 0 <= x <= limit[0] - tag[0] and 0 <= y <= limit[1] - tag[1]]
        places = fitting + places
    most = (max(limit[0] - tag[0], 0), max(limit[1] - tag[1], 0))
    inside = [(min(max(x, 0), most[0]), min(max(y, 0), most[1])) for x, y in places]
    options = [(x, y, x + tag[0], y + tag[1]) for x, y in inside]
    return min(options, key=lambda option: overlaps(option, taken))


def _notes(counted: Bools, phrases: int, entries: Sequence[_Entry], gaps: bool) -> list[str]:
    kept = f"{len(counted)} regions"
    if not counted.all():
        kept = f"{counted.sum()} of {len(counted)} regions (the others are filtered out)"
    notes = [
        "Frames: the region that answers each phrase best.",
        f"Maps: mean response of {kept}, from each map's lowest to its highest value."
        + (" Pale: no region there." if gaps else ""),
    ]
    if phrases > len(entries):
        notes.append(f"The {len(entries)} strongest of {phrases} phrases are shown.")
    if any(entry.label is None for entry in entries):
        notes.append(INSTALL_HINT)
    return notes


def _title(text: str, font: FontFace) -> Image.Image:
    size = 21
    width = WIDTH - 2 * _MARGIN
    lines = wrap(font, size, text, width, lines=2)
    part = Image.new("RGB", (width, 30 * len(lines) - 4), PAPER)
    draw = ImageDraw.Draw(part)
    for n, line in enumerate(lines):
        write(draw, (0, 21 + 30 * n), font, size, line)
    return part


def _upper(
    picture: Image.Image, entries: Sequence[_Entry], notes: Sequence[str], score: float | None, font: FontFace
) -> Image.Image:
    width = WIDTH - 2 * _MARGIN
    left = picture.width + _GAP + 8
    legend = _legend(width - left, entries, notes, score, font)
    part = Image.new("RGB", (width, max(picture.height, legend.height)), PAPER)
    part.paste(picture, (0, 0))
    part.paste(legend, (left, 0))
    return part


def _legend(
    width: int, entries: Sequence[_Entry], notes: Sequence[str], score: float | None, font: FontFace
) -> Image.Image:
    part = Image.new("RGB", (width, 2000), PAPER)
    draw = ImageDraw.Draw(part)
    y = 0
    if score is not None:
        write(draw, (0, y + 17), font, _BODY, "Score of the picture for the text", QUIET)
        write(draw, (width, y + 18), font, 20, f"{score:.3f}", INK, "rs")
        y += 30
    draw.line((0, y, width, y), fill=RULE)
    y += 14
    for entry in entries:
        number = f"{entry.response:.3f}"
        tag, _ = tag_size(font, str(entry.number), _TAG)
        room = width - tag - 10 - text_width(font, _BODY, number) - 14
        lines = wrap(font, _BODY, entry.label, room, lines=2) if entry.label else [f"phrase {entry.row + 1}"]
        paste_tag(part, (0, y), font, str(entry.number), entry.colour, _TAG)
        for n, line in enumerate(lines):
            write(draw, (tag + 10, y + 17 + 22 * n), font, _BODY, line, INK if entry.label else QUIET)
        write(draw, (width, y + 17), font, _BODY, number, INK, "rs")
        y += 22 * len(lines) + 12
    draw.line((0, y, width, y), fill=RULE)
    y += 8
    for note in notes:
        for line in wrap(font, _SMALL, note, width, lines=4):
            write(draw, (0, y + 13), font, _SMALL, line, QUIET)
            y += 19
        y += 4
    return part.crop((0, 0, width, y + 4))


def _panels(image: Image.Image, maps: Floats, entries: Sequence[_Entry], font: FontFace) -> Image.Image:
    columns, column = _columns(len(entries))
    high, wide = maps.shape[1:]
    rows = -(-len(entries) // columns)
    cell = 30 + high + 32
    part = Image.new("RGB", (WIDTH - 2 * _MARGIN, rows * cell + (rows - 1) * _GAP), PAPER)
    draw = ImageDraw.Draw(part)
    for n, (entry, heat) in enumerate(zip(entries, maps)):
        x, y = (n % columns) * (column + _GAP), (n // columns) * (cell + _GAP)
        tag, _ = tag_size(font, str(entry.number), _TAG)
        paste_tag(part, (x, y), font, str(entry.number), entry.colour, _TAG)
        if entry.label:
            label = shorten(font, _BODY, entry.label, column - tag - 8)
            write(draw, (x + tag + 8, y + 17), font, _BODY, label)
        part.paste(heat_panel(image, heat), (x, y + 30))
        _scale(part, (x, y + 30 + high + 8), max(wide, 160), _range(heat), font)
    return part


def _scale(part: Image.Image, at: tuple[int, int], width: int, ends: tuple[float, float], font: FontFace) -> None:
    draw = ImageDraw.Draw(part)
    low, high = (f"{end:.3f}" for end in ends)
    left = at[0] + text_width(font, _SMALL, low) + 8
    right = at[0] + width - text_width(font, _SMALL, high) - 8
    write(draw, (at[0], at[1] + 12), font, _SMALL, low, QUIET)
    write(draw, (at[0] + width, at[1] + 12), font, _SMALL, high, QUIET, "rs")
    ramp = np.linspace(0, 1, right - left) if ends[1] > ends[0] else np.full(right - left, 0.5)
    bar = np.repeat(heat_colours(ramp)[None], 8, axis=0)
    part.paste(Image.fromarray(bar), (left, at[1] + 4))
