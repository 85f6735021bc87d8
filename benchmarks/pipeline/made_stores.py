"""Stores of random features, written as `build_index` writes them, for benchmarks that need no pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.nn.functional import normalize

from heritage_align.ops import Ragged, triangular_factor
from heritage_align.store.files import write_json
from heritage_align.store.finish import finish
from heritage_align.store.layout import BUILD, MANIFEST, Build, shard_name, sources_digest
from heritage_align.store.shard import write_shard
from heritage_align.types import ImageFeatures

SHARD_IMAGES = 512
NO_IDENTITY = {"encoder": "random", "image_config": "none", "config": "none"}


def write_store(
    folder: Path,
    rows: int,
    dim: int,
    *,
    regions: int = 0,
    factors: bool = False,
    folded: bool = False,
    identity: Mapping[str, str] = NO_IDENTITY,
) -> None:
    """Write a finished fp16 store of random unit vectors; does nothing where the folder holds one.

    Args:
        folder: of the store.
        rows: images.
        dim: of the vectors.
        regions: of every image.
        factors: whether to add the regions' triangular factors.
        folded: whether the global vectors are the fold.
        identity: of the pipeline that is to open it.
    """
    if (folder / MANIFEST).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"collection/object-{number:07}.jpg" for number in range(rows)]
    build = Build(dict(identity), "benchmark", "fp16", SHARD_IMAGES, rows, sources_digest(ids))
    write_json(folder / BUILD, build.asdict())
    generator = torch.Generator().manual_seed(0)
    for number in range(build.shards):
        names = tuple(ids[number * SHARD_IMAGES : (number + 1) * SHARD_IMAGES])
        vectors = normalize(torch.randn(len(names), dim, generator=generator), dim=1)
        features = ImageFeatures(names, vectors, folded=vectors if folded else None)
        if regions:
            values = normalize(torch.randn(len(names) * regions, dim, generator=generator), dim=1)
            features.regions = Ragged(values, torch.arange(len(names) + 1) * regions)
            corner = torch.rand(len(values), 2, generator=generator) / 2
            features.boxes = torch.cat([corner, corner + 0.4], dim=1)
            features.factor = triangular_factor(features.regions) if factors else None
        write_shard(folder / shard_name(number), features, [], "fp16")
    finish(folder, build)
