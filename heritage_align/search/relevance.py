"""What a score means: the share of unrelated queries whose best answer in the store scores lower.

A score alone does not say whether anything fits: LACLIP's sums, SCAN's log-sum-exp and a cosine have scales of their
own, and the best of ten thousand pictures scores high by chance. What tells is how the best score of a query *that
nothing here answers* is distributed, over the whole store and by the same first stage, for the maximum is what a user
is shown. A calibration keeps those best scores of a sample of such queries; a score's relevance is one minus its
p-value under them, so that of every hundred queries that nothing answers about five pass ``--min-relevance 0.95``, of
whatever recipe.

As far as scores were seen the p-value is counted: (1 + k) / (n + 1) where k of n unrelated queries score as high, which
unlike k / n is never too small, whatever the law of the scores (Phipson and Smyth 2010). A law that is fitted is: of
maxima of 50 uniform numbers, whose tail is short, 6.6 % passed 0.95 by exponential excesses over the highest tenth, and
by counting 4.9. Beyond the highest score that was seen nothing can be counted, and there alone the fit goes on: the
p-value falls by 1/e with the mean excess of the highest tenth, the limit for maxima with a Gumbel tail (Pickands 1975;
Coles 2001, ch. 4), as the E-values of sequence search have it (Karlin and Altschul 1990).

The law holds for queries of the calibration's kind. Texts with Chinese characters have one and texts without another,
for an encoder need not score its languages alike. A score that depends on the form of a text, as the mean of MaxSim
over phrases does, has another for short texts too: ask texts like those to come. Texts of one artwork are no
independent draws: twenty artworks with a hundred texts are twenty.
"""

from __future__ import annotations

import math
import re
import shlex
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heritage_align.errors import DataError, StoreError
from heritage_align.identity import differences, digest_of, text_settings
from heritage_align.search.first_stage import answers_exactly
from heritage_align.store.files import read_json, write_json
from heritage_align.store.layout import shards_digest

if TYPE_CHECKING:
    from heritage_align.pipeline import Pipeline
    from heritage_align.store import Store
    from heritage_align.types import Hit

FORMAT = 1
LEAST_QUERIES = 50
"""Unrelated queries of a calibration: with fewer, 0.95 would rest on the two highest."""
TAIL_SHARE = 10
"""One in so many of the best scores is the tail, and at least `LEAST_TAIL` are."""
LEAST_TAIL = 5


