"""A whole picture from its own feature and its regions' (model.whole: pooled)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heritage_align_plugins.alignment.whole import WholeProjection, pool_regions

from heritage_align.config import load_config
from heritage_align.encoding import ImageStage
from heritage_align.errors import ConfigError
from heritage_align.ops import Ragged
from heritage_align.pipeline import Pipeline, build_dataset

ROWS = [torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[4.0, 2.0]])]
BOXES = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 1.0, 0.75], [0.2, 0.2, 0.4, 0.6]])


def test_regions_are_weighted_by_the_area_of_their_boxes() -> None:
    # Areas 0.25 and 0.75 of the first picture's regions; the second has one.
    pooled = pool_regions(Ragged.from_list(ROWS), BOXES)
    torch.testing.assert_close(pooled, torch.tensor([[0.25, 0.75], [4.0, 2.0]]))


def test_without_boxes_all_regions_weigh_alike() -> None:
    torch.testing.assert_close(pool_regions(Ragged.from_list(ROWS), None), torch.tensor([[0.5, 0.5], [4.0, 2.0]]))


def test_boxes_without_an_area_weigh_alike_and_make_no_nan() -> None:
    pooled = pool_regions(Ragged.from_list(ROWS[:1]), torch.zeros(2, 4))
    torch.testing.assert_close(pooled, torch.tensor([[0.5, 0.5]]))


def test_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = [3, 1, 5]
    rows = [torch.randn(count, 4, generator=generator) for count in counts]
    corners = torch.rand(sum(counts), 2, generator=generator) / 2
    boxes = torch.cat([corners, corners + 0.1 + torch.rand(sum(counts), 2, generator=generator) / 3], dim=1)
    expected, start = [], 0
    for picture in rows:
        areas = [float((b[2] - b[0]) * (b[3] - b[1])) for b in boxes[start : start + len(picture)]]
        expected.append(sum(area * row for area, row in zip(areas, picture)) / sum(areas))
        start += len(picture)
    torch.testing.assert_close(pool_regions(Ragged.from_list(rows), boxes), torch.stack(expected))


def test_a_picture_without_regions_is_refused() -> None:
    with pytest.raises(ValueError, match="picture 1 has no region"):
        pool_regions(Ragged(torch.ones(2, 3), torch.tensor([0, 2, 2])), None)


def test_each_dimension_is_standardised_and_one_that_does_not_vary_is_zero() -> None:
    whole = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
    model = WholeProjection(2, 3)
    model.fit_scale(whole, Ragged.from_list(ROWS), BOXES)
    # z: (1, 3) -> (-1, 1), 7 is constant -> 0; r: (0.25, 4) -> (-1, 1), (0.75, 2) -> (-1, 1).
    expected = torch.tensor([[-1.0, 0.0, -1.0, -1.0], [1.0, 0.0, 1.0, 1.0]])
    torch.testing.assert_close(model.standardised(whole, Ragged.from_list(ROWS), BOXES), expected)
    with torch.no_grad():
        model.projection.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 5.0, 0, 0], [0, 0, 2.0, 0.5]]))
        model.projection.bias.fill_(0.5)
    projected = model(whole, Ragged.from_list(ROWS), BOXES)
    torch.testing.assert_close(projected, torch.tensor([[-0.5, 0.5, -2.0], [1.5, 0.5, 3.0]]))


def test_the_exported_model_gives_the_vectors_that_were_trained(small: Any, folder: Path, tmp_path: Path) -> None:
    document = small.document(folder, epochs=1, model={"dim": 16, "embedding_dim": 12, "whole": "pooled"})
    document["similarity"] = {"name": "global"}
    small.train(document, tmp_path)
    trained = load_config(tmp_path / "config.yaml")
    pipeline = Pipeline.from_config(tmp_path / "config.yaml")
    dataset = build_dataset(trained)
    stage = ImageStage(pipeline.encoder, pipeline.proposer, features=True, pictures=False)
    together = stage.look_up(dataset.image_ids)
    alone = stage.look_up(dataset.image_ids[2:3])
    torch.testing.assert_close(together.global_features[2:3], alone.global_features)
    model = stage.encoder.model
    found = stage.proposer.lookup(dataset.image_ids)
    rows = Ragged.from_list([torch.from_numpy(np.asarray(f.features, dtype=np.float32)) for f in found])
    whole = torch.from_numpy(np.stack([np.asarray(f.global_feature, dtype=np.float32) for f in found]))
    boxes = torch.from_numpy(np.concatenate([f.boxes for f in found]).astype(np.float32))
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model.encode_wholes(whole, rows, boxes), dim=-1)
    torch.testing.assert_close(together.global_features, expected)
    assert (together.global_features - stage.encoder.encode_features(whole)).abs().max() > 0.1


def test_pooled_without_region_features_is_refused(small: Any, folder: Path, tmp_path: Path) -> None:
    document = small.document(folder, epochs=1, model={"dim": 16, "whole": "pooled"})
    motifs = {"name": "motifs", "split": "val"}
    document["encoder"], document["proposer"] = {"name": "cn_clip", "model": "motif-small"}, {"name": "patch_grid"}
    document["data"] = motifs
    document["train"] |= {"data": motifs, "validation": motifs}
    with pytest.raises(ConfigError, match="pooled is for region features"):
        small.train(document, tmp_path)
