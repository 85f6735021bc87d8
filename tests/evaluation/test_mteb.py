"""Systems as models of mteb: its numbers are those of `evaluate` on the same pictures and texts."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

mteb = pytest.importorskip("mteb", reason="the optional extra 'mteb' is not installed")

from heritage_align import Pipeline, TextItem, load_recipe  # noqa: E402
from heritage_align.data import Motifs  # noqa: E402
from heritage_align.errors import DataError, ImageError, Note  # noqa: E402
from heritage_align.evaluation import MtebModel, encode_dataset, evaluate_system, mteb_task  # noqa: E402
from heritage_align.types import GoldenPair  # noqa: E402


@dataclass
class Plain:
    """Pictures and texts of the motif collection as a table has them: no annotated phrases, no languages."""

    name: str
    image_ids: tuple[str, ...]
    texts: tuple[TextItem, ...]
    motifs: Motifs
    golden: tuple[GoldenPair, ...] = ()

    def load_image(self, image_id: str) -> Image.Image:
        return self.motifs.load_image(image_id)


@pytest.fixture(scope="module")
def plain() -> Plain:
    motifs = Motifs("test", artworks=6, variants=3, size=128)
    texts = tuple(TextItem(item.id, item.text, item.image_ids) for item in motifs.texts)
    return Plain("motifs", motifs.image_ids, texts, motifs)


def numbers(model: MtebModel, task: Any) -> dict[str, float]:
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    (scores,) = result.task_results[0].scores["test"]
    return dict(scores)


@pytest.mark.parametrize("recipe", ["global", "late-interaction"])
def test_its_numbers_are_those_of_evaluate(recipe: str, plain: Plain) -> None:
    pipeline = Pipeline(load_recipe(recipe, ["runtime.workers=1"]))
    model = MtebModel(pipeline)
    ours = evaluate_system(pipeline, encode_dataset(pipeline, plain), ks=(1, 3, 5, 10)).result
    for direction, result in (("t2i", ours.t2i), ("i2t", ours.i2t)):
        theirs = numbers(model, mteb_task(plain, direction))
        for k in (1, 3, 5, 10):
            assert theirs[f"hit_rate_at_{k}"] == pytest.approx(result.recall[k] / 100, abs=1e-5), (direction, k)
    first = ours.t2i.ranks.first  # of the only right answer
    assert len(set(first)) > 2
    gains = np.where(first <= 10, 1 / np.log2(1 + first), 0)
    assert numbers(model, mteb_task(plain, "t2i"))["ndcg_at_10"] == pytest.approx(gains.mean(), abs=1e-5)


@pytest.fixture(scope="module")
def model() -> MtebModel:
    return MtebModel(Pipeline(load_recipe("global")))


def split_of(task: Any) -> dict[str, Any]:
    task.load_data()
    split = task.dataset["default"]["test"]
    assert isinstance(split, dict)
    return split


def with_faults(rows: Any, column: str, values: dict[int, Any]) -> Any:
    import datasets

    held = rows.cast_column("image", datasets.Image(decode=False)) if column == "image" else rows
    changed = [values.get(row, value) for row, value in enumerate(held[column])]
    return datasets.Dataset.from_dict({"id": list(rows["id"]), column: changed}, features=rows.features)


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_what_cannot_be_read_is_named_and_counts_as_missed(direction: Any, plain: Plain, model: MtebModel) -> None:
    whole = numbers(model, mteb_task(plain, direction))["hit_rate_at_1000"]
    assert whole == 1.0
    task = mteb_task(plain, direction)
    split = split_of(task)
    pictures, texts = ("corpus", "queries") if direction == "t2i" else ("queries", "corpus")
    broken = {0: {"bytes": b"\x89PNG no picture", "path": None}, 4: None}
    split[pictures] = with_faults(split[pictures], "image", broken)
    split[texts] = with_faults(split[texts], "text", {12: " \n"})
    with pytest.warns(Note) as notes:
        theirs = numbers(model, task)
    said = [str(note.message) for note in notes if note.category is Note]
    assert {line.split(":")[0] for line in said} == {
        f"left out {name}" for name in (plain.image_ids[0], plain.image_ids[4], plain.texts[12].id)
    }
    queries, lost = len(split["queries"]), 5 if direction == "t2i" else 2
    assert theirs["hit_rate_at_1000"] == pytest.approx(1 - lost / queries, abs=1e-5)


def test_candidates_of_a_reranking_task_are_kept_to(plain: Plain, model: MtebModel) -> None:
    task = mteb_task(plain, "t2i")
    split = split_of(task)
    query, images = plain.texts[0].id, list(plain.image_ids)
    model.index(split["corpus"], task_metadata=task.metadata)
    free = model.search(split["queries"], task_metadata=task.metadata, top_k=4)
    assert {len(found) for found in free.values()} == {4}
    kept = model.search(split["queries"], task_metadata=task.metadata, top_k=4, top_ranked={query: images[5:7]})
    assert set(kept[query]) == set(images[5:7])
    assert kept[plain.texts[1].id] == {}


def test_equal_scores_keep_the_order_of_the_corpus() -> None:
    import torch

    from heritage_align.evaluation.model_of_mteb import _best

    scores = torch.tensor([[0.5, 0.5, -math.inf, 0.5, 0.75]])
    found = _best(scores, ["q"], ["a", "b", "c", "d", "e"], 5, None)["q"]
    assert sorted(found, key=lambda name: (-found[name], name)) == ["e", "a", "b", "d"]
    assert len(set(found.values())) == 4, "the scorer would order equal scores by its own rule"
    assert list(found.values()) == pytest.approx([0.75, 0.5, 0.5, 0.5], abs=1e-6)
    assert list(_best(scores, ["q"], ["a", "b", "c", "d", "e"], 2, None)["q"]) == ["e", "a"]


def test_titles_stand_before_texts(plain: Plain, model: MtebModel) -> None:
    task = mteb_task(plain, "i2t")
    corpus = split_of(task)["corpus"]
    text = plain.texts[0].text
    titled = corpus.select(range(3)).remove_columns("text").add_column("text", ["", "x", text])
    titled = titled.add_column("title", [text, None, ""])
    model.index(titled, task_metadata=task.metadata)
    found = model.search(split_of(task)["queries"], task_metadata=task.metadata, top_k=3)
    first = found[plain.image_ids[0]]
    assert first[plain.texts[0].id] == pytest.approx(first[plain.texts[2].id], abs=1e-6)
    assert first[plain.texts[1].id] != pytest.approx(first[plain.texts[0].id], abs=1e-3)


def test_what_does_not_fit_is_refused(plain: Plain, model: MtebModel) -> None:
    task = mteb_task(plain, "t2i")
    split = split_of(task)
    other = task.metadata.model_copy(update={"category": "it2i"})
    with pytest.raises(DataError, match="is a task of category 'it2i'"):
        model.index(split["corpus"], task_metadata=other)
    with pytest.raises(DataError, match="expected datasets.Image, got None"):
        model.index(split["queries"], task_metadata=task.metadata)
    with pytest.raises(ValueError, match="no pictures are indexed"):
        model.search(split["queries"], task_metadata=task.metadata, top_k=1)
    broken = with_faults(split["corpus"], "image", dict.fromkeys(range(len(plain.image_ids))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        with pytest.raises(DataError, match="none of its 18 pictures can be read"):
            model.index(broken, task_metadata=task.metadata)
    conversation = split["queries"].select([0]).remove_columns("text").add_column("text", [["one", "two"]])
    model.index(split["corpus"].select([0]), task_metadata=task.metadata)
    with pytest.raises(DataError, match="expected a text, got list"):
        model.search(conversation, task_metadata=task.metadata, top_k=1)


def test_a_data_set_without_right_answers_makes_no_task(plain: Plain) -> None:
    unknown = Plain("x", plain.image_ids, (TextItem("t", "鹤", ("elsewhere",)),), plain.motifs)
    with pytest.raises(DataError, match="no text has a right answer"):
        mteb_task(unknown, "t2i")


def test_a_picture_that_cannot_be_read_makes_no_task(plain: Plain) -> None:
    class Broken(Plain):
        def load_image(self, image_id: str) -> Image.Image:
            raise ImageError(f"{image_id}: is broken")

    with pytest.raises(ImageError, match="test-00000-0: is broken"):
        mteb_task(Broken("x", plain.image_ids, plain.texts, plain.motifs), "t2i")


def test_systems_are_told_apart_in_its_cache_of_results() -> None:
    made = [
        MtebModel(Pipeline(load_recipe(recipe, overrides))).mteb_model_meta
        for recipe, overrides in (
            ("global", []),
            ("global", ["encoder.context_length=20"]),
            ("late-interaction", []),
            ("late-interaction", ["fragmenter.name=punctuation"]),
        )
    ]
    assert len({meta.revision for meta in made}) == len(made)
    assert [meta.name for meta in made[1:3]] == ["heritage_align/global", "heritage_align/late-interaction"]
