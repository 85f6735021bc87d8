"""The token and noun variants."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from heritage_align_plugins.fragments.config import NounsConfig, TokensConfig
from heritage_align_plugins.fragments.single_words import NounFragmenter, TokenFragmenter

from heritage_align.protocols import BuildContext, Fragmenter
from heritage_align.testing import Case, parametrize_with_checks
from heritage_align.types import TextItem


def tokens(text: str, **settings: Any) -> list[str]:
    fragmenter = TokenFragmenter(TokensConfig(**settings), BuildContext())
    assert isinstance(fragmenter, Fragmenter)
    return list(fragmenter.split(TextItem("t", text)))


def nouns(text: str, **settings: Any) -> list[str]:
    fragmenter = NounFragmenter(NounsConfig(**settings), BuildContext())
    assert isinstance(fragmenter, Fragmenter)
    return list(fragmenter.split(TextItem("t", text)))


def test_tokens_without_stop_words() -> None:
    assert tokens("A bowl with underglaze blue, and the bowl's lid.") == ["bowl", "underglaze", "blue", "lid"]
    assert tokens("a bowl, a lid", unique=False, stop_words="keep") == ["a", "bowl", "a", "lid"]
    assert tokens("一只红色的龙和三朵牡丹，") == ["一只", "红色", "龙", "三朵", "牡丹"]
    assert tokens("红色的龙，", stop_words="keep") == ["红色", "的", "龙"]


def test_chinese_characters_need_no_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    assert tokens("红色的龙, 17th c. 龙", chinese="characters") == ["红", "色", "的", "龙", "17th", "c"]
    assert tokens("龙龙", chinese="characters", unique=False) == ["龙", "龙"]


def test_nouns_in_order() -> None:
    assert nouns("A blue dragon above the waves and a dragon") == ["dragon", "waves"]
    assert nouns("高大的凤凰和三朵牡丹，凤凰", unique=False) == ["凤凰", "牡丹", "凤凰"]


@pytest.mark.parametrize("split", [tokens, nouns])
def test_a_text_without_any_is_its_own_fragment(split: Callable[[str], list[str]]) -> None:
    assert split(" of the ") == ["of the"]
    assert split("的") == ["的"]
    assert split("，。") == ["，。"]
    assert split("\n") == []


@parametrize_with_checks(
    [
        ("fragmenter", "tokens"),
        Case("fragmenter", "tokens", {"chinese": "characters", "stop_words": "keep"}),
        ("fragmenter", "nouns"),
    ]
)
def test_conformance(check: Callable[[], None]) -> None:
    check()
