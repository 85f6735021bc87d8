"""Find out how well queries score that nothing in a store answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from heritage_align.errors import DataError
from heritage_align.protocols import ArtworkDataset, Dataset
from heritage_align.search.relevance import LEAST_QUERIES, Calibration, ScoreLaw, depth_of, script_of
from heritage_align.search.searcher import Searcher
from heritage_align.store import Store
from heritage_align.text import plain_characters
from heritage_align.types import TextItem

BATCH = 256
"""Queries answered together."""
SAME = 1e-6
"""Of a score: what batches and threads make of it differs by less."""


def known_texts(dataset: Dataset, store: Store) -> list[TextItem]:
    """Return the texts of a data set whose pictures a store holds, as a user would type them: without their phrases.

    A sentence that several pictures have comes once. Its `image_ids` are all pictures of the store that answer it:
    those that the data set names, and where several pictures show one artwork (`ArtworkDataset`) all of these, so that
    a sibling that differs in a detail does not count as unrelated.
    """
    held = set(store.ids)
    artwork_of: Mapping[str, str] = dataset.artwork_of if isinstance(dataset, ArtworkDataset) else {}
    shown: dict[str, list[str]] = {}
    for image_id in store.ids:
        shown.setdefault(artwork_of.get(image_id, image_id), []).append(image_id)
    rights: dict[str, dict[str, None]] = {}
    for item in dataset.texts:
        for image_id in item.image_ids:
            if image_id in held:
                rights.setdefault(item.text, {}).update(dict.fromkeys(shown[artwork_of.get(image_id, image_id)]))
    return [TextItem(str(n), text, tuple(ids)) for n, (text, ids) in enumerate(rights.items())]


def calibrate(
    searcher: Searcher,
    items: Sequence[TextItem],
    source: str,
    *,
    count: int = 1000,
    progress: Callable[[int], object] | None = None,
) -> Calibration:
    """Answer queries that nothing in the store answers, each by its best picture, with the search's own two stages.

    Args:
        searcher: of the store, by the recipe that is calibrated.
        items: unrelated texts, of which equal ones are asked once; those with `image_ids` are unrelated once these
            pictures are left out (`known_texts`).
        source: what they are, in words that are kept.
        count: texts that are asked at most, drawn by chance, the same ones every time.
        progress: called with the texts that are done since the last call.

    Raises:
        DataError: fewer than `LEAST_QUERIES` different texts that another picture could answer than their own; or all
            have the same best score.
        StoreError: as `Searcher.search`.
    """
    if count < LEAST_QUERIES:
        raise DataError(f"calibrate: count is {count}, expected at least {LEAST_QUERIES}")
    depth = depth_of(searcher.pipeline, searcher.store, searcher.pipeline.config.search.candidates)
    reach = len(searcher.store) if depth is None else depth
    usable = [item for item in _different(items) if len(item.image_ids) < reach]
    # By chance, not every so many-th: data sets have their languages in turn.
    chosen = random.Random(0).sample(usable, count) if len(usable) > count else usable
    best: dict[str, list[float]] = {"han": [], "other": []}
    known: dict[str, list[float]] = {"han": [], "other": []}
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        run = searcher.search(batch, top_k=1 + max(len(item.image_ids) for item in batch), last_look=False)
        for item, ids, scores in zip(batch, run.ids, run.scores, strict=True):
            others = (score for image_id, score in zip(ids, scores, strict=True) if image_id not in item.image_ids)
            # -inf: no picture that was scored has regions, which is no answer at all
            script = script_of(item.text)
            best[script] += [score for score in islice(others, 1) if math.isfinite(score)]
            known[script] += scores[:1] if item.image_ids and math.isfinite(scores[0]) else []
        if progress is not None:
            progress(len(batch))
    asked = sum(map(len, best.values()))
    if asked < LEAST_QUERIES:
        raise DataError(
            f"calibrate: {source}: {asked} of {len(items)} can be asked as unrelated texts, expected at least "
            f"{LEAST_QUERIES} different ones; give more, by --data, --texts or --everyday"
        )
    every = [*best["han"], *best["other"]]
    if max(every) - min(every) <= SAME * max(1.0, abs(max(every))):
        raise DataError(
            f"calibrate: {source}: the best answers of {asked} different texts all score {max(every):.4f}: such scores "
            "tell nothing, and the encoder's weights may be at fault"
        )
    laws = {"any": _law(every, [*known["han"], *known["other"]])}
    for script, scores in best.items():
        if LEAST_QUERIES <= len(scores) < asked:
            laws[script] = _law(scores, known[script])
    return Calibration(laws, source, depth)


def _different(items: Sequence[TextItem]) -> list[TextItem]:
    """Return the first item of each text: one text asked sixty times is one draw."""
    first: dict[str, TextItem] = {}
    for item in items:
        first.setdefault(plain_characters(item.text).strip(), item)
    return list(first.values())


def _law(best: list[float], known: list[float]) -> ScoreLaw:
    return ScoreLaw(tuple(sorted(best)), tuple(sorted(known)))
