"""From a design to a picture, and to the exact box of everything on it."""

from __future__ import annotations

from PIL import Image

from heritage_align.data.motifs import grounds
from heritage_align.data.motifs.design import Design, Element, Instance
from heritage_align.data.motifs.shapes import stamp
from heritage_align.data.motifs.vocabulary import COLOUR_RGB

Box = tuple[float, float, float, float]


def _stamp(design: Design, element: Element, instance: Instance, size: int) -> tuple[Image.Image, int, int]:
    side = max(8, round(instance.size * size))
    edge = grounds.tones(design.ground)[2]
    image = stamp(
        element.motif,
        side,
        COLOUR_RGB[element.colour],
        edge,
        instance.angle,
        instance.mirror,
        instance.wobble,
    )
    return image, round(instance.x * size - side / 2), round(instance.y * size - side / 2)


def render(design: Design, size: int) -> Image.Image:
    """Draw a design as an RGB picture of ``size x size`` pixels; the same design gives the same bytes."""
    image = grounds.paint(design, size)
    for element in design.elements:
        for instance in element.instances:
            picture, left, top = _stamp(design, element, instance, size)
            image.paste(picture, (left, top), picture)
    return grounds.weave(image, design.texture)


def mask(design: Design, row: int, number: int, size: int) -> Image.Image:
    """Return the coverage (mode L, 0..255) of instance `number` of element `row`, ``size x size``."""
    element = design.elements[row]
    picture, left, top = _stamp(design, element, element.instances[number], size)
    cover = Image.new("L", (size, size), 0)
    cover.paste(picture.getchannel("A"), (left, top))
    return cover


def box(design: Design, row: int, number: int, size: int) -> Box:
    """Return the tight box ``(x0, y0, x1, y1)`` in pixels of one instance, clipped to the picture."""
    element = design.elements[row]
    picture, left, top = _stamp(design, element, element.instances[number], size)
    bounds = picture.getchannel("A").getbbox()
    assert bounds is not None, f"{element.motif} draws nothing at {picture.width} px"
    x0, y0, x1, y1 = bounds
    return (
        float(max(0, left + x0)),
        float(max(0, top + y0)),
        float(min(size, left + x1)),
        float(min(size, top + y1)),
    )
