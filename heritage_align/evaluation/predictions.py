"""The prediction files that Chinese-CLIP's scorer reads (Yang et al. 2022, ``cn_clip.eval.evaluation``).

``{split}_predictions.jsonl`` has one text a line with the ids of its first 10 images, ``{split}_tr_predictions.jsonl``
one image a line with its first 10 texts::

    {"text_id": 8, "image_ids": [12, 3, ...]}
    {"image_id": 3, "text_ids": [8, 40, ...]}

The scorer takes integers alone as ids, exactly 10 answers a line, and a line for every query of its reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from heritage_align.config import Config
from heritage_align.errors import DataError
from heritage_align.evaluation.comparison import Started, check_systems
from heritage_align.evaluation.systems import encode_dataset, look_last, score_all
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import Dataset, SplitSettings

ANSWERS = 10
"""Answers a query, ``NUM_K`` of the scorer; it refuses any other number."""
_BLOCK = 1024  # queries sorted at once
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")


def write_predictions(
    scores: Tensor,
    image_ids: Sequence[str],
    text_ids: Sequence[str],
    folder: Path,
    split: str,
    t2i_scores: Tensor | None = None,
) -> tuple[Path, Path]:
    """Write both files of one system; equal scores keep the order of the candidates, as in Chinese-CLIP's own script.

    Args:
        scores: ``(n_images, n_texts)``, higher is better.
        image_ids: of the rows. Written as integers if all of them are.
        text_ids: of the columns, likewise.
        folder: made if it is not there.
        split: beginning of the files' names.
        t2i_scores: as `scores`, where images searched by text are ranked by others (after a last look).

    Returns:
        The files of text-to-image and image-to-text.

    Raises:
        DataError: fewer than 10 images or texts, or the folder cannot be written.
    """
    _refuse_few(*scores.shape)
    to_images, to_texts = folder / f"{split}_predictions.jsonl", folder / f"{split}_tr_predictions.jsonl"
    images, texts = _as_written(image_ids), _as_written(text_ids)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(to_images, ("text_id", texts), ("image_ids", images), (scores if t2i_scores is None else t2i_scores).T)
        _write(to_texts, ("image_id", images), ("text_ids", texts), scores)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return to_images, to_texts


def check_predictable(dataset: Dataset) -> None:
    """Raise DataError, before anything is encoded, where a data set has fewer than 10 images or texts."""
    _refuse_few(len(dataset.image_ids), len(dataset.texts))


def predict_systems(
    configs: Sequence[Config], dataset: Dataset, folder: Path, *, started: Started | None = None
) -> list[tuple[str, str]]:
    """Write the files of systems on a data set whose right answers are not known (MUGE's test set).

    Args:
        configs: one a system, the first of which names the split; all plans are checked before a model loads.
        dataset: images and texts.
        folder: gets a folder a system.
        started: called before a system is encoded; returns what is told of its progress.

    Returns:
        ``(image id, reason)`` of pictures that could not be read; they are no one's answer.

    Raises:
        ConfigError: a plan does not fit together, or two systems have one name.
        DataError: no picture could be read, there are too few, or the folder cannot be written.
    """
    check_systems(configs)
    skipped: dict[tuple[str, str], None] = {}
    for config in configs:
        pipeline = Pipeline(config)
        encoded = encode_dataset(pipeline, dataset, started(config) if started is not None else None)
        scores, _ = score_all(pipeline, encoded)
        looked = look_last(pipeline, encoded, dataset, scores)
        ids, to = (encoded.images.ids, encoded.texts.ids), folder / config.name
        write_predictions(scores, *ids, to, split_of(configs[0]), looked)
        skipped.update(dict.fromkeys(encoded.skipped))
    return list(skipped)


def split_of(config: Config) -> str:
    """Return the split that a configuration evaluates, ``test`` where its data set has no setting of that name."""
    settings = config.data.settings if config.data is not None else None
    return settings.split if isinstance(settings, SplitSettings) and isinstance(settings.split, str) else "test"


def _refuse_few(images: int, texts: int) -> None:
    if min(images, texts) < ANSWERS:
        counts = f"{images} images and {texts} texts"
        raise DataError(f"predictions: Chinese-CLIP's scorer wants {ANSWERS} answers a query, and there are {counts}")


def _as_written(ids: Sequence[str]) -> Sequence[str] | Sequence[int]:
    # "007" and 7 would become one id, hence only what an integer is written as.
    return [int(i) for i in ids] if all(map(_INTEGER.fullmatch, ids)) else ids


def _write(
    path: Path,
    queries: tuple[str, Sequence[str] | Sequence[int]],
    answers: tuple[str, Sequence[str] | Sequence[int]],
    scores: Tensor,
) -> None:
    with path.open("w", encoding="utf-8") as file:
        for query, row in zip(queries[1], _first(scores)):
            line = {queries[0]: query, answers[0]: [answers[1][i] for i in row]}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _first(scores: Tensor) -> Iterator[list[int]]:
    for start in range(0, len(scores), _BLOCK):
        order = scores[start : start + _BLOCK].argsort(dim=1, descending=True, stable=True)
        yield from order[:, :ANSWERS].tolist()
