"""One form of each character, and simplified Chinese where a vocabulary is of it."""

from __future__ import annotations

import sys

import pytest
from cn_clip.clip import _tokenizer
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.errors import MissingDependency
from heritage_align.text import (
    character_reader,
    characters,
    is_blank,
    known_form,
    plain_characters,
    prefers_simplified,
    to_simplified,
)

opencc = pytest.importorskip("opencc", reason="the optional extra 'chinese' is not installed")


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Ｑｉｎｇ　１７３６", "Qing 1736"),
        ("慶\uf9b4福\ufa1b", "慶領福福"),  # compatibility ideographs
        ("⼤⾦", "大金"),  # radicals
        ("cafe\u0301", "café"),
        ("青\u200b花\ufeff瓷\u00ad", "青花瓷"),
        ("葛\U000e0100飾", "葛飾"),
        ("蓝地，红花！（一对）：", "蓝地，红花！（一对）："),
        ("ｶﾞﾗｽ", "ガラス"),
        ("① ㎝ Å", "① ㎝ Å"),
    ],
)
def test_forms_of_one_character_are_one(written: str, plain: str) -> None:
    assert plain_characters(written) == plain


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\ufeff \u00ad", "\u2060\ufe0f", "\u3000\u200b"])
def test_what_shows_nothing_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(f"{text}花")


@given(st.text())
def test_what_is_not_blank_leaves_something_to_read(text: str) -> None:
    assert is_blank(text) == (not plain_characters(text).strip())


@given(st.text())
def test_the_plain_form_is_plain(text: str) -> None:
    assert plain_characters(plain_characters(text)) == plain_characters(text)


def test_words_are_converted_and_names_kept() -> None:
    assert to_simplified("乾隆年製，皇后的頭髮與乾燥的後面") == "乾隆年制，皇后的头发与干燥的后面"
    assert characters.traditional_characters("青花瓷 blue é") == []


def test_a_vocabulary_says_what_it_is_of() -> None:
    assert prefers_simplified(_tokenizer.vocab)
    both = {character for pair in characters._pairs() for character in pair}
    assert not prefers_simplified(both)
    assert not prefers_simplified({traditional for traditional, _ in characters._pairs()})
    assert not prefers_simplified({"silk", "crane"})
    assert len(characters._pairs()) > 2000


def test_settings() -> None:
    vocabulary = _tokenizer.vocab
    assert character_reader("auto", vocabulary)("藍　地") == "蓝 地"
    assert character_reader("as_written", vocabulary)("藍　地") == "藍 地"
    assert character_reader("auto", {"silk"})("藍") == "藍"
    assert character_reader("simplified", {"silk"})("藍") == "蓝"


def test_a_token_takes_the_form_that_is_known() -> None:
    assert known_form("龍", {"龙"}) == "龙"
    assert known_form("龙", {"龍"}) == "龍"
    assert known_form("龍", {"龍", "龙"}) == "龍"
    assert known_form("龍", {"凤"}) == "龍"


def test_without_opencc_text_stays_and_the_setting_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opencc", None)
    cached = (characters._converter, characters._pairs)
    for function in cached:
        function.cache_clear()
    try:
        assert character_reader("auto", _tokenizer.vocab)("藍　地") == "藍 地"
        assert known_form("龍", {"龙"}) == "龍"
        with pytest.raises(MissingDependency, match=r"heritage-align\[chinese\]"):
            character_reader("simplified", {})
    finally:
        for function in cached:
            function.cache_clear()
