"""Captions, phrases, domains and golden pairs say what the pictures show."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from heritage_align.data.motifs import Motifs
from heritage_align.data.motifs.captions import caption, ground_phrase, phrase
from heritage_align.data.motifs.design import Element, artwork
from heritage_align.data.motifs.vocabulary import COLOURS, GROUNDS, LANGUAGES, LAYOUTS, MOTIFS
from heritage_align.errors import DataError
from heritage_align.protocols import Dataset


def test_it_is_a_dataset(motifs: Motifs) -> None:
    assert isinstance(motifs, Dataset)
    assert len(motifs.image_ids) == len(set(motifs.image_ids)) == 48
    assert len({t.id for t in motifs.texts}) == len(motifs.texts) == 96
    with pytest.raises(DataError, match="motifs-test: has no image 'nowhere'"):
        motifs.load_image("nowhere")


def test_a_caption_by_hand() -> None:
    design = artwork(0, "test", 0, 1)[0]
    words = {e.motif: (e.colour, len(e.instances)) for e in design.elements}
    assert (design.layout, design.ground) == ("medallion", "crimson")
    assert words["knot"] == ("black", 2)
    text = Motifs("test", artworks=1, variants=1).texts[0].text
    assert text.startswith("大红地边框纹锦，")
    assert "两个黑色绳结" in text


@pytest.mark.parametrize("domain", ["general", "specialist"])
def test_a_caption_names_exactly_what_is_there(domain: str) -> None:
    data = Motifs("val", artworks=20, variants=3, size=64, domain=domain)  # type: ignore[arg-type]
    for item in data.texts:
        design = data.designs[item.image_ids[0]]
        assert item.language in LANGUAGES
        expected = [ground_phrase(design, item.language, domain)]  # type: ignore[arg-type]
        expected += [phrase(e, item.language, domain) for e in design.elements]  # type: ignore[arg-type]
        assert Counter(item.phrases) == Counter(expected)
        rest = item.text
        for name in sorted(item.phrases, key=len, reverse=True):
            assert rest.count(name) == 1, (name, item.text)
            rest = rest.replace(name, "")
        for motif in MOTIFS.values():  # no motif is named that is not there
            assert motif.name(item.language, domain) not in rest.split()  # type: ignore[arg-type]


def test_golden_pairs_are_the_instances_and_their_phrases(motifs: Motifs) -> None:
    phrases = {(t.image_ids[0], t.language): set(t.phrases) for t in motifs.texts}
    drawn = Counter(
        (image_id, phrase(e, "zh"), phrase(e, "en"))
        for image_id, design in motifs.designs.items()
        for e in design.elements
        for _ in e.instances
    )
    grounds = Counter(
        (image_id, ground_phrase(d, "zh"), ground_phrase(d, "en")) for image_id, d in motifs.designs.items()
    )
    assert Counter((g.image_id, *g.phrases) for g in motifs.golden) == drawn + grounds
    for pair in motifs.golden:
        for name, language in zip(pair.phrases, LANGUAGES):
            assert name in phrases[pair.image_id, language]


def test_plural_and_count_follow_the_picture() -> None:
    design = artwork(0, "test", 0, 1)[0]
    one = design.elements[0].instances[0]
    single, pair = Element("peony", "white", (one,)), Element("peony", "white", (one, one))
    assert phrase(single, "en") == "white peony"
    assert phrase(pair, "en") == "white peonies"
    assert phrase(pair, "zh") == "白色牡丹"
    assert phrase(pair, "zh", "specialist") == "铅白富贵花"
    assert phrase(pair, "en", "specialist") == "pearl moutan"


def test_the_two_domains_share_no_motif_word() -> None:
    for terms in (MOTIFS, COLOURS, GROUNDS, LAYOUTS):
        for term in terms.values():
            assert term.zh != term.zh_specialist
            assert term.en != term.en_specialist
        for language in LANGUAGES:
            for domain in ("general", "specialist"):
                names = [t.name(language, domain) for t in terms.values()]  # type: ignore[arg-type]
                assert len(set(names)) == len(names)


def test_pictures_do_not_depend_on_the_words() -> None:
    plain = Motifs("val", artworks=2, size=64)
    other = Motifs("val", artworks=2, size=64, domain="specialist", languages=("en",), noise=0.5)
    assert plain.designs == other.designs
    assert {t.language for t in other.texts} == {"en"}


def test_captions_fit_into_the_encoders_context() -> None:
    """52 tokens, [CLS] and [SEP] included, are what Chinese-CLIP reads."""
    tokenizer = pytest.importorskip("cn_clip.clip")._tokenizer
    for domain in ("general", "specialist"):
        lengths = [
            len(tokenizer.tokenize(t.text)) + 2
            for t in Motifs("test", artworks=60, size=64, domain=domain).texts  # type: ignore[arg-type]
        ]
        assert np.mean(np.array(lengths) <= 52) > 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "dev"}, "split: expected one of train, val, test, got 'dev'"),
        ({"domain": "slang"}, "domain: expected one of general, specialist"),
        ({"languages": ()}, "languages: expected some of zh, en"),
        ({"artworks": 0}, "artworks, variants: expected at least 1, got 0, 4"),
        ({"size": 10}, "size: expected at least 64 px, got 10"),
        ({"noise": 1.5}, "noise: expected 0..1, got 1.5"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match="motifs-.*: " + message.replace(".", r"\.")):
        Motifs(**settings)  # type: ignore[arg-type]


def test_templates_vary() -> None:
    design = artwork(0, "test", 0, 1)[0]
    rng = np.random.default_rng(0)
    assert len({caption(design, "zh", "general", rng).text for _ in range(40)}) > 6
    assert len({caption(design, "en", "general", rng).text for _ in range(40)}) > 6