@dataclass(frozen=True)
class ScoreLaw:
    """Best scores of queries of one kind that nothing in a store answers, by one recipe.

    Attributes:
        best: the best score of every unrelated query, ascending and finite; at least `LEAST_QUERIES`.
        known: where the queries are texts of the store's pictures, less these pictures: the best scores with them,
            ascending. Nothing is fitted to them; they tell what a bound on the relevance costs.

    Raises:
        ValueError: too few scores, not ascending, or not finite.
    """

    best: tuple[float, ...]
    known: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.best) < LEAST_QUERIES:
            raise ValueError(f"{len(self.best)} unrelated queries, expected at least {LEAST_QUERIES}")
        for scores in (self.best, self.known):
            if not all(map(math.isfinite, scores)) or any(later < score for score, later in pairwise(scores)):
                raise ValueError("the scores are not finite numbers in ascending order")

    def relevance(self, score: float) -> float:
        """Return the share of unrelated queries whose best answer scores lower, 0..1; a higher score gives no less."""
        total = len(self.best) + 1
        highest = self.best[-1]
        if score <= highest:
            return bisect_left(self.best, score) / total
        if not self._excess:  # the tail is one score: no more can be said of a higher one than that none was seen
            return 1 - 1 / total
        return 1 - math.exp((highest - score) / self._excess) / total

    def share_known(self, relevance: float) -> float:
        """Return the share of the known texts whose best answer is at least so relevant; nan where there are none."""
        kept = sum(self.relevance(score) >= relevance for score in self.known)
        return kept / len(self.known) if self.known else math.nan

    @cached_property
    def _excess(self) -> float:
        """Return by how much the highest tenth of the scores is above the one below it, on average."""
        count = max(LEAST_TAIL, len(self.best) // TAIL_SHARE)
        edge = self.best[-count - 1]
        return sum(score - edge for score in self.best[-count:]) / count


@dataclass(frozen=True)
class Calibration:
    """What the scores of one recipe mean in one store.

    Attributes:
        laws: by script, ``han`` and ``other`` where at least `LEAST_QUERIES` texts were of it and some of another;
            and ``any``, of all texts, for those of a script that has none of its own.
        source: what the texts were, in words.
        depth: images that the full similarity scored for a query, or None where the first stage is exact.
    """

    laws: Mapping[str, ScoreLaw]
    source: str
    depth: int | None = None

    def of(self, text: str) -> ScoreLaw:
        """Return the law that a query's scores are judged by."""
        return self.laws.get(script_of(text), self.laws["any"])

    def relevance(self, text: str, score: float) -> float:
        """Return the share of unrelated queries of a text's script whose best answer scores lower, 0..1."""
        return self.of(text).relevance(score)


def script_of(text: str) -> str:
    """Return ``han`` for a text with Chinese characters, else ``other``."""
    return "han" if _HAN.search(text) else "other"


def check_bound(min_relevance: float) -> None:
    """Raise DataError if a least relevance is not 0 or more and less than 1, which no score is sure to reach."""
    if not 0 <= min_relevance < 1:  # also of NaN
        raise DataError(f"search: min_relevance is {min_relevance}, expected at least 0 and less than 1, such as 0.95")


def judged(hits: Sequence[Hit], law: ScoreLaw) -> list[Hit]:
    """Return hits with their relevance."""
    return [replace(hit, relevance=law.relevance(hit.score)) for hit in hits]


def fitting(hits: Sequence[Hit], min_relevance: float) -> list[Hit]:
    """Return the hits that are at least so relevant, maybe none."""
    return [hit for hit in hits if hit.relevance is not None and hit.relevance >= min_relevance]


def depth_of(pipeline: Pipeline, store: Store, candidates: int) -> int | None:
    """Return how many images are scored in full for a query, None where the first stage is the exact answer."""
    return None if answers_exactly(pipeline, store) else min(candidates, len(store))


def write_calibration(pipeline: Pipeline, store: Store, calibration: Calibration) -> Path:
    """Keep a calibration beside the store's shards, one file a recipe; raises StoreError where it cannot be written."""
    settings = _recipe(pipeline, store)
    path = _path(store, settings)
    document = {
        "format": FORMAT,
        "name": pipeline.config.name,
        "settings": settings,
        "store": shards_digest(store.manifest),
    }
    write_json(path, {**document, **asdict(calibration)})
    return path


def read_calibration(pipeline: Pipeline, store: Store) -> Calibration | None:
    """Return a store's calibration for a recipe, or None where it has none.

    Raises:
        StoreError: the file is damaged, of another format, or older than what the store holds now.
    """
    settings = _recipe(pipeline, store)
    path = _path(store, settings)
    if not path.exists():
        return None
    again = f"make it again: {_command(pipeline, store)}"
    try:
        document = read_json(path)
    except StoreError as error:
        raise StoreError(f"{error}; {again}") from error
    if document.get("format") != FORMAT:
        raise StoreError(f"{path}: format {document.get('format')!r}, this version reads {FORMAT}; {again}")
    if document.get("settings") != settings:
        raise StoreError(f"{path}: is damaged: it is of another recipe than its name says; {again}")
    if document.get("store") != shards_digest(store.manifest):
        raise StoreError(f"{path}: is out of date: the store was changed since; {again}")
    try:
        laws = {
            script: ScoreLaw(*(tuple(map(_number, law[key])) for key in ("best", "known")))
            for script, law in document["laws"].items()
        }
        depth = None if document["depth"] is None else int(_number(document["depth"]))
        if "any" not in laws:
            raise ValueError("there is no law for texts of any script")
        return Calibration(laws, str(document["source"]), depth)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreError(f"{path}: is damaged: {error}; {again}") from error


def no_calibration(pipeline: Pipeline, store: Store) -> StoreError:
    """Return the error for a store without a calibration for a recipe: what to run, and what others there are."""
    settings = _recipe(pipeline, store)
    others = []
    for path in sorted(store.path.glob(f"{_PREFIX}*.json")):
        try:
            document = read_json(path)
            found = list(islice(differences(document["settings"], settings), 2))
            told = ", ".join(f"{place} {_shown(there)}, here {_shown(here)}" for place, there, here in found)
            others.append(f"{document['name']} ({told})")
        except (StoreError, KeyError, TypeError, AttributeError):  # damaged: of no use for this recipe either
            continue
    there = f"; there are those of {'; '.join(others)}" if others else ""
    return StoreError(
        f"{store.path}: holds no calibration of this recipe, which tells what a score means; make one: "
        f"{_command(pipeline, store)}{there}"
    )


_PREFIX = "calibration-"
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""CJK ideographs: the basic block and its extensions, and compatibility ideographs."""


def _recipe(pipeline: Pipeline, store: Store) -> dict[str, Any]:
    """Return all that shapes the scores of typed texts, JSON-ready."""
    config = pipeline.config
    return {
        "images": pipeline.identity()["image_config"],
        "texts": text_settings(pipeline),
        "similarity": config.similarity.as_dict(),
        "index": config.index.as_dict(),
        "candidates": None if answers_exactly(pipeline, store) else config.search.candidates,
    }


def _path(store: Store, settings: dict[str, Any]) -> Path:
    return store.path / f"{_PREFIX}{digest_of(settings)[:16]}.json"


def _command(pipeline: Pipeline, store: Store) -> str:
    source = pipeline.config.source.removeprefix("recipe ")
    named = shlex.quote(source) if source != "config" else "CONFIG"  # "config": of a mapping, not of a file
    return f"heritage-align calibrate {named} --store {shlex.quote(str(store.path))}"


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
