"""What a build rounds and factors batch by batch is what was rounded and factored shard by shard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heritage_align import encoding, store
from heritage_align.features import concat_images
from heritage_align.indexing import build_index
from heritage_align.ops import Ragged, quantise, triangular_factor
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.store.layout import shard_name
from heritage_align.store.shard import DTYPES, as_stored, read_shard, write_shard
from heritage_align.testing import samples
from heritage_align.types import ImageFeatures

STORED = list(DTYPES)
COUNTS = (3, 0, 6, 2, 4)


def rounded(regions: Ragged, dtype: str) -> Ragged:
    return quantise(regions) if dtype == "int8" else regions.to(dtype=DTYPES[dtype])


@pytest.mark.parametrize("dtype", STORED)
def test_shards_of_batches_are_those_of_the_whole_to_the_byte(tmp_path: Path, dtype: str) -> None:
    whole = samples.image_features(COUNTS)
    write_shard(tmp_path / "whole", whole, [], dtype)
    batches = [samples.images_at(whole, rows) for rows in ((0, 1), (2, 3), (4,))]
    parts = [as_stored(batch, dtype, factors=True) for batch in batches]
    write_shard(tmp_path / "batches", concat_images(parts), [], dtype)
    # `images_at` gives boxes of its own.
    write_shard(tmp_path / "again", samples.images_at(whole, range(5)), [], dtype)
    assert (tmp_path / "batches").read_bytes() == (tmp_path / "again").read_bytes()
    shard = read_shard(tmp_path / "whole")
    assert whole.regions is not None
    assert torch.equal(shard.tensors["factor"], triangular_factor(rounded(whole.regions, dtype)))


@pytest.mark.parametrize("dtype", STORED)
def test_a_batch_without_factors_or_regions(dtype: str) -> None:
    features = samples.image_features(COUNTS)
    assert as_stored(features, dtype, factors=False).factor is None
    features.folded = features.global_features
    whole = as_stored(
        ImageFeatures(features.ids, features.global_features, folded=features.folded), dtype, factors=True
    )
    assert whole.regions is None
    assert whole.folded is whole.global_features


@pytest.mark.parametrize("dtype", STORED)
def test_a_build_factors_the_rounded_rows_of_each_batch_once(
    scan: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    pipeline = Pipeline.from_config(scan.config.as_dict(), [f"store.dtype={dtype}", "runtime.batch_size=2"])
    sources = list(dataset_sources(pipeline.dataset()))
    seen: list[torch.dtype] = []

    def counted(ragged: Ragged, **options: Any) -> Tensor:
        seen.append(ragged.dtype)
        return triangular_factor(ragged, **options)

    monkeypatch.setattr(store.shard, "triangular_factor", counted)
    monkeypatch.setattr(encoding.stage, "triangular_factor", counted)
    build_index(pipeline, sources[:3], tmp_path / "store")
    assert seen == [DTYPES[dtype]] * 2, "two batches of two and of one"
    monkeypatch.undo()
    stored = read_shard(tmp_path / "store" / shard_name(0))
    regions = stored.regions()
    assert regions is not None
    assert torch.equal(stored.tensors["factor"], triangular_factor(regions))
    (fresh,) = pipeline.encode_stream(sources[:2], on_error=lambda *_: None)
    assert fresh.regions is not None
    assert torch.equal(regions.values[: fresh.regions.total], rounded(fresh.regions, dtype).values)
