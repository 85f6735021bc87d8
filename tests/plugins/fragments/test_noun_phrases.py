"""Noun phrases of English and Chinese descriptions, with every tagger."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from heritage_align_plugins.fragments.config import NounPhrasesConfig
from heritage_align_plugins.fragments.phrases import NounPhraseFragmenter
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heritage_align.data.motifs import Motifs
from heritage_align.data.motifs.vocabulary import COLOURS, MOTIFS, Domain, Language
from heritage_align.errors import ConfigError, DataError, MissingDependency
from heritage_align.protocols import BuildContext, Fragmenter
from heritage_align.testing import Case, parametrize_with_checks
from heritage_align.types import TextItem

BOWL = "Porcelain straight-sided bowl with underglaze blue and overglaze enamels in ‘doucai’ style"


def built(**settings: Any) -> NounPhraseFragmenter:
    fragmenter = NounPhraseFragmenter(NounPhrasesConfig(**settings), BuildContext())
    assert isinstance(fragmenter, Fragmenter)
    return fragmenter


def split(text: str, language: str | None = None, **settings: Any) -> list[str]:
    return list(built(**settings).split(TextItem("t", text, language=language)))


def test_the_example_of_the_paper() -> None:
    """All seven phrases of Sheng et al. 2021, section 4.2, and five more: the first word counts as a noun here, and the
    phrase goes on after the closing quotation mark."""
    assert split(BOWL) == [
        "Porcelain straight-sided bowl",
        "Porcelain straight-sided bowl with underglaze blue",
        "straight-sided bowl",
        "straight-sided bowl with underglaze blue",
        "bowl with underglaze blue",
        "underglaze blue",
        "overglaze enamels",
        "overglaze enamels in ‘doucai’",
        "overglaze enamels in ‘doucai’ style",
        "enamels in ‘doucai’",
        "enamels in ‘doucai’ style",
        "‘doucai’ style",
    ]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Mosaic Floor with Bear Hunt", ["Mosaic Floor with Bear Hunt"]),
        ("Mosaic of a Lion Attacking an Onager", ["Mosaic of a Lion", "Onager"]),
        ("The vase is decorated with a painted blue dragon.", ["vase", "painted blue dragon"]),
        ("a lady holding red flowers, gilt", ["lady", "red flowers", "gilt"]),
        ("the emperor's seal, 17th century", ["emperor", "seal", "17th century"]),
        ("underglaze blue; bright and very beautiful", ["underglaze blue"]),
        ("red\n  ground", ["red ground"]),
        ("about 1,500 coins", ["1,500 coins"]),
        ("very beautiful", ["very beautiful"]),
        ("红地团窠牡丹纹锦，四角饰云纹", ["红地团窠牡丹纹锦", "云纹"]),
        ("美丽的凤凰和一只红色的龙", ["美丽的凤凰", "一只红色的龙"]),
        ("三把扇子，龙之爪", ["三把扇子", "龙之爪"]),
        ("慢慢地飞舞", ["飞舞"]),
        ("维生素C，20% 的银，17th (wan-fret)", ["维生素C", "20% 的银", "17th", "wan-fret"]),
    ],
)
def test_maximal_phrases_by_hand(text: str, phrases: list[str]) -> None:
    assert split(text, spans="maximal") == phrases


def test_lone_nouns_are_kept_or_stand_in_where_there_is_no_phrase() -> None:
    assert split("red peonies and cranes") == ["red peonies", "cranes"]
    assert split("red peonies and cranes", lone_nouns=False) == ["red peonies"]
    assert split("peonies and cranes", lone_nouns=False) == ["peonies", "cranes"]
    assert split("and", lone_nouns=False) == ["and"]
    assert split(" \n") == []


def test_lengths_and_repetitions() -> None:
    assert split("blue silk robe", min_length=1, max_length=2) == ["blue silk", "silk", "silk robe", "robe"]
    assert split("a red bat, a red bat") == ["red bat"]
    assert split("a red bat, a red bat", unique=False) == ["red bat", "red bat"]
    with pytest.raises(ValidationError, match="min_length 3 is above max_length 2"):
        NounPhrasesConfig(min_length=3, max_length=2)


def test_the_language_of_the_text_decides_before_its_script() -> None:
    assert split("龙", language="en") == ["龙"]
    assert split("silk with dragon", language="zh") == ["silk", "dragon"]
    assert split("silk with dragon", language=None) == ["silk with dragon"]


def test_clusters_keep_the_longest_phrase_or_are_told_as_groups() -> None:
    assert split(BOWL, clusters="longest") == [
        "Porcelain straight-sided bowl with underglaze blue",
        "overglaze enamels in ‘doucai’ style",
    ]
    item = TextItem("t", BOWL)
    mean = built(clusters="mean")
    phrases = mean.split(item)
    assert phrases == built().split(item)
    assert mean.groups(phrases) == [tuple(range(6)), tuple(range(6, 12))]
    assert mean.groups(()) == []
    assert built(clusters="longest").groups(phrases[:2]) == [(0,), (1,)]
    assert len(split(BOWL, clusters="longest", threshold=1.0)) == 12


@pytest.mark.parametrize(
    ("language", "domain", "share"),
    [("en", "general", 1.0), ("en", "specialist", 0.96), ("zh", "general", 1.0), ("zh", "specialist", 0.75)],
)
def test_annotated_phrases_of_captions_are_found(language: Language, domain: Domain, share: float) -> None:
    """Names that no dictionary has (琅玕, changqing) are missed; see the next test."""
    texts = Motifs("val", 20, 2, languages=(language,), domain=domain).texts
    assert found(built(), texts) >= share


def test_a_dictionary_of_its_words_helps_a_collection(tmp_path: Path) -> None:
    names = [term.zh_specialist for terms in (MOTIFS, COLOURS) for term in terms.values()]
    path = tmp_path / "words.txt"
    path.write_text("# names\n" + "\n".join(names) + "\n缠枝 b  # an attribute\n", encoding="utf-8")
    texts = Motifs("val", 20, 2, languages=("zh",), domain="specialist").texts
    assert found(built(dictionary=path), texts) >= 0.99


def found(fragmenter: NounPhraseFragmenter, texts: tuple[TextItem, ...]) -> float:
    hits = [phrase in fragmenter.split(text) for text in texts for phrase in text.phrases]
    return sum(hits) / len(hits)


def test_a_dictionary_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("缠枝 b\n缠枝 100 b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"words.txt:2: expected a word and perhaps its tag, got '缠枝 100 b'"):
        split("龙", dictionary=path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=r"words.txt: cannot be read as UTF-8"):
        split("龙", dictionary=path)


MIXED = st.text(st.sampled_from("红地龙的一三朵和，。之 ab'‘’-,.\n1é地") | st.characters(), max_size=40)


@settings(deadline=None)
@given(MIXED, st.sampled_from(["zh", "en", None]), st.sampled_from(["all", "maximal"]))
def test_fragments_are_parts_of_any_text(text: str, language: str | None, spans: str) -> None:
    fragments = FRAGMENTERS[spans].split(TextItem("t", text, language=language))
    assert bool(fragments) == bool(text.strip())
    assert all(fragment == fragment.strip() and fragment in " ".join(text.split()) for fragment in fragments)


FRAGMENTERS = {spans: built(spans=spans) for spans in ("all", "maximal")}


@pytest.mark.parametrize(("english", "module"), [("nltk", "nltk.tag.perceptron"), ("spacy", "spacy")])
def test_a_library_that_is_not_installed(english: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=rf"english: {english} is not installed .*heritage-align\[english\]"):
        built(english=english)


def test_jieba_is_needed_for_chinese_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    assert split("red bat") == ["red bat"]
    with pytest.raises(MissingDependency, match=r"Chinese texts need jieba .*heritage-align\[chinese\]"):
        split("红地")


def test_taggers_without_their_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    with pytest.raises(MissingDependency, match="python -m nltk.downloader averaged_perceptron_tagger_eng"):
        built(english="nltk")
    with pytest.raises(MissingDependency, match="no model 'no_such_model'.*python -m spacy download no_such_model"):
        built(english="spacy", model="no_such_model")
    with pytest.raises(ConfigError, match="spacy cannot load"):
        built(english="spacy", model=str(tmp_path))


TRAINING = [
    [("the", "DT"), ("seal", "NN"), ("wobbles", "VBZ"), ("near", "IN"), ("a", "DT"), ("jade", "JJ"), ("cup", "NN")],
    [("a", "DT"), ("jade", "JJ"), ("seal", "NN"), ("wobbles", "VBZ"), (".", ".")],
] * 10
"""Enough for a tagger of its own words; "wobbles" is a noun to the rules, so that one can tell who tagged."""


def test_nltk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nltk.tag.perceptron import PerceptronTagger

    tagger = PerceptronTagger(load=False)
    tagger.train([list(sentence) for sentence in TRAINING])
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    tagger.save_to_json(lang="eng", loc=str(tmp_path / "taggers" / "averaged_perceptron_tagger_eng"))
    text = "The seal wobbles near a jade cup. A ‘jade’ seal wobbles."
    assert split(text, english="nltk") == ["seal", "jade cup", "‘jade’ seal"]
    assert "seal wobbles" in split(text, english="rules")


@pytest.mark.parametrize("part", ["tagger", "morphologizer"])
def test_spacy(part: str, tmp_path: Path) -> None:
    import spacy
    from spacy.training import Example

    universal = {"DT": "DET", "NN": "NOUN", "VBZ": "VERB", "IN": "ADP", "JJ": "ADJ", ".": "PUNCT"}
    pipeline = spacy.blank("en")
    pipeline.add_pipe(part)
    examples = []
    for sentence in TRAINING:
        words, tags = zip(*sentence)
        annotated = {"tags": list(tags)} if part == "tagger" else {"pos": [universal[tag] for tag in tags]}
        examples.append(Example.from_dict(spacy.tokens.Doc(pipeline.vocab, words), {"words": words, **annotated}))
    optimiser = pipeline.initialize(lambda: examples)
    for _ in range(10):
        pipeline.update(examples, sgd=optimiser)
    pipeline.to_disk(tmp_path / "model")
    settings = {"english": "spacy", "model": str(tmp_path / "model")}
    assert split("the seal  wobbles near a jade cup", **settings) == ["seal", "jade cup"]


def test_a_spacy_model_without_a_tagger(tmp_path: Path) -> None:
    import spacy

    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(ConfigError, match="has no tagger"):
        built(english="spacy", model=str(tmp_path))


@parametrize_with_checks(
    [
        ("fragmenter", "noun_phrases"),
        Case("fragmenter", "noun_phrases", {"spans": "maximal", "lone_nouns": False}),
        Case("fragmenter", "noun_phrases", {"clusters": "longest"}),
    ]
)
def test_conformance(check: Callable[[], None]) -> None:
    check()
