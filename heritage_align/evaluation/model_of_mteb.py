"""A pipeline as a model of the library mteb: its image-text retrieval tasks rank by every score that a similarity has.

mteb asks most models for one vector an item. A score between regions and phrases is none, so this one is a search model
(mteb's ``SearchProtocol``): it is handed a corpus and queries and returns scores.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heritage_align.data.images import load_file
from heritage_align.encoding.sources import ImageSource
from heritage_align.errors import DataError, ImageError, MissingDependency, Note
from heritage_align.features import concat_images
from heritage_align.identity import digest_of
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import ImageFile
from heritage_align.types import ImageFeatures, TextFeatures, TextItem

try:
    import datasets
    from mteb.models.model_meta import ModelMeta
except ImportError as error:
    how = "pip install 'heritage-align[mteb]', from Python 3.11 on"
    raise MissingDependency(f"mteb is not installed ({error}): {how}") from error

DIRECTIONS = ("t2i", "i2t")
_SCORES_AT_ONCE = 2**24
"""Scores of one call of the similarity, 64 MiB of fp32."""

Scores = dict[str, dict[str, float]]


class MtebModel:
    """A pipeline as a search model of mteb, for retrieval tasks of category ``t2i`` (pictures by text) and ``i2t``.

    Prompts of tasks are not used: no encoder here was trained with instructions. A picture that cannot be read and a
    text that is blank are named in a `Note` and count as missed.

    Args:
        pipeline: encodes and scores.

    Attributes:
        mteb_model_meta: name ``heritage_align/<config's name>``; its revision is a digest of the configuration and the
            weights, so that mteb's cache of results tells systems apart.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        made = pipeline.identity()
        revision = digest_of({"encoder": made["encoder"], "config": made["config"], "texts": pipeline.texts_key()})
        name = f"heritage_align/{pipeline.config.name}"
        settings = {"name": name, "revision": revision, "modalities": ["text", "image"], "framework": ["PyTorch"]}
        self.mteb_model_meta = ModelMeta.create_empty(overwrites=settings)
        self._images: ImageFeatures | None = None
        self._texts: TextFeatures | None = None

    @classmethod
    def from_config(cls, source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> MtebModel:
        """Load a configuration (file or mapping) and build it; raises as `Pipeline.from_config`."""
        return cls(Pipeline.from_config(source, overrides))

    def index(self, corpus: Any, *, task_metadata: Any, **_: Any) -> None:
        """Encode a task's corpus, as mteb calls it.

        Args:
            corpus: ``datasets.Dataset`` with columns ``id``, and ``image`` or ``text`` (``title`` before it).
            task_metadata: says which of the two.

        Raises:
            DataError: the task is of another category, or there is nothing in the corpus that can be encoded.
        """
        self._images = self._texts = None
        if _direction(task_metadata) == "t2i":
            parts = list(self._pictures(corpus))
            if not parts:
                raise DataError(f"{task_metadata.name}: none of its {len(corpus)} pictures can be read")
            self._images = concat_images(parts)
        else:
            items = _texts(corpus, title=True)
            if not items:
                raise DataError(f"{task_metadata.name}: all of its {len(corpus)} texts are blank")
            self._texts = self.pipeline.encode_texts(items)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> Scores:
        """Score queries against the corpus, as mteb calls it after `index`.

        Args:
            queries: ``datasets.Dataset`` with columns ``id``, and ``text`` or ``image``.
            task_metadata: as of `index`.
            top_k: answers a query.
            top_ranked: query -> the only documents to rank, of a reranking task.

        Returns:
            Query -> document -> score, an empty mapping for a query that cannot be read.

        Raises:
            DataError: as `index`.
            ValueError: nothing is indexed.
        """
        found: Scores = {str(query): {} for query in queries["id"]}
        if _direction(task_metadata) == "t2i":
            images = self._images
            if images is None:
                raise ValueError("search: no pictures are indexed; call index first")
            size = max(1, _SCORES_AT_ONCE // len(images))
            items = _texts(queries, title=False)
            for start in range(0, len(items), size):
                texts = self.pipeline.encode_texts(items[start : start + size])
                found |= _best(self._score(images, texts).T, texts.ids, images.ids, top_k, top_ranked)
        else:
            if self._texts is None:
                raise ValueError("search: no texts are indexed; call index first")
            for part in self._pictures(queries):
                found |= _best(self._score(part, self._texts), part.ids, self._texts.ids, top_k, top_ranked)
        return found

    @torch.inference_mode()
    def _score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        return self.pipeline.score(images, texts).float().cpu()

    def _pictures(self, pictures: Any) -> Iterator[ImageFeatures]:
        """Encode the pictures of a column ``image`` as the data set holds them: mteb would decode them first."""
        if not isinstance(pictures.features.get("image"), datasets.Image):
            raise DataError(f"column image: expected datasets.Image, got {pictures.features.get('image')}")
        held = pictures.cast_column("image", datasets.Image(decode=False))
        ids = [str(picture) for picture in pictures["id"]]
        files = [partial(_file, held, row, name) for row, name in enumerate(ids)]
        sources = [ImageSource(name, partial(_load, file), file) for name, file in zip(ids, files)]
        yield from self.pipeline.executor.encode_stream(self.pipeline, sources, on_error=_leave_out)


def _direction(task_metadata: Any) -> str:
    if task_metadata.category not in DIRECTIONS:
        raise DataError(
            f"{task_metadata.name}: is a task of category {task_metadata.category!r}; a system of pictures and texts "
            f"is evaluated on {' and '.join(DIRECTIONS)}"
        )
    return str(task_metadata.category)


def _texts(rows: Any, *, title: bool) -> list[TextItem]:
    """Return the texts that are not blank."""
    ids, texts = [str(name) for name in rows["id"]], list(rows["text"])
    titles = list(rows["title"]) if title and "title" in rows.column_names else [""] * len(texts)
    items = []
    for name, head, text in zip(ids, titles, texts):
        if not isinstance(text, str | None):
            raise DataError(f"{name}: expected a text, got {type(text).__name__}; conversations are not read")
        joined = f"{head or ''} {text or ''}".strip()
        if joined:
            items.append(TextItem(name, joined))
        else:
            warnings.warn(f"left out {name}: the text is blank", Note, stacklevel=2)
    return items


def _file(pictures: Any, row: int, name: str) -> ImageFile:
    held = pictures[row]["image"] or {}
    source = held.get("bytes") or held.get("path")
    if source is None:
        raise ImageError(f"{name}: the data set holds no picture")
    return ImageFile(source if isinstance(source, bytes) else Path(source), name)


def _load(file: Callable[[], ImageFile]) -> Any:
    return load_file(file())


def _leave_out(image_id: str, error: ImageError) -> None:
    warnings.warn(f"left out {image_id}: {error}", Note, stacklevel=2)


def _best(
    scores: Tensor,
    queries: Iterable[str],
    documents: Sequence[str],
    top_k: int,
    top_ranked: Mapping[str, Sequence[str]] | None,
) -> Scores:
    """Return each query's best documents of ``(n_queries, n_documents)``, none whose score is -inf (without regions).

    Equal scores keep the corpus's order, as in `evaluate_scores`: mteb's scorer would put the greatest id first, so
    that each score is at least one step of fp32 below the one before.
    """
    found: Scores = {}
    for query, line in zip(queries, scores):
        allowed = None if top_ranked is None else set(map(str, top_ranked.get(query, ())))
        values, rows = line.sort(descending=True, stable=True)
        best: dict[str, float] = {}
        below = np.float32(np.inf)
        for value, row in zip(values.numpy(), rows.tolist()):
            if len(best) == top_k or not np.isfinite(value):
                break
            if allowed is None or documents[row] in allowed:
                below = min(value, np.nextafter(below, np.float32(-np.inf)))
                best[documents[row]] = float(below)
        found[query] = best
    return found
