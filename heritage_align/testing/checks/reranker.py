"""Checks of rerankers."""

from __future__ import annotations

import math
from unittest import SkipTest

import numpy as np
import torch
from PIL import Image as pillow
from PIL.Image import Image
from torch import Tensor

from heritage_align.component import RerankerConfig
from heritage_align.planning import looks_for
from heritage_align.protocols import DetailReranker, Reranker
from heritage_align.testing import samples
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect, expect_close
from heritage_align.types import Match

TEXTS = tuple(item.text for item in samples.TEXTS)


def _rater(case: Case) -> Reranker:
    if "texts" not in looks_for(case.component):
        raise SkipTest("takes no texts")
    reranker: Reranker = case.build()
    return reranker


def _finder(case: Case) -> DetailReranker:
    if "details" not in looks_for(case.component):
        raise SkipTest("looks for no details")
    reranker: DetailReranker = case.build()
    return reranker


def _pairs() -> list[tuple[Image, str]]:
    """Return every sample picture, each with one of the texts in turn."""
    return [(picture, TEXTS[number % len(TEXTS)]) for number, picture in enumerate(samples.images().values())]


def _rated(reranker: Reranker, pairs: list[tuple[Image, str]]) -> Tensor:
    rated = reranker.rate(pairs)
    shape = tuple(getattr(rated, "shape", ()))
    expect(shape == (len(pairs),), f"rate() of {len(pairs)} pairs has shape {shape}, expected ({len(pairs)},)")
    return rated


@check("reranker")
def check_candidates_are_a_setting(case: Case) -> None:
    """`search.last.candidates` says how many pictures are looked at, whichever component looks."""
    model = type(case.config)
    expect(isinstance(case.config, RerankerConfig), f"{model.__name__} is no subclass of RerankerConfig")


@check("reranker")
def check_ratings(case: Case) -> None:
    """One finite fp32 number a pair, for a picture of one pixel and a scroll too, and no autograd graph kept."""
    rated = _rated(_rater(case), _pairs())
    expect(rated.dtype == torch.float32, f"rate() gave {rated.dtype}, expected torch.float32")
    expect(bool(rated.isfinite().all()), f"rate() gave {rated.tolist()}, expected finite numbers")
    expect(not rated.requires_grad, "rate() requires a gradient")


@check("reranker")
def check_ratings_do_not_depend_on_the_batch(case: Case) -> None:
    """The first 20 answers are rated together, whatever they are: padding to the longest must not reach the others."""
    reranker, pairs = _rater(case), _pairs()
    together = _rated(reranker, pairs)
    alone = torch.cat([_rated(reranker, [pair]) for pair in pairs])
    expect_close(alone, together, "pairs rated alone, against the batch")
    expect_close(_rated(reranker, pairs[::-1]).flip(0), together, "pairs in another order")


@check("reranker")
def check_reranker_is_deterministic(case: Case) -> None:
    """A model that samples its answer ranks differently at every look."""
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        reranker = _rater(case)
        torch.manual_seed(seed + 10)
        results.append((_rated(reranker, _pairs()), reranker.fingerprint()))
    expect_close(results[1][0], results[0][0], "pairs rated by a second build", 1e-6)
    expect(results[0][1] == results[1][1], f"fingerprints differ: {results[0][1]!r} and {results[1][1]!r}")


@check("reranker")
def check_both_sides_matter(case: Case) -> None:
    """A picture that is left out of the prompt, or a text, passes every other check here."""
    reranker = _rater(case)
    pictures = samples.images()
    one, other = pictures["pattern"], pictures["noise"]
    base, by_picture, by_text = _rated(reranker, [(one, TEXTS[0]), (other, TEXTS[0]), (one, TEXTS[1])]).tolist()
    expect(base != by_picture, f"two different pictures are rated {base} for one text")
    expect(base != by_text, f"one picture is rated {base} for two different texts")


@check("reranker")
def check_no_pairs(case: Case) -> None:
    """A search without answers has nothing to look at: no numbers, not a traceback."""
    _rated(_rater(case), [])


@check("reranker")
def check_reranker_refuses_blank_texts(case: Case) -> None:
    """A blank query has ratings too, and they look like ratings."""
    reranker = _rater(case)
    picture = samples.images()["pattern"]
    for blank in ("", " \n\t", "　"):
        try:
            reranker.rate([(picture, TEXTS[0]), (picture, blank)])
        except ValueError:
            continue
        raise AssertionError(f"rate() takes the blank text {blank!r}; raise ValueError")


