"""What a model started from a CCA scores before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.alignment.checkpoint import load_model, save_model
from heritage_align_plugins.alignment.config import WarmStart
from heritage_align_plugins.alignment.warm_start import start_from_cca
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

Document = dict[str, Any]
PHRASES = [["red lotus"], ["blue crane"], ["red crane"], ["blue lotus", "vase"], ["vase"], ["moon"]]


def started(small: Any, model: Document) -> Any:
    """A task whose model starts from a CCA of six pictures."""
    generator = torch.Generator().manual_seed(1)
    regions = [torch.randn(2, 7, generator=generator) for _ in PHRASES]
    wholes = torch.randn(len(PHRASES), 7, generator=generator)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]]).repeat(len(PHRASES), 1)
    data = small.collected(regions, wholes, PHRASES, boxes=boxes)
    task = small.task(data, small.similarity({"name": "global"}), model)
    whole, regions_of = data.images.global_features, data.images.regions
    task.model.image.fit_scale(whole)
    if task.model.whole is not None:
        task.model.whole.fit_scale(whole, regions_of, boxes)
    start_from_cca(task.model, data, WarmStart())
    return task, data


def unit_wholes(task: Any, data: Any) -> Tensor:
    images = data.images
    unit: Tensor = task.model.unit(task.model.encode_wholes(images.global_features, images.regions, images.boxes))
    return unit


def test_another_text_model_begins_silent_and_learns(small: Any) -> None:
    task, data = started(small, {"dim": 4, "embedding_dim": 3, "text": ("bigru", "bag")})
    texts = [item.text for item in data.items]
    torch.testing.assert_close(task.model.encode_texts(texts), task.model.text["bag"](texts))
    task.model.encode_texts(texts).square().sum().backward()
    assert task.model.gain.grad[0] != 0  # the GRU's share moves with the first step


def test_the_second_view_is_the_cca_of_the_own_features_alone(small: Any) -> None:
    two, data = started(small, {"dim": 4, "text": ("bag",), "whole": "pooled", "own_view": 0.5})
    one, _ = started(small, {"dim": 4, "text": ("bag",), "whole": "pooled"})
    weight = two.model.whole.projection.weight
    assert weight[4:, :7].abs().max() > 0.01
    assert not weight[4:, 7:].any()  # nothing of the regions' mean
    # The first view is that of a model without a second; its cosines count two thirds.
    first = unit_wholes(one, data)
    torch.testing.assert_close(unit_wholes(two, data)[:, :4], first / 1.5**0.5)
    texts = [item.text for item in data.items]
    torch.testing.assert_close(
        normalize(two.model.encode_texts(texts)[:, :4], dim=1), normalize(one.model.encode_texts(texts), dim=1)
    )
    assert two.model.encode_images(torch.randn(3, 7)).shape == (3, 8)


@pytest.mark.parametrize("parts", [("bag",), ("bigru", "bag")])
def test_a_file_from_before_gains_is_read(small: Any, tmp_path: Path, parts: tuple[str, ...]) -> None:
    task, data = started(small, {"dim": 4, "embedding_dim": 3, "text": parts})
    path = tmp_path / "model.safetensors"
    save_model(task.model, path, features=True)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: value for name, value in load_file(path).items() if name != "gain"}, path, metadata=metadata)
    model, _ = load_model(path)
    texts = [item.text for item in data.items]
    expected = sum(part(texts) for part in task.model.eval().text.values())
    torch.testing.assert_close(model.encode_texts(texts), expected)
