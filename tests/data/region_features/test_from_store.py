"""Features of a store of this library."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heritage_align.data.region_features import feature_dim, read_region_features
from heritage_align.errors import DataError, StoreError
from heritage_align.store.files import write_json
from heritage_align.store.finish import finish
from heritage_align.store.layout import BUILD, Build, shard_name, sources_digest
from heritage_align.store.shard import write_shard
from heritage_align.testing import samples
from heritage_align.types import ImageFeatures


def store(folder: Path, images: ImageFeatures, dtype: str) -> Path:
    """Write a store of one shard."""
    folder.mkdir()
    identity = {"encoder": "e", "image_config": "i", "config": "c"}
    build = Build(identity, "test", dtype, len(images), len(images), sources_digest(images.ids))
    write_json(folder / BUILD, build.asdict())
    write_shard(folder / shard_name(0), images, [], dtype)
    assert finish(folder, build) is not None
    return folder


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int8"])
def test_a_store_is_read(dtype: str, tmp_path: Path) -> None:
    images = samples.image_features((3, 1, 2))
    images.keep = torch.tensor([True, False, True, True, True, True])
    path = store(tmp_path / "store", images, dtype)
    features = read_region_features(path)
    assert features.ids == images.ids
    assert features.values.dtype == (np.float16 if dtype == "fp16" else np.float32)
    assert images.regions is not None
    np.testing.assert_allclose(features.values, images.regions.values, atol=0.01)
    assert features.offsets.tolist() == [0, 3, 4, 6]
    assert features.global_features is not None
    np.testing.assert_allclose(features.global_features, images.global_features, atol=0.01)
    assert images.boxes is not None
    np.testing.assert_array_equal(features.boxes, images.boxes)
    assert features.keep is not None
    assert features.keep.tolist() == images.keep.tolist()
    assert feature_dim(path) == features.dim == samples.DIM


def test_a_store_without_regions_or_half_built_is_refused(tmp_path: Path) -> None:
    whole = replace(samples.image_features(), regions=None, boxes=None, factor=None)
    path = store(tmp_path / "store", whole, "fp32")
    with pytest.raises(DataError, match="store: is a store without regions"):
        read_region_features(path)
    (path / "manifest.json").unlink()
    for read in (read_region_features, feature_dim):
        with pytest.raises(StoreError, match="is half built"):
            read(path)
