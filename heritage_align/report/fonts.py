"""Find a font that has Chinese characters: none can be shipped, no picture may show empty boxes instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from heritage_align.errors import HeritageAlignError

FONT_VARIABLE = "HERITAGE_ALIGN_FONT"
"""Environment variable that names a font file to use before all others."""

INSTALL_HINT = f"No Chinese font found: install one (Debian: fonts-noto-cjk) or set {FONT_VARIABLE}."

_SAMPLE = "卍牡丹鹤龍云"

# Fontconfig falls back along the list by itself; the Chinese faces come first because a Japanese face of the
# same file draws several characters in their Japanese form.
_FAMILIES = (
    "Noto Sans CJK SC,Source Han Sans SC,Noto Sans SC,PingFang SC,Microsoft YaHei,WenQuanYi Micro Hei,"
    "sans-serif:lang=zh-cn"
)

_USUAL_PLACES = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "/System/Library/Fonts/STHeiti Light.ttc",
    "C:/Windows/Fonts/msyh.ttc",
    "C:/Windows/Fonts/simhei.ttf",
    "C:/Windows/Fonts/simsun.ttc",
)

AnyFont = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class FontFace:
    """A font file and the face in it; `path` None is the Latin font inside Pillow.

    Attributes:
        path: the file.
        index: the face within a collection (.ttc).
        chinese: whether it has Chinese characters.
    """

    path: str | None
    index: int = 0
    chinese: bool = False

    def at(self, size: int) -> AnyFont:
        """Return the font at `size` pixels."""
        return _load(self, size)

    def covers(self, character: str) -> bool:
        """Say whether the font has a glyph of its own for this character."""
        return _covers(self, character)

    def drawable(self, text: str) -> str | None:
        """Return `text` on one line without what the font cannot draw, or None where letters would be lost.

        A missing symbol (an emoji, say) is left out; a missing letter or digit means that the text would say
        something else, and then it must not be drawn at all.
        """
        kept = []
        for character in " ".join(text.split()):
            if character == " " or self.covers(character):
                kept.append(character)
            elif unicodedata.category(character)[0] in "LN":
                return None
        return "".join(kept).strip() or None


@lru_cache(maxsize=64)
def _load(face: FontFace, size: int) -> AnyFont:
    if face.path is None:
        return ImageFont.load_default(size)
    return ImageFont.truetype(face.path, size, index=face.index)


@lru_cache(maxsize=8192)
def _covers(face: FontFace, character: str) -> bool:
    if not character.isprintable():
        return False
    # Pillow shows no character map. A font draws its "missing" glyph for a noncharacter, so whatever looks
    # like that glyph is missing. 24 px is enough to tell a drawn character from the empty box.
    font = face.at(24)
    return bytes(font.getmask(character)) != bytes(font.getmask("\U0010ffff"))


def find_font() -> FontFace:
    """Return the best font of this machine: with Chinese if there is one, else one for Latin text.

    Raises:
        HeritageAlignError: the environment variable names a file that is not a font.
    """
    return _find(os.environ.get(FONT_VARIABLE, ""), os.environ.get("FONTCONFIG_FILE", ""))


@lru_cache(maxsize=8)
def _find(wanted: str, _fontconfig: str) -> FontFace:
    if wanted:
        face = _chinese(wanted, 0)
        if face is None:
            raise HeritageAlignError(f"{FONT_VARIABLE}: {wanted} is not a font file that can be read")
        return face
    candidates = [_fontconfig_match(_FAMILIES), *((path, 0) for path in _USUAL_PLACES)]
    for path, index in filter(None, candidates):
        face = _chinese(path, index)
        if face is not None and face.chinese:
            return face
    latin = _fontconfig_match("sans-serif:lang=en")
    face = _chinese(*latin) if latin else None
    return face or FontFace(None)


def _chinese(path: str, index: int) -> FontFace | None:
    """Return the face with `chinese` found out by trying; None for a file that is no font."""
    try:
        ImageFont.truetype(path, 24, index=index)
    except OSError:
        return None
    plain = FontFace(path, index)
    return FontFace(path, index, chinese=all(plain.covers(c) for c in _SAMPLE))


def _fontconfig_match(pattern: str) -> tuple[str, int] | None:
    program = shutil.which("fc-match")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-f", "%{file}|%{index}", pattern],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    path, _, index = done.stdout.partition("|")
    # The upper half of fontconfig's index is the instance of a variable font, which Pillow does not take.
    face = int(index) & 0xFFFF if index.isdigit() else 0
    return (path, face) if Path(path).is_file() else None
