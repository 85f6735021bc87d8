"""The last stage of a search: what is too slow for a collection looks at the best pictures together with the text, or
the details, and ranks them anew."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Lock

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.component import LAST, RerankerConfig
from heritage_align.config import Config, resolve_component
from heritage_align.errors import ConfigError, DataError, ImageError, Note
from heritage_align.pipeline import Pipeline
from heritage_align.planning import looks_for, missing_pieces, refuse_texts
from heritage_align.plugins import default_registry
from heritage_align.protocols import Dataset, DetailReranker, Reranker
from heritage_align.search.details import Detail
from heritage_align.search.pictures import pictures_of
from heritage_align.store import Store
from heritage_align.types import Hit, Match, TextItem


class LastLook:
    """Looks at the best answers of a search; from any number of threads, one at a time.

    Args:
        pipeline: its reranker looks, at as many pictures as `search.last.candidates` says.
        dataset: has the pictures; where there is none, it is found when first needed: that of the pipeline's
            configuration, or that of which the store was built.
        store: what is searched.

    Attributes:
        count: pictures of a query that are looked at.
        takes_details: whether it looks for details.
    """

    def __init__(self, pipeline: Pipeline, dataset: Dataset | None = None, store: Store | None = None) -> None:
        assert pipeline.config.last is not None
        settings = pipeline.config.last.settings
        assert isinstance(settings, RerankerConfig)
        self.count = settings.candidates
        self.takes_details = "details" in looks_for(pipeline.config.last)
        self._pipeline, self._dataset, self._store, self._known = pipeline, dataset, store, frozenset[str]()
        self._lock = Lock()  # tokenizers keep settings of a call on themselves; and models are loaded once

    def pictures(self) -> Dataset:
        """Return the data set that has the pictures.

        Raises:
            ConfigError: no data set has them, or its files are missing.
        """
        with self._lock:
            if self._dataset is None:
                if self._store is None:
                    self._dataset = self._pipeline.dataset()
                else:
                    use = "search.last: looks at pictures"
                    self._dataset = pictures_of(self._pipeline.config, self._store, use)
            self._known = self._known or frozenset(self._dataset.image_ids)
            return self._dataset

    def fault(self) -> str | None:
        """Return why no picture of the store can be looked at, None where the first that the data set has opens."""
        assert self._store is not None
        try:
            load = self.pictures().load_image
        except ConfigError as error:
            return "; ".join(error.problems)
        opened = self._opened(load, next(image_id for image_id in self._store.ids if image_id in self._known))
        return opened if isinstance(opened, str) else None

    def ready_for_texts(self) -> None:
        """Make sure that there is something to look with and at, before anything is encoded.

        Raises:
            ConfigError: the reranker takes no texts; or as `pictures`.
        """
        refuse_texts(self._pipeline.config)
        self.pictures()

    def ranked(self, items: Sequence[TextItem], answers: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        """Rank the first answers of each text anew.

        Pictures that cannot be opened are named in a `Note`; they come after those that were looked at.

        Args:
            items: the texts.
            answers: of each, best first.

        Returns:
            All answers, with `Hit.last` where they were looked at; equal ones keep their order.

        Raises:
            ConfigError: the reranker takes no texts; or as `pictures`.
            DataError: not one of a text's pictures can be opened, or the reranker gives no number.
        """
        refuse_texts(self._pipeline.config)
        return [self._ranked(hits, partial(self._rated, item.text)) for item, hits in zip(items, answers, strict=True)]

    def ranked_by_details(self, details: Sequence[Detail], hits: Sequence[Hit]) -> list[Hit]:
        """Rank the first answers to details anew, by the mean of what the details score in each picture.

        Args:
            details: one query together.
            hits: best first; their regions begin with the details' own, in their order.

        Returns:
            As `ranked`; a detail's region is where it was found, if it was.

        Raises:
            ConfigError: as `pictures`.
            DataError: as `ranked`.
        """
        return self._ranked(hits, partial(self._compared, [(detail.name, detail.crop()) for detail in details]))

    def _ranked(self, hits: Sequence[Hit], look: Callable[[Sequence[Image], Sequence[Hit]], list[Hit]]) -> list[Hit]:
        first, rest = hits[: self.count], hits[self.count :]
        opened = self._all_opened([hit.id for hit in first])
        seen = [(image, hit) for image, hit in zip(opened, first) if not isinstance(image, str)]
        looked: list[Hit] = []
        if seen:
            with self._lock, torch.inference_mode():
                looked = look(*zip(*seen))
        looked.sort(key=lambda hit: -(hit.last or 0.0))
        unseen = [hit for hit, image in zip(first, opened) if isinstance(image, str)]
        return [replace(hit, rank=rank) for rank, hit in enumerate([*looked, *unseen, *rest], start=1)]

    def _all_opened(self, ids: Sequence[str]) -> list[Image | str]:
        """Return pictures, or why there is none, which is told."""
        if not ids:
            return []
        load = self.pictures().load_image
        with ThreadPoolExecutor(min(len(ids), self._pipeline.config.runtime.threads())) as pool:
            opened = list(pool.map(partial(self._opened, load), ids))
        reasons = [image for image in opened if isinstance(image, str)]
        if len(reasons) == len(ids):
            raise DataError(f"search.last: not one of {len(ids)} pictures can be looked at, the first: {reasons[0]}")
        if reasons:
            warnings.warn(
                f"search.last: {len(reasons)} of {len(ids)} pictures are not looked at, the first: {reasons[0]}",
                Note,
                stacklevel=2,
            )
        return opened

    def _rated(self, text: str, images: Sequence[Image], hits: Sequence[Hit]) -> list[Hit]:
        reranker = self._pipeline.reranker
        assert isinstance(reranker, Reranker)
        ratings = reranker.rate([(image, text) for image in images]).float().cpu()
        if ratings.shape != (len(images),) or not bool(ratings.isfinite().all()):
            raise DataError(
                f"search.last: {reranker.fingerprint()} rates {len(images)} pictures for {text!r} with "
                f"{ratings.tolist()}, expected as many numbers"
            )
        return [replace(hit, last=rating) for hit, rating in zip(hits, ratings.tolist())]

    def _compared(
        self, details: Sequence[tuple[str, Image]], images: Sequence[Image], hits: Sequence[Hit]
    ) -> list[Hit]:
        reranker = self._pipeline.reranker
        assert isinstance(reranker, DetailReranker)
        found: list[list[Match]] = []
        for name, detail in details:
            matches = reranker.compare(detail, images)
            scores = [match.score for match in matches]
            if len(matches) != len(images) or not all(map(math.isfinite, scores)):
                raise DataError(
                    f"search.last: {reranker.fingerprint()} finds {name} in {len(images)} pictures with {scores}, "
                    "expected as many numbers"
                )
            found.append(matches)
        return [_placed(hit, image, line) for hit, image, line in zip(hits, images, zip(*found))]

    def _opened(self, load: Callable[[str], Image], image_id: str) -> Image | str:
        """Return a picture, or why there is none."""
        if image_id not in self._known:
            return f"{image_id!r} is not in the data set; are its pictures those of the store (--data)?"
        try:
            return load(image_id)
        except ImageError as error:
            return str(error)


def looking_for_details(config: Config) -> Config:
    """Return a configuration whose `search.last` looks for details: its own, else that of role "details".

    Raises:
        PluginError: no plugin that is loaded offers one.
        ConfigError: a library that it needs is not installed.
    """
    if config.last is not None and "details" in looks_for(config.last):
        return config
    registry = default_registry()
    name = registry.of_role("reranker", "details")
    last = resolve_component("reranker", {"name": name}, registry, LAST)
    if faults := list(missing_pieces([last])):
        raise ConfigError(faults, config.source)
    return replace(config, last=last)


def _placed(hit: Hit, image: Image, matches: Sequence[Match]) -> Hit:
    """Return a hit with the mean score of its details, and with their regions where they were found."""
    regions = list(hit.regions)
    for place, match in enumerate(matches):
        if match.box is not None:
            name, _, cosine = regions[place]
            x0, y0, x1, y1 = match.box
            box = (x0 / image.width, y0 / image.height, x1 / image.width, y1 / image.height)
            regions[place] = (name, box, cosine)
    last = sum(match.score for match in matches) / len(matches)
    return replace(hit, last=float(last), regions=tuple(regions))


def in_one_column(hits: Sequence[Hit]) -> list[float]:
    """Return numbers that fall, or stay equal, as the ranks rise, for a run, which has one a picture.

    What was looked at has its rating. The rest follows, its best 1 below the lowest of these, at its own distances.
    """
    looked = [hit.last for hit in hits if hit.last is not None]
    rest = [hit.score for hit in hits if hit.last is None]
    if not looked:
        return rest
    below = _below(looked, max(rest, default=0.0))
    return [*looked, *(score + below for score in rest)]


def looked_scores(look: LastLook, items: Sequence[TextItem], ids: Sequence[str], scores: Tensor) -> Tensor:
    """Return the scores of a whole collection after a last look at each text's best pictures.

    Args:
        look: looks.
        items: the texts.
        ids: of the pictures.
        scores: ``(n_images, n_texts)`` fp32, the similarity's.

    Returns:
        ``(n_images, n_texts)`` fp32, in which every column ranks the pictures as a search would (`in_one_column`).
    """
    after = scores.clone()
    for column, item in enumerate(items):
        rows = scores[:, column].argsort(descending=True, stable=True)
        row_of = {ids[row]: row for row in rows[: look.count].tolist()}
        [ranked] = look.ranked([item], [[Hit(image_id, 0.0, 0) for image_id in row_of]])
        ratings = {row_of[hit.id]: hit.last for hit in ranked if hit.last is not None}
        seen = torch.zeros(len(ids), dtype=torch.bool)
        seen[list(ratings)] = True
        best = scores[~seen, column].max() if not bool(seen.all()) else torch.tensor(0.0)
        after[:, column] += _below(list(ratings.values()), best.item())
        after[list(ratings), column] = torch.tensor(list(ratings.values()), dtype=torch.float32)
    return after


def _below(ratings: Sequence[float], best: float) -> float:
    """Return what puts scores, the highest of which is `best`, 1 below the lowest rating."""
    return min(ratings) - 1 - best if math.isfinite(best) else 0.0
