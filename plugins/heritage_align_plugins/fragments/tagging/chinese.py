"""Chinese words and their parts of speech by jieba."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from heritage_align.plugin import DataError, MissingDependency
from heritage_align.text import CHINESE, HAN, ICTCLAS
from heritage_align_plugins.fragments.tagging.english_words import STOP_WORDS
from heritage_align_plugins.fragments.tagging.ornaments import ATTRIBUTES, NOUNS
from heritage_align_plugins.fragments.tagging.token import Token

INSTALL = "pip install 'heritage-align[chinese]'"

_LATIN = rf"(?:(?!{HAN})[^\W_])"
_RUN = re.compile(
    rf"(?P<han>{HAN}+)|(?P<number>\d+(?:[.,]\d+)*%?)(?!{_LATIN})|(?P<word>{_LATIN}+(?:[-.'’]{_LATIN}+)*)|[^\s\w]|_"
)
_NUMERAL = re.compile("[〇零一二三四五六七八九十百千万两数几半双]+")
_GROUND = "地"
_LINK = "之"  # the 的 of older Chinese, which jieba tags as something else
_STOP_TAGS = ("c", "d", "e", "f", "o", "p", "q", "r", "u", "w", "x", "y")


class JiebaTagger:
    """jieba's dictionary, with the words of pattern catalogues added to it.

    Args:
        dictionary: more words, UTF-8, one a line with its ICTCLAS tag after a blank where it is no noun; None for none.

    Raises:
        MissingDependency: jieba is not installed.
        DataError: names the line of `dictionary` that is none.
    """

    grammar = CHINESE

    def __init__(self, dictionary: Path | None = None) -> None:
        words = [*((w, "b") for w in ATTRIBUTES), *((w, "n") for w in NOUNS)]
        if dictionary is not None:
            words += read_dictionary(dictionary)
        self._posseg = _load(_jieba(), tuple(words))

    def tag(self, text: str) -> list[Token]:
        """Return words and punctuation marks; what is not Chinese stays as it is between blanks and marks."""
        found = []
        for run in _RUN.finditer(text):
            if run["han"]:
                found += self._han(run[0], run.start())
            else:
                latin = run["word"] and run["word"] not in STOP_WORDS
                letter = "A" if run["number"] else "N" if latin else "O"
                found.append(Token(*run.span(), letter, letter != "O"))
        return found

    def _han(self, text: str, start: int) -> list[Token]:
        # Without the hidden Markov model, which joins characters that the dictionary does not know to new words across
        # the borders of known ones (地团, 山和). Single characters do no harm here: the grammar joins them again.
        pairs = [(pair.word, pair.flag) for pair in self._posseg.cut(text, HMM=False)]
        found = []
        for i, (word, flag) in enumerate(pairs):
            before = pairs[i - 1] if i else ("", "")
            letter = _letter(word, flag, before, pairs[i + 1][1] if i + 1 < len(pairs) else "")
            content = letter == "N" or not (letter == "Q" or flag.startswith(_STOP_TAGS))
            found.append(Token(start, start + len(word), letter, content))
            start += len(word)
        return found


def read_dictionary(path: Path) -> list[tuple[str, str]]:
    """Read ``word`` or ``word tag`` lines; ``#`` starts a remark.

    Raises:
        DataError: the file is not UTF-8, or names the first line with more than two parts.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8: {error}") from error
    words = []
    for number, line in enumerate(lines, start=1):
        parts = line.partition("#")[0].split()
        if len(parts) > 2:
            raise DataError(f"{path}:{number}: expected a word and perhaps its tag, got {line.strip()!r}")
        if parts:
            words.append((parts[0], parts[1] if len(parts) == 2 else "n"))
    return words


def _letter(word: str, flag: str, before: tuple[str, str], following: str) -> str:
    """Return the coarse letter of a word, with four corrections to what jieba calls it.

    Args:
        word: Chinese.
        flag: jieba's tag.
        before: the word before it and its tag.
        following: the tag of the word after it.
    """
    if word == _LINK:
        return "L"
    if word == _GROUND and before[1] != "d" and not following.startswith("v"):
        return "N"  # the ground of a pattern; the particle 地 stands between an adverb and a verb
    if flag == "x":
        return "N"  # unknown to the dictionary: a rare name
    if len(word) == 1 and flag[0] in "pv" and _NUMERAL.fullmatch(before[0]):
        return "Q"  # 三把扇子, 一弯月亮: a preposition or a verb elsewhere
    return ICTCLAS.get(flag, "O")


def _jieba() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jieba warns of its own use of pkg_resources and of its own strings
            import jieba
            import jieba.posseg
    except ImportError as error:
        raise MissingDependency(f"Chinese texts need jieba ({error}): {INSTALL}") from error
    return jieba


@lru_cache(maxsize=2)  # takes 2 s and 170 MB; nothing changes it afterwards, so that fragmenters can share it
def _load(jieba: Any, words: tuple[tuple[str, str], ...]) -> Any:
    # Its own way to start reads a cache of marshalled objects from the shared folder for temporary files, where anybody
    # may have put one. Counting the dictionary's 350,000 words instead takes 0.8 s.
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    for word, tag in words:
        tokenizer.add_word(word, tag=tag)
    return jieba.posseg.POSTokenizer(tokenizer)
