"""Regions by id: the contract, the settings, what a pipeline sees of a wrong file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heritage_align_plugins.region_features.config import RegionFeaturesConfig
from heritage_align_plugins.region_features.proposer import PrecomputedRegions
from PIL import Image

from heritage_align.data.region_features import RegionFeatures, write_region_features
from heritage_align.errors import DataError
from heritage_align.protocols import BuildContext, FeatureReader, Proposer
from heritage_align.testing import Case, check_component, samples


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of the kit's pictures: 7 random regions each, of which the second picture has none."""
    draw = np.random.default_rng(0)
    ids = tuple(samples.images())
    counts = np.full(len(ids), 7)
    counts[1] = 0
    total = int(counts.sum())
    corners = np.sort(draw.random((total, 2, 2)), axis=1).reshape(total, 4).astype(np.float32)
    features = RegionFeatures(
        "drawn",
        ids,
        np.cumsum([0, *counts]),
        draw.standard_normal((total, 5)).astype(np.float32),
        corners,
        draw.random(total).astype(np.float32),
        draw.standard_normal((len(ids), 5)).astype(np.float32),
        draw.integers(0, 4, total),
    )
    file = tmp_path_factory.mktemp("features") / "features.safetensors"
    write_region_features(file, features, dtype="fp32")
    return file


def build(path: Path, **settings: Any) -> PrecomputedRegions:
    return PrecomputedRegions(RegionFeaturesConfig(path=path, **settings), BuildContext())


@pytest.mark.parametrize("settings", [{}, {"count": 3, "min_keypoints": 2}, {"count": None}])
def test_conformance(path: Path, settings: dict[str, Any]) -> None:
    results = check_component(Case("proposer", "region_features", {"path": str(path), "empty": "whole", **settings}))
    assert {result.check for result in results if result.state == "skipped"} == {"check_nested_places"}


def test_what_is_looked_up_is_what_is_proposed(path: Path) -> None:
    proposer = build(path, count=3)
    assert isinstance(proposer, Proposer)
    assert isinstance(proposer, FeatureReader)
    assert proposer.dim == 5
    (looked_up,) = proposer.lookup(["wide"])
    (proposed,) = proposer.propose([Image.new("RGB", (200, 50))], ["wide"])
    np.testing.assert_allclose(proposed.boxes, looked_up.boxes * [200, 50, 200, 50], rtol=1e-6)
    for found in (looked_up, proposed):
        assert found.features is not None
        assert found.global_feature is not None
        assert found.scores is not None
        assert found.features.shape == (3, 5)
        assert found.global_feature.shape == (5,)
        assert (np.diff(found.scores) <= 0).all()
    assert looked_up.boxes.max() <= 1


def test_a_picture_without_regions_is_named_or_is_its_own_region(path: Path) -> None:
    with pytest.raises(DataError, match=r"features\.safetensors: 1 image \('noise'\) without regions"):
        build(path).lookup(["pattern", "noise"])
    (found,) = build(path, empty="whole").lookup(["noise"])
    assert found.boxes.tolist() == [[0, 0, 1, 1]]
    assert found.features is not None
    assert found.global_feature is not None
    np.testing.assert_array_equal(found.features[0], found.global_feature)


def test_keypoints_mask_regions(path: Path) -> None:
    (found,) = build(path, count=None, min_keypoints=2).lookup(["pattern"])
    (all_of_them,) = build(path, count=None).lookup(["pattern"])
    keypoints = build(path)._features.keypoints
    assert keypoints is not None
    assert found.keep is not None
    assert found.keep.tolist() == (keypoints[:7] >= 2).tolist()
    assert all_of_them.keep is None


def test_ids_of_another_collection_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match=r"2 images \('x.jpg', 'y.jpg'\) of 3 have no features; .* look like 'pattern'"):
        build(path).lookup(["x.jpg", "pattern", "y.jpg"])


def test_facts_come_from_the_header(path: Path, tmp_path: Path) -> None:
    facts = RegionFeaturesConfig(path=path).facts()
    assert (facts.dim, facts.files) == (5, {"path": path})
    gone = RegionFeaturesConfig(path=tmp_path / "gone.npz").facts()
    assert (gone.dim, gone.files) == (None, {"path": tmp_path / "gone.npz"})
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"broken\.safetensors: is no whole safetensors file"):
        RegionFeaturesConfig(path=broken).facts()
