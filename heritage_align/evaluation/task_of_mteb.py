"""A data set of ours as a retrieval task of the library mteb, for its models and ours side by side."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Literal

from heritage_align.errors import DataError, MissingDependency
from heritage_align.protocols import Dataset

try:
    import datasets
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata
except ImportError as error:
    how = "pip install 'heritage-align[mteb]', from Python 3.11 on"
    raise MissingDependency(f"mteb is not installed ({error}): {how}") from error

_LANGUAGES = {"zh": "zho-Hans", "en": "eng-Latn"}
_SPLIT = "test"


def mteb_task(dataset: Dataset, direction: Literal["t2i", "i2t"]) -> Any:
    """Return a task of mteb: pictures by text (``t2i``) or texts by picture (``i2t``).

    Args:
        dataset: its pictures are held in memory as PNG; queries without a right answer are left out.
        direction: what is a query.

    Raises:
        DataError: no text has a right answer among the pictures.
        ImageError: a picture cannot be read.
    """
    known = set(dataset.image_ids)
    pairs = [(item.id, image) for item in dataset.texts for image in item.image_ids if image in known]
    if not pairs:
        raise DataError(f"data set {dataset.name!r}: no text has a right answer among its pictures")
    right: dict[str, dict[str, int]] = {}
    for text, image in pairs:
        query, document = (text, image) if direction == "t2i" else (image, text)
        right.setdefault(query, {})[document] = 1
    texts = datasets.Dataset.from_dict(
        {"id": [item.id for item in dataset.texts], "text": [item.text for item in dataset.texts]}
    )
    pictures = datasets.Dataset.from_dict(
        {"id": list(dataset.image_ids), "image": [{"bytes": _png(dataset, name)} for name in dataset.image_ids]},
        features=datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()}),
    )
    corpus, queries = (pictures, texts) if direction == "t2i" else (texts, pictures)
    asked = [row for row, name in enumerate(queries["id"]) if name in right]
    languages = {item.language for item in dataset.texts}
    metadata = TaskMetadata(
        name=f"{dataset.name}-{direction}",
        description=f"Data set {dataset.name} of heritage_align.",
        dataset={"path": dataset.name, "revision": "unpublished"},
        type="Any2AnyRetrieval",
        category=direction,
        modalities=["text", "image"],
        eval_splits=[_SPLIT],
        eval_langs=sorted(_LANGUAGES.get(str(language), "und-Zyyy") for language in languages),
        main_score="ndcg_at_10",
        task_subtypes=["Image Text Retrieval"],
        is_public=False,
    )
    split = RetrievalSplitData(corpus=corpus, queries=queries.select(asked), relevant_docs=right, top_ranked=None)
    return _task(metadata, split)


def _task(metadata: Any, split: Any) -> Any:
    class Task(AbsTaskRetrieval):
        """A task whose data are here."""

        def load_data(self, *_: Any, **__: Any) -> None:
            self.dataset = {"default": {_SPLIT: split}}
            self.data_loaded = True

    Task.metadata = metadata
    return Task()


def _png(dataset: Dataset, image_id: str) -> bytes:
    stream = BytesIO()
    dataset.load_image(image_id).save(stream, "PNG")
    return stream.getvalue()
