"""Checks of rerankers."""

from __future__ import annotations

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.component import RerankerConfig
from heritage_align.protocols import Reranker
from heritage_align.testing import samples
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect, expect_close

TEXTS = tuple(item.text for item in samples.TEXTS)


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
    rated = _rated(case.build(), _pairs())
    expect(rated.dtype == torch.float32, f"rate() gave {rated.dtype}, expected torch.float32")
    expect(bool(rated.isfinite().all()), f"rate() gave {rated.tolist()}, expected finite numbers")
    expect(not rated.requires_grad, "rate() requires a gradient")


@check("reranker")
def check_ratings_do_not_depend_on_the_batch(case: Case) -> None:
    """The first 20 answers are rated together, whatever they are: padding to the longest must not reach the others."""
    reranker, pairs = case.build(), _pairs()
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
        reranker: Reranker = case.build()
        torch.manual_seed(seed + 10)
        results.append((_rated(reranker, _pairs()), reranker.fingerprint()))
    expect_close(results[1][0], results[0][0], "pairs rated by a second build", 1e-6)
    expect(results[0][1] == results[1][1], f"fingerprints differ: {results[0][1]!r} and {results[1][1]!r}")


@check("reranker")
def check_both_sides_matter(case: Case) -> None:
    """A picture that is left out of the prompt, or a text, passes every other check here."""
    reranker: Reranker = case.build()
    pictures = samples.images()
    one, other = pictures["pattern"], pictures["noise"]
    base, by_picture, by_text = _rated(reranker, [(one, TEXTS[0]), (other, TEXTS[0]), (one, TEXTS[1])]).tolist()
    expect(base != by_picture, f"two different pictures are rated {base} for one text")
    expect(base != by_text, f"one picture is rated {base} for two different texts")


@check("reranker")
def check_no_pairs(case: Case) -> None:
    """A search without answers has nothing to look at: no numbers, not a traceback."""
    _rated(case.build(), [])


@check("reranker")
def check_reranker_refuses_blank_texts(case: Case) -> None:
    """A blank query has ratings too, and they look like ratings."""
    reranker: Reranker = case.build()
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
    case.build().rate(pairs)
    changed = [place for place, (picture, _) in enumerate(pairs) if (picture.size, picture.tobytes()) != before[place]]
    expect(not changed, f"rate() changes pictures in place, those at {changed}")
