"""A store held by workers: each keeps a run of its shards open, answers for them, and answers are merged here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError
from torch import Tensor

from heritage_align import Pipeline, Searcher, Store, TextFeatures
from heritage_align.plugin import StoreError
from heritage_align_plugins.ray_executor.config import RayExecutorConfig
from heritage_align_plugins.ray_executor.faults import first_line, is_lost, said_by
from heritage_align_plugins.ray_executor.work import (
    Work,
    at_work,
    gpus_of,
    pipeline_of,
    refuse_other_folder,
    work_of,
    workers_that_fit,
)

AT_ONCE = 4
"""Calls that a worker answers at once: a searcher is safe in threads, and the driver may have many."""


class Holder:
    """A worker's part of a store; it is opened at the first call, also after the worker was started again.

    Args:
        work: of the configuration.
        folder: of the store.
        manifest: sha256 of the manifest that the driver opened.
        part: first shard and the one after the last.
    """

    def __init__(self, work: Work, folder: str, manifest: str, part: tuple[int, int]) -> None:
        self._work, self._folder, self._manifest, self._part = work, folder, manifest, part
        self._opened: Searcher | None = None

    def nearest(self, name: str, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return rows of the part and scores; see `Searcher.nearest`."""
        with at_work(self._work):
            return self._searcher().nearest(name, queries, k)

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Score rows of the part, -1 for none."""
        with at_work(self._work):
            searcher = self._searcher()
            return searcher.score(_on(texts, searcher.pipeline.device), rows)

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Score all images of the part."""
        with at_work(self._work):
            searcher = self._searcher()
            return searcher.score_all(_on(texts, searcher.pipeline.device))

    def _searcher(self) -> Searcher:
        if self._opened is None:
            refuse_other_folder(str(Path(self._folder) / "manifest.json"), self._manifest)
            self._opened = Searcher.open_here(pipeline_of(self._work), self._folder, part=self._part)
        return self._opened


class RayHolders:
    """Holds a store by workers; see `search.scoring.Holders`. A worker or a node that is lost is replaced.

    Args:
        pipeline: of the driver.
        store: opened by the driver, which reads headers and ids alone.
        settings: of the executor.
        manifest: sha256 of the store's manifest.
    """

    def __init__(self, pipeline: Pipeline, store: Store, settings: RayExecutorConfig, manifest: str) -> None:
        self._path, self._patience = store.path, settings.patience
        work, gpus = work_of(pipeline, settings), gpus_of(pipeline, settings)
        images = [entry.images for entry in store.manifest.shards]
        parts = cut(images, settings.workers or workers_that_fit(settings, gpus))
        first_rows = [0, *accumulate(images)]
        self._bounds = [(first_rows[first], first_rows[last]) for first, last in parts]
        holder = ray.remote(Holder).options(
            # Of cores nothing is reserved: a worker whose node is lost must find room on those that are left.
            num_cpus=0,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=AT_ONCE,
            scheduling_strategy="SPREAD",
        )
        folder = str(store.path.resolve())
        self._holders: list[Any] = [holder.remote(work, folder, manifest, part) for part in parts]

    def nearest(self, name: str, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return rows and scores ``(n_queries, min(k, n))``, best first, equal scores by ascending row."""
        asked = queries.cpu()
        found = self._answers([holder.nearest.remote(name, asked, k) for holder in self._holders])
        parts = [(rows + first, scores) for (rows, scores), (first, _) in zip(found, self._bounds)]
        # Parts follow each other, and in each equal scores are in order: a stable sort keeps them so.
        rows, scores = (torch.cat(each, dim=1) for each in zip(*parts))
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return rows.gather(1, order)[:, :k], scores[:, :k]

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_texts, k)``, -inf for a row of -1."""
        asked, rows = _on(texts, torch.device("cpu")), rows.cpu()
        places, calls = [], []
        for holder, (first, last) in zip(self._holders, self._bounds):
            inside = (rows >= first) & (rows < last)
            if bool(inside.any()):
                places.append(inside)
                calls.append(holder.score.remote(asked, torch.where(inside, rows - first, -1)))
        scores = torch.full(rows.shape, -torch.inf)
        for inside, found in zip(places, self._answers(calls)):
            scores[inside] = found[inside]
        return scores

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Return ``(n_images, n_texts)``."""
        asked = ray.put(_on(texts, torch.device("cpu")))
        return torch.cat(self._answers([holder.score_all.remote(asked) for holder in self._holders]))

    def close(self) -> None:
        """End the workers."""
        for holder in self._holders:
            ray.kill(holder)
        self._holders = []

    def _answers(self, calls: Sequence[Any]) -> list[Any]:
        """Return what workers answer.

        Raises:
            HeritageAlignError: as a worker raised it.
            StoreError: there is no answer within the patience, or no worker any more.
        """
        if not self._holders:
            raise StoreError(f"{self._path}: was closed")
        try:
            answers: list[Any] = ray.get(list(calls), timeout=self._patience)
        except GetTimeoutError as error:
            raise StoreError(
                f"{self._path}: not all workers that hold it answered within executor.patience ({self._patience:g} s)"
            ) from error
        except RayError as error:
            told = said_by(error)
            if told is not None:
                raise told from error
            if is_lost(error):
                raise StoreError(f"{self._path}: the cluster lost workers that hold it: {first_line(error)}") from error
            raise
        return answers


def cut(images: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Cut shards into runs of about as many images, none of them empty.

    Args:
        images: of each shard.
        parts: at most so many.

    Returns:
        First shard and the one after the last of each part.
    """
    total, done = sum(images), 0
    cuts = [0]
    for number, count in enumerate(images, start=1):
        done += count
        if count and done * parts >= total * len(cuts):
            cuts.append(number)
    cuts[-1] = len(images)
    return list(pairwise(cuts))


def _on(texts: TextFeatures, device: torch.device) -> TextFeatures:
    fragments = None if texts.fragments is None else texts.fragments.to(device=device)
    return replace(texts, global_features=texts.global_features.to(device), fragments=fragments)
