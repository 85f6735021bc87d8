"""Evaluate a pipeline on a data set: encode both sides, score all pairs, rank in both directions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from heritage_align.encoding.stage import Masks
from heritage_align.errors import DataError, ImageError
from heritage_align.evaluation.metrics import EvaluationResult, evaluate_scores
from heritage_align.features import concat_images
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.protocols import Dataset
from heritage_align.search import Searcher
from heritage_align.search.last_look import LastLook, looked_scores
from heritage_align.types import ImageFeatures, Run, TextFeatures, TextItem

MAX_SCORES = 2**29
"""Scores held at once, 2 GiB of fp32; a larger evaluation goes through a store, search and rerank."""

Progress = Callable[[int], object]
Part = TypeVar("Part", ImageFeatures, Masks)


@dataclass(frozen=True)
class EncodedDataset:
    """A data set's features, and what it took to make them.

    Attributes:
        images: features of the pictures that could be read.
        texts: features of the texts.
        items: the texts.
        skipped: ``(image id, reason)`` of pictures that could not be read.
        seconds: wall time of encoding both sides, decoding included.
    """

    images: ImageFeatures
    texts: TextFeatures
    items: tuple[TextItem, ...]
    skipped: tuple[tuple[str, str], ...]
    seconds: float


@dataclass(frozen=True)
class SystemEvaluation:
    """One system on one data set.

    Attributes:
        result: recall and ranks in both directions.
        scores: ``(n_images, n_texts)`` fp32, the similarity's.
        seconds: wall time of scoring all pairs, and of a last look.
        looked: as `scores`, after a last look at each text's best pictures (`looked_scores`); None without one.
    """

    result: EvaluationResult
    scores: Tensor
    seconds: float
    looked: Tensor | None = None

    @property
    def t2i_scores(self) -> Tensor:
        """Scores by which images are ranked for a text, after a last look where there is one."""
        return self.scores if self.looked is None else self.looked


def encode_dataset(
    pipeline: Pipeline, dataset: Dataset, progress: Progress | None = None, *, texts: TextFeatures | None = None
) -> EncodedDataset:
    """Encode pictures and texts of a data set; bad pictures are skipped and named in the result.

    Args:
        pipeline: encodes.
        dataset: pictures and texts.
        progress: called with the number of pictures done since the last call.
        texts: features of the data set's texts where another pipeline with the same `Pipeline.texts_key` made them.

    Raises:
        DataError: no picture could be read, or there is no text.
        ConfigError: as `FrontEnd.require_pictures`.
    """
    if not dataset.texts:
        raise DataError(f"data set {dataset.name!r} has no texts to evaluate with")
    start = time.perf_counter()
    stream = partial(pipeline.executor.encode_stream, pipeline)
    parts, skipped = _streamed(pipeline, stream, dataset, progress)
    if not parts:
        first = f", the first: {skipped[0][1]}" if skipped else ""
        raise DataError(f"data set {dataset.name!r}: none of its {len(dataset.image_ids)} pictures can be read{first}")
    if texts is None:
        texts = pipeline.encode_texts(dataset.texts)
    return EncodedDataset(
        concat_images(parts), texts, tuple(dataset.texts), tuple(skipped), time.perf_counter() - start
    )


def _streamed(
    pipeline: Pipeline, stream: Callable[..., Iterator[Part]], dataset: Dataset, progress: Progress | None
) -> tuple[list[Part], list[tuple[str, str]]]:
    """Return what one of the pipeline's streams gives of a data set, and the pictures that cannot be read, each with
    its reason."""
    skipped: list[tuple[str, str]] = []

    def on_error(image_id: str, error: ImageError) -> None:
        skipped.append((image_id, str(error)))
        if progress is not None:
            progress(1)

    sources = dataset_sources(dataset)
    pipeline.require_pictures(sources)
    parts = []
    for part in stream(sources, on_error=on_error):
        parts.append(part)
        if progress is not None:
            progress(len(part.ids))
    return parts, skipped


def mask_dataset(
    pipeline: Pipeline,
    unmasked: EncodedDataset,
    dataset: Dataset,
    progress: Progress | None,
    texts: TextFeatures | None,
) -> EncodedDataset | None:
    """Return what `encode_dataset` would, with the features that the same pipeline without its filters made.

    Pictures are decoded and filtered once more, and nothing is encoded.

    Returns:
        None where the pictures that can be read, or their regions, are not those of `unmasked`.
    """
    images = unmasked.images
    if images.boxes is None:
        return None
    start = time.perf_counter()
    parts, skipped = _streamed(pipeline, pipeline.mask_stream, dataset, progress)
    if images.ids != tuple(image_id for part in parts for image_id in part.ids):
        return None
    if not images.boxes.cpu().equal(torch.cat([part.boxes for part in parts])):
        return None
    keeps = [torch.ones(len(part.boxes), dtype=torch.bool) if part.keep is None else part.keep for part in parts]
    keep = torch.cat(keeps).to(images.boxes.device) if any(part.keep is not None for part in parts) else None
    if texts is None:
        texts = pipeline.encode_texts(dataset.texts)
    images = replace(images, keep=keep)
    return EncodedDataset(images, texts, tuple(dataset.texts), tuple(skipped), time.perf_counter() - start)


def read_dataset(searcher: Searcher, dataset: Dataset, *, texts: TextFeatures | None = None) -> EncodedDataset:
    """Take a data set's pictures from a store instead of encoding them; those that it lacks are skipped and named.

    Args:
        searcher: of the store.
        dataset: pictures and texts.
        texts: as of `encode_dataset`.

    Returns:
        The data set without regions: scores come from `Searcher.score_all`.

    Raises:
        DataError: there is no text, or the store holds none of the pictures.
    """
    if not dataset.texts:
        raise DataError(f"data set {dataset.name!r} has no texts to evaluate with")
    start = time.perf_counter()
    held = set(searcher.store.ids)
    skipped = [(i, f"is not in the store {searcher.store.path}") for i in dataset.image_ids if i not in held]
    if len(skipped) == len(dataset.image_ids):
        raise DataError(f"{searcher.store.path}: holds none of the pictures of data set {dataset.name!r}")
    ids = tuple(image_id for image_id in dataset.image_ids if image_id in held)
    images = ImageFeatures(ids, searcher.store.vectors("global", _rows(searcher, ids)))
    if texts is None:
        texts = searcher.pipeline.encode_texts(dataset.texts)
    return EncodedDataset(images, texts, tuple(dataset.texts), tuple(skipped), time.perf_counter() - start)


def _rows(searcher: Searcher, ids: Sequence[str]) -> Tensor:
    return torch.tensor([searcher.store.row(image_id) for image_id in ids], dtype=torch.int64)


def score_all(pipeline: Pipeline, encoded: EncodedDataset, searcher: Searcher | None = None) -> tuple[Tensor, float]:
    """Score all pairs of an encoded data set; returns ``(n_images, n_texts)`` fp32 on the CPU, and the seconds it took.

    Args:
        pipeline: scores.
        encoded: of `encode_dataset`, or of `read_dataset` with its searcher.
        searcher: scores the pictures where they lie in its store.

    Raises:
        DataError: the score matrix would be larger than `MAX_SCORES`.
    """
    images = len(encoded.images) if searcher is None else len(searcher.store)
    count = images * len(encoded.texts)
    if count > MAX_SCORES:
        raise DataError(
            f"{images} images x {len(encoded.texts)} texts: {count:,} scores, more than {MAX_SCORES:,}; "
            "build a store and use search and rerank"
        )
    start = time.perf_counter()
    if searcher is not None:
        scores = searcher.score_all(encoded.texts)[_rows(searcher, encoded.images.ids)]
    else:
        with torch.inference_mode():
            scores = pipeline.score(encoded.images, encoded.texts).float().cpu()
    return scores, time.perf_counter() - start


def look_last(pipeline: Pipeline, encoded: EncodedDataset, dataset: Dataset | None, scores: Tensor) -> Tensor | None:
    """Let the pipeline's reranker look at each text's best pictures; returns `SystemEvaluation.looked`."""
    if pipeline.config.last is None:
        return None
    return looked_scores(LastLook(pipeline, dataset), encoded.items, encoded.images.ids, scores)


def evaluate_system(
    pipeline: Pipeline,
    encoded: EncodedDataset,
    ks: Sequence[int] = (1, 5, 10),
    searcher: Searcher | None = None,
    dataset: Dataset | None = None,
) -> SystemEvaluation:
    """Score all pairs of an encoded data set (see `score_all`) and rank them in both directions.

    With `search.last` images searched by text are ranked after a last look; texts searched by image are not.

    Args:
        pipeline: scores.
        encoded: features.
        ks: the cut-offs.
        searcher: as of `score_all`.
        dataset: pictures for a last look; by default those of the pipeline's configuration.

    Raises:
        DataError: the score matrix would be larger than `MAX_SCORES`, or no text has a right answer.
    """
    if not any(item.image_ids for item in encoded.items):
        raise DataError("no text of the data set names the images that it belongs to: there is nothing to evaluate")
    scores, seconds = score_all(pipeline, encoded, searcher)
    start = time.perf_counter()
    looked = look_last(pipeline, encoded, dataset, scores)
    seconds += time.perf_counter() - start
    name, ids = pipeline.config.name, encoded.images.ids
    result = evaluate_scores(scores, ids, encoded.items, ks=ks, system=name, t2i_scores=looked)
    return SystemEvaluation(result, scores, seconds, looked)


def ranked_run(evaluation: SystemEvaluation, encoded: EncodedDataset, depth: int = 100) -> Run:
    """Return the text-to-image run of an evaluation, `depth` answers a query; ties keep the order of the images."""
    scores, rows = evaluation.t2i_scores.T.sort(dim=1, descending=True, stable=True)
    ids = encoded.images.ids
    return Run(
        encoded.texts.ids,
        [[ids[row] for row in line] for line in rows[:, :depth].tolist()],
        scores[:, :depth].tolist(),
        tag=evaluation.result.system,
    )
