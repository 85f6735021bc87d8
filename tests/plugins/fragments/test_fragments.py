"""Fragments of Chinese and English descriptions, by hand and by property."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from heritage_align_plugins.fragments.annotated import AnnotatedFragmenter
from heritage_align_plugins.fragments.config import AnnotatedConfig, PunctuationConfig
from heritage_align_plugins.fragments.punctuation import PunctuationFragmenter
from heritage_align_plugins.fragments.words import CHINESE_WORDS
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.protocols import BuildContext, Fragmenter
from heritage_align.testing import parametrize_with_checks
from heritage_align.types import TextItem

DATA = Path(__file__).parents[4] / "shared" / "data"


def split(text: str, **settings: Any) -> list[str]:
    fragmenter = PunctuationFragmenter(PunctuationConfig(**settings), BuildContext())
    assert isinstance(fragmenter, Fragmenter)
    return list(fragmenter.split(TextItem("t", text)))


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("团窠对凤纹，四周环绕牡丹；底饰龟背纹。", ["团窠对凤纹", "四周环绕牡丹", "底饰龟背纹"]),
        ("一朵牡丹和两只凤凰", ["一朵牡丹", "两只凤凰"]),
        ("海水江崖与五爪金龙以及如意云", ["海水江崖", "五爪金龙", "如意云"]),
        ("蝙蝠、寿桃、卍字及其地纹", ["蝙蝠", "寿桃", "卍字", "地纹"]),
        ("和田玉和埃及棉，颐和园", ["和田玉", "埃及棉", "颐和园"]),
        ("参与者与祥和云", ["参与者", "祥和云"]),
        ("蒜苗（又名青蒜：大蒜的幼苗）", ["蒜苗", "又名青蒜", "大蒜的幼苗"]),
        ("“双鱼”纹——“莲花”", ["“双鱼”纹", "莲花"]),
        ("红地\n金龙\t祥云", ["红地", "金龙", "祥云"]),
    ],
)
def test_chinese(text: str, fragments: list[str]) -> None:
    assert split(text) == fragments


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("Mosaic Floor with Orpheus and Animals", ["Mosaic Floor", "Orpheus", "Animals"]),
        ("Mosaic Floor with Head of Medusa", ["Mosaic Floor", "Head of Medusa"]),
        ("a crane, two peonies; and a wave ground.", ["a crane", "two peonies", "a wave ground"]),
        ("A vase together with its lid & stand", ["A vase", "its lid", "stand"]),
        ("bowl, diam. 3.5 cm, c. 1,500 BCE", ["bowl", "diam. 3.5 cm", "c. 1,500 BCE"]),
        ("by J. Paul Getty. Inv. 72.AH.76.1–.23", ["by J. Paul Getty", "Inv. 72.AH.76.1–.23"]),
        ("scale 4:3, dated 1640–1650 – silk", ["scale 4:3", "dated 1640–1650", "silk"]),
        ("two fish (red and blue) in a bowl", ["two fish", "red", "blue", "in a bowl"]),
        ("a sandy island without orchids", ["a sandy island without orchids"]),
        ("hand-and-arm; silk-and-gold brocade", ["hand-and-arm", "silk-and-gold brocade"]),
        ("\"Head\" or \"Bust\", 'a' to 'b'", ["Head", "Bust", "'a' to 'b'"]),
        ("Tang dynasty AND Song dynasty", ["Tang dynasty", "Song dynasty"]),
    ],
)
def test_english(text: str, fragments: list[str]) -> None:
    assert split(text) == fragments


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("a blue and white porcelain vase", ["a blue and white porcelain vase"]),
        ("Blue and White Vase with dragons", ["Blue and White Vase", "dragons"]),
        ("a crane and a blue & white jar", ["a crane", "a blue & white jar"]),
        ("gold and silver thread, black or brown ink", ["gold and silver thread", "black or brown ink"]),
        ("large and small pale cranes above dark-blue and greenish waves", [
            "large and small pale cranes above dark-blue and greenish waves"
        ]),
        ("a carved and painted wooden figure", ["a carved and painted wooden figure"]),
        ("Chinese and Japanese red and gold robes", ["Chinese and Japanese red and gold robes"]),
        # Things, each of its own.
        ("a crane and a lotus", ["a crane", "a lotus"]),
        ("a red and a white lotus", ["a red", "a white lotus"]),
        ("a red crane and white lotuses", ["a red crane", "white lotuses"]),
        ("cranes and white lotuses", ["cranes", "white lotuses"]),
        ("two red and three white cranes", ["two red", "three white cranes"]),
        ("a crane flying and white clouds", ["a crane flying", "white clouds"]),
        ("clasps of gold and silver", ["clasps of gold", "silver"]),
        ("a lid in blue and white with a knob", ["a lid in blue", "white", "a knob"]),
        ("blue and", ["blue"]),
    ],
)  # fmt: skip
def test_adjectives_of_one_noun_stay_together(text: str, fragments: list[str]) -> None:
    assert split(text) == fragments


def test_connectives_can_be_left_alone() -> None:
    assert split("一朵牡丹和两只凤凰，云", connectives=False) == ["一朵牡丹和两只凤凰", "云"]
    assert split("a crane and two peonies, ca. 1700. Silk", connectives=False) == [
        "a crane and two peonies",
        "ca. 1700",
        "Silk",
    ]


def test_brackets_can_be_dropped() -> None:
    assert split("蒜苗（青蒜（幼苗）），葱", brackets="drop") == ["蒜苗", "葱"]
    assert split("a (b [c) d] e", brackets="drop") == ["a", "d", "e"]
    assert split("bowl (lost", brackets="drop") == ["bowl", "lost"]
    assert split("((a) b", brackets="drop") == ["b"]


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("(" * 100_000 + "x" + ")" * 100_000 + "y", ["y"]),
        ("(" * 200_000 + "x", ["x"]),
        ("[(" * 100_000 + "])" * 100_000 + "y", ["y"]),
        ("x" + " " * 200_000 + "y, z", ["x" + " " * 200_000 + "y", "z"]),
        ("v. " * 100_000 + "x, y", ["v. " * 100_000 + "x", "y"]),
        ("x" * 200_000 + ". y", ["x" * 200_000, "y"]),
    ],
    ids=["nested", "open", "crossed", "blanks", "abbreviations", "a long word"],
)
def test_long_texts_are_cut_in_the_time_of_their_length(text: str, fragments: list[str]) -> None:
    # In the square of it, as once, each takes minutes.
    assert split(text, brackets="drop") == fragments


def test_a_bracket_ends_at_the_next_closing_one_of_its_kind() -> None:
    assert split("a [b (c] d) e", brackets="drop") == ["a", "d", "e"]
    assert split("a）b（c", brackets="drop") == ["a", "b", "c"]


def test_repetitions() -> None:
    assert split("云，龙，云") == ["云", "龙"]
    assert split("云，龙，云", unique=False) == ["云", "龙", "云"]


def test_nothing_but_punctuation_is_its_own_fragment() -> None:
    assert split(" ，。 ") == ["，。"]
    assert split("(red and blue)", brackets="drop") == ["(red and blue)"]
    assert split("和") == ["和"]
    assert split(" \n") == []


@pytest.mark.parametrize("word", CHINESE_WORDS)
def test_words_that_hold_a_connective_stay_whole(word: str) -> None:
    assert split(f"龙，{word}") == ["龙", word]


def test_connectives_between_words_that_look_like_another() -> None:
    assert split("吉祥和如意，祥和") == ["吉祥", "如意", "祥和"]
    assert split("色调和构图调和") == ["色调", "构图调和"]
    assert split("仙人和鹤，丝绸和服饰，水波及山石") == ["仙人", "鹤", "丝绸", "服饰", "水波", "山石"]


@given(
    st.text(st.sampled_from("牡丹和与及龙，。（）【】 ab,.:;()\n1-—'&") | st.characters(), max_size=40),
    st.booleans(),
    st.sampled_from(["split", "drop"]),
)
def test_fragments_are_parts_of_the_text_in_order(text: str, connectives: bool, brackets: str) -> None:
    found = split(text, connectives=connectives, brackets=brackets, unique=False)
    assert bool(found) == bool(text.strip())
    at = 0
    for fragment in found:
        assert fragment == fragment.strip()
        assert fragment
        at = text.index(fragment, at) + len(fragment)


def test_annotated_phrases_come_first() -> None:
    fragmenter = AnnotatedFragmenter(AnnotatedConfig(), BuildContext())
    assert isinstance(fragmenter, Fragmenter)
    item = TextItem("t", "一朵牡丹和两只凤凰", phrases=("牡丹 ", "", "\u200b", "凤凰，成双", "牡丹"))
    assert fragmenter.split(item) == ("牡丹", "凤凰，成双")
    repeated = AnnotatedFragmenter(AnnotatedConfig(unique=False), BuildContext())
    assert repeated.split(item) == ("牡丹", "凤凰，成双", "牡丹")


def test_texts_without_phrases_fall_back() -> None:
    fragmenter = AnnotatedFragmenter(AnnotatedConfig(connectives=False), BuildContext())
    assert fragmenter.split(TextItem("t", "牡丹和凤凰，云")) == ("牡丹和凤凰", "云")
    assert fragmenter.split(TextItem("t", "牡丹", phrases=(" ",))) == ("牡丹",)


def test_real_descriptions() -> None:
    folder = DATA / "howtocook"
    if not folder.exists():
        pytest.skip(f"{folder} is not there: the descriptions are not shipped")
    counts = []
    for line in (folder / "dishes.jsonl").read_text().splitlines():
        text = json.loads(line)["text"]
        found = split(text)
        counts.append(len(found))
        assert all(fragment in text for fragment in found)
        assert not any(mark in fragment for fragment in found for mark in "，。；")
    assert len(counts) == 90
    assert min(counts) >= 2


@parametrize_with_checks([("fragmenter", "annotated"), ("fragmenter", "punctuation")])
def test_conformance(check: Callable[[], None]) -> None:
    check()
