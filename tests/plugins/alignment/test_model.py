"""The model's equations (Sheng et al. 2021, eqs 1 to 4) by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from heritage_align_plugins.alignment.model import AlignmentModel, ImageProjection
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from torch.nn.functional import normalize


def test_the_projection_of_features_by_hand() -> None:
    """Features (3, 6) less the mean (1, 2), over the scale 2, are (1, 2)."""
    projection = ImageProjection(2, 2)
    with torch.no_grad():
        projection.mean.copy_(torch.tensor([1.0, 2]))
        projection.scale.fill_(2)
        projection.projection.weight.copy_(torch.tensor([[1.0, 0], [1, 1]]))
        projection.projection.bias.copy_(torch.tensor([0.5, -1]))
    assert projection(torch.tensor([[3.0, 6], [1, 2]])).tolist() == [[1.5, 2.0], [0.5, -1.0]]


def test_mean_and_scale_of_features_by_hand() -> None:
    projection = ImageProjection(2, 3)
    projection.fit_scale(torch.tensor([[1.0, 10], [3, 10], [5, 16]]))
    assert projection.mean.tolist() == [3, 12]
    # (4 + 0 + 4 + 4 + 4 + 16) / 6
    assert projection.scale.item() == pytest.approx((32 / 6) ** 0.5)
    projection.fit_scale(torch.ones(4, 2))
    assert bool(projection(torch.ones(1, 2)).isfinite().all()), "features that do not vary"


def test_dropout_is_of_training_alone() -> None:
    projection = ImageProjection(20, 4, dropout=0.5)
    rows = torch.randn(2, 20)
    assert not torch.equal(projection(rows), projection(rows))
    projection.eval()
    assert torch.equal(projection(rows), projection(rows))


def bags(sentence: str) -> AlignmentModel:
    """A model of which single words have known vectors: red (1, 3), blue (3, 5)."""
    settings = ModelSettings(dim=2, text=("bag",), sentence=sentence)  # type: ignore[arg-type]
    model = AlignmentModel(settings, 3, Vocabulary.of(["red", "blue"], 1, 9))
    part: Any = model.text["bag"]
    with torch.no_grad():
        part.embedding.weight.copy_(torch.tensor([[0.0, 0], [3, 5], [1, 3]]))
        part.bias.zero_()
    return model


def test_a_text_is_the_mean_of_its_fragments() -> None:
    whole, parts = bags("mean").encode_fragmented(["x", "y"], [["red", "blue", "blue"], ["red"]])
    assert parts.tolist() == [[1, 3], [3, 5], [3, 5], [1, 3]]
    torch.testing.assert_close(whole, torch.tensor([[7 / 3, 13 / 3], [1, 3]]))


def test_or_the_text_read_as_one_fragment() -> None:
    whole, _ = bags("whole").encode_fragmented(["red blue", "red"], [["red"], ["blue"]])
    # Both words are in one of the two texts: equal weights 1 / sqrt(2).
    torch.testing.assert_close(whole, torch.tensor([[4 / 2**0.5, 8 / 2**0.5], [1, 3]]))


def test_text_models_are_added() -> None:
    vocabulary = Vocabulary.of(["red lotus", "blue"])
    torch.manual_seed(0)
    both = AlignmentModel(ModelSettings(dim=4, text=("bigru", "bag"), embedding_dim=3), 5, vocabulary)
    texts = ["red lotus", "blue", "red lotus"]
    found = both.encode_texts(texts)
    torch.testing.assert_close(found, both.text["bigru"](texts) + both.text["bag"](texts))
    assert torch.equal(found[0], found[2])


def test_regions_and_whole_images_share_a_projection() -> None:
    model = AlignmentModel(ModelSettings(dim=4), 5, Vocabulary.of(["red"]))
    rows = torch.randn(3, 5)
    assert torch.equal(model.encode_images(rows), model.image(rows))
    assert not torch.allclose(normalize(model.encode_images(rows), dim=-1), model.encode_images(rows))


def test_faults() -> None:
    with pytest.raises(ValueError, match="'y' has no fragment"):
        bags("mean").encode_fragmented(["x", "y"], [["red"], []])
    with pytest.raises(ValueError, match="needs a pretrained text encoder: name one as text_encoder"):
        AlignmentModel(ModelSettings(text=("frozen",)), 3, Vocabulary.of(["red"]))


def test_a_cosine_of_two_views_is_the_weighted_mean_of_theirs_by_hand() -> None:
    settings = ModelSettings(dim=2, text=("bag",), whole="pooled", own_view=0.5)
    model = AlignmentModel(settings, 3, Vocabulary.of(["red"]))
    one, other = model.unit(torch.tensor([[3.0, 4.0, 0.0, 7.0], [2.0, 0.0, 1.0, 1.0]]))
    # First view (0.6, 0.8) and (1, 0): 0.6. Second (0, 1) and (1, 1) / sqrt 2: 0.7071. (0.6 + 0.7071 / 2) / 1.5.
    assert float(one @ other) == pytest.approx((0.6 + 0.5 * 2**-0.5) / 1.5)
    assert float(one.norm()) == pytest.approx(1.0)
    assert (settings.projected, settings.width) == (4, 4)


def test_a_second_view_needs_pooled_pictures() -> None:
    with pytest.raises(ValueError, match="own_view: is for whole: pooled"):
        ModelSettings(own_view=0.5)
    auto = ModelSettings(whole="auto", own_view=0.5)
    assert auto.resolved(features=True).own_view == 0.5
    assert (auto.resolved(features=False).whole, auto.resolved(features=False).own_view) == ("shared", 0.0)
