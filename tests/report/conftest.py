"""A font with seven Chinese characters, made on the spot: machines that run the tests need not have one."""

from __future__ import annotations

from pathlib import Path

import pytest

SAMPLE = "卍牡丹鹤龍云花"


@pytest.fixture(scope="session")
def chinese_font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a TrueType file in which every character of SAMPLE is a bar of its own width."""
    builder_module = pytest.importorskip("fontTools.fontBuilder", reason="fontTools is not installed")
    pen_module = pytest.importorskip("fontTools.pens.ttGlyphPen")

    def bar(width: int, height: int) -> object:
        pen = pen_module.TTGlyphPen(None)
        pen.moveTo((0, 0))
        for corner in ((0, height), (width, height), (width, 0)):
            pen.lineTo(corner)
        pen.closePath()
        return pen.glyph()

    letters = [chr(c) for c in range(0x20, 0x7F)] + list("…，") + list(SAMPLE)
    names = [".notdef", *(f"g{ord(c):x}" for c in letters)]
    builder = builder_module.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): n for c, n in zip(letters, names[1:])})
    builder.setupGlyf({n: bar(300 + 3 * i, 700 if i else 1000) for i, n in enumerate(names)})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=-200)
    builder.setupNameTable({"familyName": "Test Bars", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path_factory.mktemp("font") / "bars.ttf"
    builder.save(path)
    return path
