"""Explanations of a pipeline whose answers are written down by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from heritage_align.component import ComponentConfig
from heritage_align.errors import ConfigError, HeritageAlignError
from heritage_align.recipes import recipe_names
from heritage_align.report.explain import explain, explaining_recipes
from heritage_align.report.palette import PHRASE_COLOURS
from heritage_align.types import ImageFeatures, TextFeatures, TextItem

BOXES = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 1.0, 1.0]])
RESPONSES = torch.tensor([[0.9, 0.2, 0.1], [0.3, 0.4, 0.8]])
ITEM = TextItem("t1", "a crane above clouds")


class HandWritten:
    """The part of a Pipeline that explaining needs, with known answers."""

    def __init__(
        self,
        responses: torch.Tensor = RESPONSES,
        phrases: tuple[str, ...] = ("a crane", "clouds"),
        keep: torch.Tensor | None = None,
        boxes: torch.Tensor = BOXES,
        proposer: object = "some",
        inputs: tuple[str, ...] = ("image.regions", "text.fragments"),
    ) -> None:
        spec = SimpleNamespace(name="by_hand", inputs=inputs)
        similarity = SimpleNamespace(spec=spec, settings=ComponentConfig(), nested={})
        self.config = SimpleNamespace(name="hand", source="hand.yaml", proposer=proposer, similarity=similarity)
        self.similarity = SimpleNamespace(respond=lambda _images, _texts: responses)
        self._phrases, self._keep, self._boxes = phrases, keep, boxes

    def encode_images(self, images: list[Image.Image], ids: list[str]) -> ImageFeatures:
        return ImageFeatures(tuple(ids), torch.ones(1, 2), boxes=self._boxes, keep=self._keep)

    def encode_texts(self, items: list[TextItem]) -> TextFeatures:
        phrases = (self._phrases,) if self._phrases else ()
        return TextFeatures((items[0].id,), torch.ones(1, 2), phrases=phrases)

    def score(self, _images: ImageFeatures, _texts: TextFeatures) -> torch.Tensor:
        return torch.tensor([[0.625]])


def run(**settings: Any) -> Any:
    return explain(HandWritten(**settings), Image.new("RGB", (40, 20)), "silk_1", ITEM)  # type: ignore[arg-type]


def test_best_regions_phrases_and_score() -> None:
    found = run()
    assert found.best == (0, 2)
    assert found.score == 0.625
    assert found.answers() == [
        ("a crane", (0.0, 0.0, 0.5, 0.5), pytest.approx(0.9)),
        ("clouds", (0.0, 0.5, 1.0, 1.0), pytest.approx(0.8)),
    ]


def test_masked_regions_are_no_answers() -> None:
    found = run(keep=torch.tensor([False, True, True]))
    assert found.best == (1, 2)
    assert found.to_dict()["regions_kept"] == 2


def test_dict_is_json_ready() -> None:
    record = json.loads(json.dumps(run().to_dict()))
    assert record["image_id"] == "silk_1"
    assert record["system"] == "hand"
    assert record["regions"] == record["regions_kept"] == 3
    second = {"phrase": "clouds", "box": [0.0, 0.5, 1.0, 1.0], "response": pytest.approx(0.8)}
    assert record["phrases"][1] == second


@pytest.mark.parametrize("phrases", [(), ("a crane", "clouds")])
def test_similarity_that_reads_whole_texts_answers_for_the_text(phrases: tuple[str, ...]) -> None:
    found = run(responses=RESPONSES[:1], phrases=phrases)
    assert found.phrases == ("a crane above clouds",)


def test_picture_is_drawn_of_this_explanation() -> None:
    sheet = run().picture()
    assert sheet.width == 980
    colours = {colour for _, colour in sheet.getcolors(2**24)}
    assert set(PHRASE_COLOURS[:2]) <= colours
    assert not set(PHRASE_COLOURS[2:]) & colours
    assert run().picture(titled=False).height < sheet.height


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ({"proposer": None}, "proposer: 'hand' scores whole pictures"),
        ({"inputs": ("image.global", "text.global")}, "similarity: 'by_hand' scores whole pictures"),
    ],
)
def test_what_compares_whole_pictures_names_the_recipes_that_explain(lacking: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run(**lacking)
    assert caught.value.source == "hand.yaml"
    assert f"recipes that can: {', '.join(explaining_recipes())}" in str(caught.value)


def test_explaining_recipes_are_those_that_compare_regions() -> None:
    assert {"laclip", "late-interaction", "scan", "bfan", "scan-gb"} <= set(explaining_recipes()) < set(recipe_names())
    assert not {"global", "cca"} & set(explaining_recipes())


def test_picture_without_any_region_is_named() -> None:
    with pytest.raises(HeritageAlignError, match="silk_1: the proposer found no region"):
        run(boxes=torch.empty(0, 4))


def test_answer_for_other_fragments_is_an_error() -> None:
    with pytest.raises(HeritageAlignError, match="'by_hand' answered for 2 fragments, but text 't1' has 3"):
        run(phrases=("a", "b", "c"))
