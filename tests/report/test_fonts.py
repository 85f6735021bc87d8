"""Fonts: found, tried for Chinese, and never used for what they do not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from heritage_align.errors import HeritageAlignError
from heritage_align.report.drawing import shorten, text_width, wrap
from heritage_align.report.fonts import FONT_VARIABLE, FontFace, find_font

LATIN = FontFace(None)


def test_named_font_is_used_and_known_to_be_chinese(chinese_font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FONT_VARIABLE, str(chinese_font))
    face = find_font()
    assert (face.path, face.chinese) == (str(chinese_font), True)
    assert face.drawable("牡丹 peony") == "牡丹 peony"
    assert face.drawable("凤") is None  # not among its seven characters


def test_latin_font_refuses_chinese_rather_than_draw_boxes() -> None:
    assert LATIN.drawable("a crane") == "a crane"
    assert LATIN.drawable("一只鹤") is None
    assert LATIN.drawable("鹤 crane") is None, "half of a phrase would say something else"


def test_unknown_symbols_are_left_out_and_lines_joined() -> None:
    assert LATIN.drawable("two\n cranes\U0001f54a\x00") == "two cranes"
    assert LATIN.drawable("\U0001f54a") is None
    assert LATIN.drawable("  ") is None


def test_named_file_that_is_no_font_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "not-a-font.ttf"
    path.write_bytes(b"no")
    monkeypatch.setenv(FONT_VARIABLE, str(path))
    with pytest.raises(HeritageAlignError, match=r"HERITAGE_ALIGN_FONT: .*not-a-font\.ttf"):
        find_font()


def test_machine_without_fontconfig_still_gets_a_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FONT_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("FONTCONFIG_FILE", "/nonexistent/for-this-test")  # a cache key of its own
    monkeypatch.setattr("heritage_align.report.fonts._USUAL_PLACES", ())
    assert find_font() == FontFace(None)


def test_shorten_and_wrap_stay_within_the_width() -> None:
    text = "a lattice of cloud scrolls with cranes and peaches of immortality"
    assert shorten(LATIN, 16, "short", 200) == "short"
    assert text_width(LATIN, 16, shorten(LATIN, 16, text, 120)) <= 120
    lines = wrap(LATIN, 16, text, 200, lines=9)
    assert " ".join(lines) == text
    assert all(text_width(LATIN, 16, line) <= 200 for line in lines)
    two = wrap(LATIN, 16, text, 200, lines=2)
    assert len(two) == 2
    assert two[0] == lines[0]
    assert two[1].endswith(("…", "..."))


def test_chinese_wraps_between_characters_but_not_before_a_comma(chinese_font: Path) -> None:
    face = FontFace(str(chinese_font), chinese=True)
    lines = wrap(face, 10, "牡丹鹤，龍云花", 30, lines=9)  # ten pixels a character: three fit
    assert lines == ["牡丹", "鹤，龍", "云花"]
