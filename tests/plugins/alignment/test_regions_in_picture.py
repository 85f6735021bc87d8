"""Regions that know their picture (model.regions: in_picture), and phrases that know their text (phrases: in_text)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heritage_align_plugins.alignment.checkpoint import load_model, save_model
from heritage_align_plugins.alignment.description import FORMAT
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from heritage_align_plugins.alignment.whole import WholeProjection, pool_regions
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from heritage_align.config import load_config
from heritage_align.encoding import ImageStage
from heritage_align.ops import Ragged
from heritage_align.pipeline import Pipeline, build_dataset

TEXTS = ["red lotus and blue crane", "moon"]
PHRASES = [["red lotus", "blue crane"], ["moon"]]
IN_PICTURE = {"dim": 16, "embedding_dim": 12, "whole": "auto", "regions": "auto", "phrases": "auto"}


def model_of(**settings: Any) -> AlignmentModel:
    torch.manual_seed(0)
    return AlignmentModel(ModelSettings(dim=3, text=("bag",), **settings), 2, Vocabulary.of(TEXTS, 1, 1)).eval()


def test_a_region_by_hand() -> None:
    projection = WholeProjection(2, 1)
    projection.mean.copy_(torch.tensor([1.0, 0.0, 0.0, 1.0]))
    projection.deviation.copy_(torch.tensor([2.0, 1.0, 1.0, 4.0]))
    with torch.no_grad():
        projection.projection.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
        projection.projection.bias.fill_(0.5)
    # Areas 1 and 3: r = (1, 5) / 4 + 3 (5, 1) / 4 = (4, 2). Half of what differs: (2.5, 3.5) and (4.5, 1.5).
    regions = Ragged(torch.tensor([[1.0, 5.0], [5.0, 1.0]]), torch.tensor([0, 2]))
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 3.0, 1.0]])
    found = projection.of_regions(torch.tensor([[5.0, 3.0]]), regions, boxes, 0.5)
    # z = (5, 3) gives 2 + 30; then 250 + 1000 * 2.5 / 4 and 450 + 1000 * 0.5 / 4, and the bias.
    torch.testing.assert_close(found, torch.tensor([[32.0 + 250 + 625 + 0.5], [32.0 + 450 + 125 + 0.5]]))


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize("with_boxes", [True, False])
def test_the_mean_of_a_pictures_regions_by_area_is_the_picture(share: float, with_boxes: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    counts = [4, 1, 6]
    rows = [torch.randn(count, 2, generator=generator) for count in counts]
    whole = torch.randn(3, 2, generator=generator)
    corners = torch.rand(sum(counts), 2, generator=generator) / 2
    sizes = 0.1 + torch.rand(sum(counts), 2, generator=generator) / 3
    boxes = torch.cat([corners, corners + sizes], dim=1) if with_boxes else None
    model = model_of(whole="pooled", regions="in_picture", region_share=share)
    assert model.whole is not None
    regions = Ragged.from_list(rows)
    model.whole.fit_scale(whole, regions, boxes)
    with torch.no_grad():
        vectors = Ragged(model.encode_regions(whole, regions, boxes), regions.offsets)
        torch.testing.assert_close(pool_regions(vectors, boxes), model.encode_wholes(whole, regions, boxes))
        # One at a time: no region is mixed up with another picture's.
        start = 0
        for place, count in enumerate(counts):
            alone = None if boxes is None else boxes[start : start + count]
            found = model.encode_regions(whole[place : place + 1], Ragged.from_list([rows[place]]), alone)
            torch.testing.assert_close(found, vectors.values[start : start + count])
            start += count


def test_features_without_a_picture_are_a_picture_of_one_region() -> None:
    model = model_of(whole="pooled", regions="in_picture")
    features = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    with torch.no_grad():
        expected = model.encode_wholes(features, Ragged.from_list([features[:1], features[1:]]))
        torch.testing.assert_close(model.encode_images(features), expected)


def test_a_phrase_in_its_text_by_hand() -> None:
    model = model_of(whole="pooled", phrases="in_text", text_weight=2.0)
    alone = model_of(whole="pooled")
    with torch.no_grad():
        wholes, vectors = model.encode_fragmented(TEXTS, PHRASES)
        lotus, crane, moon = alone.encode_texts(["red lotus", "blue crane", "moon"])
        text = alone.encode_texts(TEXTS)
    torch.testing.assert_close(vectors, torch.stack([lotus + 2 * text[0], crane + 2 * text[0], moon + 2 * text[1]]))
    # Eq. 4: the mean of the phrases, which now have the text in them.
    torch.testing.assert_close(wholes, torch.stack([(lotus + crane) / 2 + 2 * text[0], moon + 2 * text[1]]))
    # A text of one phrase that is all of it points where that phrase alone does: search by a phrase is not changed.
    torch.testing.assert_close(normalize(vectors[2], dim=0), normalize(moon, dim=0))


def test_a_text_that_is_read_whole_stays_as_it_is() -> None:
    model = model_of(whole="pooled", phrases="in_text", sentence="whole")
    with torch.no_grad():
        torch.testing.assert_close(model.encode_fragmented(TEXTS, PHRASES)[0], model.encode_texts(TEXTS))


@pytest.mark.parametrize(
    ("given", "features", "decided"),
    [
        ({"whole": "auto", "regions": "auto", "phrases": "auto"}, True, ("pooled", "in_picture", "in_text")),
        ({"whole": "auto", "regions": "auto", "phrases": "auto"}, False, ("shared", "own", "own")),
        ({"whole": "auto", "regions": "in_picture"}, False, ("shared", "own", "own")),
        ({"whole": "shared", "regions": "auto", "phrases": "auto"}, True, ("shared", "own", "own")),
        ({"whole": "pooled", "regions": "own", "phrases": "auto"}, True, ("pooled", "own", "own")),
        ({"whole": "pooled", "regions": "auto"}, True, ("pooled", "in_picture", "own")),
        ({"phrases": "in_text"}, False, ("shared", "own", "in_text")),
    ],
)
def test_what_auto_decides(given: dict[str, Any], features: bool, decided: tuple[str, ...]) -> None:
    settings = ModelSettings(**given).resolved(features)
    assert (settings.whole, settings.regions, settings.phrases) == decided


@pytest.mark.parametrize(("phrases", "decided"), [("in_text", "whole"), ("own", "mean")])
def test_the_sentence_is_read_whole_where_phrases_are_in_it(phrases: str, decided: str) -> None:
    settings = ModelSettings.model_validate({"phrases": phrases, "sentence": "auto"})
    assert settings.resolved(True).sentence == decided
    assert ModelSettings(phrases="in_text", sentence="mean").resolved(True).sentence == "mean"


def test_regions_in_a_picture_that_has_no_map_of_its_own_are_refused() -> None:
    with pytest.raises(ValidationError, match="in_picture is for whole: pooled"):
        ModelSettings(whole="shared", regions="in_picture")


def test_the_exported_model_gives_the_vectors_that_were_trained(small: Any, folder: Path, tmp_path: Path) -> None:
    small.train(small.document(folder, epochs=1, model=IN_PICTURE), tmp_path)
    pipeline = Pipeline.from_config(tmp_path / "config.yaml")
    dataset = build_dataset(load_config(tmp_path / "config.yaml"))
    stage = ImageStage(pipeline.encoder, pipeline.proposer, features=True, pictures=False)
    together, alone = stage.look_up(dataset.image_ids), stage.look_up(dataset.image_ids[2:3])
    assert together.regions is not None
    torch.testing.assert_close(together.regions.item(2), alone.regions.item(0))
    model = stage.encoder.model
    assert (model.image, model.settings.regions, model.settings.phrases) == (None, "in_picture", "in_text")
    found = stage.proposer.lookup(dataset.image_ids)
    rows = Ragged.from_list([torch.from_numpy(np.asarray(f.features, dtype=np.float32)) for f in found])
    whole = torch.from_numpy(np.stack([np.asarray(f.global_feature, dtype=np.float32) for f in found]))
    boxes = torch.from_numpy(np.concatenate([f.boxes for f in found]).astype(np.float32))
    with torch.no_grad():
        expected = normalize(model.encode_regions(whole, rows, boxes), dim=-1)
    torch.testing.assert_close(together.regions.values, expected)
    # Without its picture a region is another vector.
    assert (together.regions.values - stage.encoder.encode_features(rows.values)).abs().max() > 0.1


def test_a_warm_start_has_the_ccas_vectors_for_regions(small: Any, folder: Path, tmp_path: Path) -> None:
    """Before the first step a picture's vector, a CCA's, is the mean of its regions by area."""
    model = {**IN_PICTURE, "text": ["bigru", "bag"]}
    small.train(small.document(folder, epochs=1, learning_rate=1e-12, model=model, warm_start={}), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert not any(name.startswith("image.") for name in tensors)
    assert tensors["whole.projection.weight"].abs().max() > 0.01


def test_a_file_from_before_there_were_such_regions_is_read(tmp_path: Path) -> None:
    model, path = model_of(whole="pooled"), tmp_path / "model.safetensors"
    save_model(model, path, features=True)
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()[FORMAT])
    for name in ("regions", "region_share", "phrases", "text_weight"):
        del document["settings"][name]
    save_file(load_file(path), path, metadata={FORMAT: json.dumps(document)})
    again, _ = load_model(path)
    features, regions = torch.randn(1, 2), Ragged(torch.randn(3, 2), torch.tensor([0, 3]))
    with torch.no_grad():
        assert torch.equal(again.encode_regions(features, regions), model.encode_images(regions.values))
        assert torch.equal(again.encode_fragmented(TEXTS, PHRASES)[1], model.encode_texts([*PHRASES[0], *PHRASES[1]]))
