"""Translation noise hits words at the rate asked for, and only English ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heritage_align.data.motifs import Motifs
from heritage_align.data.motifs.captions import Caption, Segment, caption
from heritage_align.data.motifs.design import artwork
from heritage_align.data.motifs.noise import corrupt


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_the_rate_is_the_measured_one(rate: float) -> None:
    words = hits = 0
    for number in range(300):
        rng = np.random.default_rng((7, number))
        noisy = corrupt(caption(artwork(0, "train", number, 1)[0], "en", "general", rng), rate, rng)
        words, hits = words + noisy.words, hits + noisy.hits
    deviation = math.sqrt(rate * (1 - rate) / words)
    assert abs(hits / words - rate) < 4 * deviation  # fixed seed: it fails only if the rate is wrong


def test_no_noise_changes_nothing_and_full_noise_hits_all() -> None:
    words = caption(artwork(0, "train", 1, 1)[0], "en", "general", np.random.default_rng(0))
    assert corrupt(words, 0.0, np.random.default_rng(0)).caption == words
    everything = corrupt(words, 1.0, np.random.default_rng(0))
    assert everything.hits == everything.words
    assert everything.caption.text != words.text


def test_the_three_kinds_of_hits() -> None:
    """One run of three words, one word hit at a time: dropped, swapped with the next, or another colour."""
    original = ("two", "red", "cranes")
    seen = {"dropped": False, "swapped": False, "replaced": False}
    for seed in range(400):
        noisy = corrupt(Caption("en", (Segment(original, phrase=True),)), 0.2, np.random.default_rng(seed))
        if noisy.hits != 1:
            continue
        left = tuple(noisy.caption.segments[0].words)
        if len(left) == 2:
            seen["dropped"] = True
            assert set(left) < set(original)
        elif sorted(left) == sorted(original):
            seen["swapped"] = True
            assert left in {("red", "two", "cranes"), ("two", "cranes", "red")}
        else:
            seen["replaced"] = True
            assert sum(a != b for a, b in zip(left, original)) == 1
    assert all(seen.values())


def test_phrases_stay_parts_of_the_noisy_text_and_chinese_stays_clean() -> None:
    clean, noisy = (Motifs("train", artworks=15, size=64, noise=rate) for rate in (0.0, 0.4))
    changed = 0
    for before, after in zip(clean.texts, noisy.texts):
        if before.language == "zh":
            assert before == after
        else:
            changed += before.text != after.text
            assert all(name in after.text for name in after.phrases)
    assert changed > 50  # of 60: a caption of 15 words escapes noise of 0.4 with a chance of 0.0005
    assert clean.golden == noisy.golden


def test_bad_input_is_named() -> None:
    english = Caption("en", (Segment(("one", "fan")),))
    with pytest.raises(ValueError, match="rate: expected a probability, got 2"):
        corrupt(english, 2.0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="only English captions"):
        corrupt(Caption("zh", (Segment(("扇子",)),)), 0.1, np.random.default_rng(0))
