"""Small drawing tools for the pictures: number tags, outlines with a halo, lines of text that fit."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from heritage_align.report.fonts import FontFace
from heritage_align.report.palette import RGB, ink_on

INK: RGB = (28, 31, 36)
QUIET: RGB = (91, 98, 108)
RULE: RGB = (214, 218, 224)
PAPER: RGB = (255, 255, 255)

_SHARP = 4  # Pillow draws shapes without smoothing; tags are drawn this much larger and reduced.

_FIRST_IDEOGRAPHIC = "\u2e80"
_NEVER_FIRST = " ，。、；：！？）》」』”"

Box = tuple[int, int, int, int]


def text_width(font: FontFace, size: int, text: str) -> int:
    """Return the advance width of one line in pixels."""
    return int(font.at(size).getlength(text) + 0.999)


def shorten(font: FontFace, size: int, text: str, width: int) -> str:
    """Return `text`, or its beginning with an ellipsis, so that it fits into `width` pixels."""
    if text_width(font, size, text) <= width:
        return text
    end = "…" if font.covers("…") else "..."
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = text_width(font, size, text[:middle].rstrip() + end) <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low].rstrip() + end


def wrap(font: FontFace, size: int, text: str, width: int, lines: int) -> list[str]:
    """Break `text` into at most `lines` lines of `width` pixels, at spaces or between Chinese characters."""
    words: list[str] = []
    for character in text:
        latin = words and not words[-1].endswith(" ") and max(character, words[-1][-1]) < _FIRST_IDEOGRAPHIC
        if latin or (words and character in _NEVER_FIRST):
            words[-1] += character
        else:
            words.append(character)
    out: list[str] = []
    line = ""
    for position, word in enumerate(words):
        if line and text_width(font, size, (line + word).rstrip()) > width:
            if len(out) == lines - 1:
                line += "".join(words[position:])
                break
            out.append(line.rstrip())
            line = word.lstrip()
        else:
            line += word
    return [shorten(font, size, part, width) for part in [*out, line.rstrip()] if part]


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    font: FontFace,
    size: int,
    text: str,
    colour: RGB = INK,
    anchor: str = "ls",
) -> None:
    """Write one line; `at` is on its base line (anchors are Pillow's)."""
    draw.text(at, text, fill=colour, font=font.at(size), anchor=anchor)


def tag_size(font: FontFace, label: str, height: int) -> tuple[int, int]:
    """Return ``(width, height)`` of a number tag."""
    return max(height, text_width(font, round(height * 0.68), label) + round(height * 0.5)), height


def paste_tag(canvas: Image.Image, at: tuple[int, int], font: FontFace, label: str, colour: RGB, height: int) -> None:
    """Put a rounded number tag with its upper left corner at `at`."""
    width, _ = tag_size(font, label, height)
    large = Image.new("L", (width * _SHARP, height * _SHARP), 0)
    shape = ImageDraw.Draw(large)
    shape.rounded_rectangle((0, 0, large.width - 1, large.height - 1), radius=height * _SHARP // 4, fill=255)
    mask = large.resize((width, height), Image.Resampling.LANCZOS)
    canvas.paste(colour, (at[0], at[1], at[0] + width, at[1] + height), mask)
    size = round(height * 0.68)
    centre = (at[0] + width / 2, at[1] + height * 0.5 + size * 0.36)
    ImageDraw.Draw(canvas).text(centre, label, fill=ink_on(colour), font=font.at(size), anchor="ms")


def outline(draw: ImageDraw.ImageDraw, box: Box, colour: RGB, line: int) -> None:
    """Draw a frame inside `box` (end excluded) with a dark and a light edge, to be seen on any ground."""
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    for inset, shade, width in ((-2, INK, 1), (-1, PAPER, 1), (0, colour, line), (line, PAPER, 1)):
        frame = (left + inset, top + inset, right - inset, bottom - inset)
        if frame[0] < frame[2] and frame[1] < frame[3]:
            draw.rectangle(frame, outline=shade, width=width)


def overlaps(first: Box, others: Sequence[Box]) -> int:
    """Return how many pixels of `first` are covered by the other boxes, counted once for each of them."""
    area = 0
    for other in others:
        wide = min(first[2], other[2]) - max(first[0], other[0])
        high = min(first[3], other[3]) - max(first[1], other[1])
        area += max(wide, 0) * max(high, 0)
    return area