@check("reranker")
def check_reranker_leaves_pictures_alone(case: Case) -> None:
    """PIL's thumbnail() changes a picture in place, and the report shows it afterwards."""
    pairs = _pairs()
    before = [(picture.size, picture.tobytes()) for picture, _ in pairs]
    _rater(case).rate(pairs)
    changed = [place for place, (picture, _) in enumerate(pairs) if (picture.size, picture.tobytes()) != before[place]]
    expect(not changed, f"rate() changes pictures in place, those at {changed}")


def _compared(reranker: DetailReranker, detail: Image, images: list[Image]) -> list[Match]:
    found = list(reranker.compare(detail, images))
    expect(len(found) == len(images), f"compare() of {len(images)} pictures gave {len(found)} matches")
    return found


def _blocks(seed: int) -> Image:
    """Return a picture of 128 x 128 pixels with corners of many kinds: blocks of 8 in colours by chance."""
    colours = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return pillow.fromarray(colours.repeat(8, axis=0).repeat(8, axis=1))


@check("reranker")
def check_matches(case: Case) -> None:
    """One finite score a picture and a box within it, for a picture of one pixel and a scroll too, as picture and as
    detail."""
    reranker, pictures = _finder(case), samples.images()
    for name, detail in pictures.items():
        for (other, picture), match in zip(pictures.items(), _compared(reranker, detail, list(pictures.values()))):
            what = f"compare() of {name} with {other} gave {match}"
            expect(isinstance(match, Match), f"{what}, expected a Match")
            expect(math.isfinite(match.score) and match.score >= 0, f"{what}, expected a score of 0 or more")
            if match.box is not None:
                x0, y0, x1, y1 = match.box
                inside = 0 <= x0 < x1 <= picture.width and 0 <= y0 < y1 <= picture.height
                expect(inside, f"{what}, and the picture is {picture.width} x {picture.height}")


@check("reranker")
def check_matches_do_not_depend_on_the_batch(case: Case) -> None:
    """The best answers are compared together, whatever they are: the same picture must score the same among others."""
    reranker, detail = _finder(case), _blocks(0).crop((16, 16, 80, 80))
    pictures = [_blocks(0), _blocks(1), *samples.images().values()]
    together = _compared(reranker, detail, pictures)
    alone = [_compared(reranker, detail, [picture])[0] for picture in pictures]
    expect(alone == together, f"pictures compared alone give {alone}, together {together}")
    turned = _compared(reranker, detail, pictures[::-1])[::-1]
    expect(turned == together, f"pictures in another order give {turned}, expected {together}")


@check("reranker")
def check_matches_are_deterministic(case: Case) -> None:
    """An estimate by drawing lots ranks differently at every look, unless it has a generator of its own."""
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        reranker = _finder(case)
        detail = _blocks(0).crop((16, 16, 80, 80))
        results.append((_compared(reranker, detail, [_blocks(0), _blocks(1)]), reranker.fingerprint()))
    expect(results[0] == results[1], f"two builds give {results[0]} and {results[1]}")


@check("reranker")
def check_a_copy_is_found(case: Case) -> None:
    """A score that is lower for what is alike ranks every answer backwards."""
    picture, other = _blocks(0), _blocks(1)
    copy, unlike = _compared(_finder(case), picture, [picture.copy(), other])
    expect(copy.score > unlike.score, f"a copy of a picture scores {copy.score}, an unrelated one {unlike.score}")


@check("reranker")
def check_no_pictures_to_compare(case: Case) -> None:
    """A search without answers has nothing to look at: no matches, not a traceback."""
    _compared(_finder(case), _blocks(0), [])


@check("reranker")
def check_compared_pictures_are_left_alone(case: Case) -> None:
    """PIL's thumbnail() changes a picture in place, and the next detail is compared with what is left of it."""
    reranker, detail, pictures = _finder(case), _blocks(0), [_blocks(1), *samples.images().values()]
    before = [(picture.size, picture.tobytes()) for picture in (detail, *pictures)]
    reranker.compare(detail, pictures)
    after = [(picture.size, picture.tobytes()) for picture in (detail, *pictures)]
    changed = [place for place, state in enumerate(after) if state != before[place]]
    expect(not changed, f"compare() changes pictures in place, those at {changed} of the detail and the pictures")
