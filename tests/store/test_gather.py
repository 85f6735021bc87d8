"""What a store gives back scores as what was put in, in every storage type, masked regions among it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from heritage_align.config import resolve_component
from heritage_align.pipeline import build_component
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext, Similarity
from heritage_align.store import Store
from heritage_align.testing import samples
from heritage_align.types import ImageFeatures

COUNTS = (3, 1, 6, 2, 4)


@pytest.fixture(scope="module")
def images() -> ImageFeatures:
    features = samples.image_features(COUNTS)
    keep = torch.ones(sum(COUNTS), dtype=torch.bool)
    keep[[1, 5, 6, 14]] = False
    return replace(features, keep=keep)


def mask_of(features: ImageFeatures) -> torch.Tensor:
    """Return the mask; a shard where all is kept gives none."""
    assert features.regions is not None
    return torch.ones(features.regions.total, dtype=torch.bool) if features.keep is None else features.keep


def similarity(name: str, **settings: Any) -> Similarity:
    registry = default_registry()
    component = resolve_component("similarity", {"name": name, **settings}, registry)
    built: Similarity = build_component(component, BuildContext(), registry)
    return built


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-6), ("fp16", 2e-3), ("bf16", 1e-2), ("int8", 3e-2)])
@pytest.mark.parametrize(
    ("name", "settings"),
    [("scan", {}), ("late_interaction", {}), ("laclip", {}), ("laclip", {"conditioning": "text"})],
)
def test_scores_and_responses_survive_storage(
    images: ImageFeatures,
    stored: Callable[..., Store],
    tmp_path: Path,
    dtype: str,
    tolerance: float,
    name: str,
    settings: dict[str, Any],
) -> None:
    texts, scorer = samples.text_features(), similarity(name, **settings)
    store = stored(images, tmp_path / "store", dtype, shard_images=2)
    rows = [0, 2, 3, 4]
    gathered, fresh = store.gather(torch.tensor(rows)), samples.images_at(images, rows)
    torch.testing.assert_close(scorer.score(gathered, texts), scorer.score(fresh, texts), atol=tolerance, rtol=0)
    candidates = torch.tensor([[0, 2], [3, -1], [1, 0]])
    scores = scorer.score(gathered, texts, candidates)
    torch.testing.assert_close(scores, scorer.score(fresh, texts, candidates), atol=tolerance, rtol=0)
    one = samples.texts_at(texts, [0])
    responses = scorer.respond(store.gather(torch.tensor([2])), one)
    wanted = scorer.respond(samples.images_at(images, [2]), one)
    torch.testing.assert_close(responses, wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shard_images", [1, 2, 5])
def test_rows_come_from_their_shards_whatever_the_cut(
    images: ImageFeatures, stored: Callable[..., Store], tmp_path: Path, shard_images: int
) -> None:
    store = stored(images, tmp_path / "store", "fp32", shard_images)
    for rows in ([0], [4], [1, 3], [0, 1, 2, 3, 4]):
        gathered, fresh = store.gather(torch.tensor(rows)), samples.images_at(images, rows)
        assert gathered.ids == fresh.ids
        assert gathered.regions is not None
        assert fresh.regions is not None
        assert torch.equal(gathered.regions.values, fresh.regions.values)
        assert torch.equal(gathered.regions.offsets, fresh.regions.offsets)
        assert torch.equal(mask_of(gathered), mask_of(fresh))
        torch.testing.assert_close(gathered.factor, fresh.factor)


def test_all_that_is_gathered_is_on_the_device_that_was_asked_for(
    images: ImageFeatures, stored: Callable[..., Store], tmp_path: Path
) -> None:
    gathered = stored(images, tmp_path / "store", "int8", 2).gather(torch.tensor([1, 4]), "meta")
    assert gathered.regions is not None
    tensors = [gathered.global_features, gathered.boxes, gathered.keep, gathered.factor]
    tensors += [gathered.regions.values, gathered.regions.offsets, gathered.regions.scales]
    assert [tensor.device.type for tensor in tensors] == ["meta"] * len(tensors)
