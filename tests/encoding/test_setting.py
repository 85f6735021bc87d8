"""runtime.preprocess and runtime.workers in whole pipelines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from heritage_align.config import RuntimeSettings
from heritage_align.encoding.preparation import Fast
from heritage_align.errors import ConfigError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.store import Store


@pytest.mark.parametrize("name", ["scan", "laclip"])
def test_a_store_of_fast_pictures_is_one_of_exact_pictures_but_for_rounding(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    exact: Pipeline = request.getfixturevalue(name)
    fast = Pipeline.from_config(exact.config.as_dict(), ["runtime.preprocess=fast"])
    assert isinstance(fast.preparation, Fast)
    for pipeline, folder in ((exact, "exact"), (fast, "fast")):
        report = build_index(pipeline, list(dataset_sources(pipeline.dataset())), tmp_path / folder)
        assert [image_id for image_id, _ in report.skipped] == ["p3x.png"]
    rows = torch.arange(10)
    # The one opens the other's store: how pictures are prepared is no part of its identity.
    ours = Store.open(tmp_path / "fast", expect=exact.identity()).gather(rows)
    wanted = Store.open(tmp_path / "exact", expect=fast.identity()).gather(rows)
    assert ours.ids == wanted.ids
    assert ours.regions is not None
    assert wanted.regions is not None
    assert torch.equal(ours.boxes, wanted.boxes)
    for one, other in (
        (ours.global_features, wanted.global_features),
        (ours.regions.values, wanted.regions.values),
    ):
        assert torch.cosine_similarity(one.float(), other.float()).min() > 0.999


def test_fast_is_refused_where_the_encoder_has_no_recipe(scan: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(scan.encoder), "pixel_recipe", lambda _: None)
    with pytest.raises(ConfigError, match=r"runtime.preprocess: 'fast', but encoder cn_clip/tiny prepares pictures"):
        Pipeline.from_config(scan.config.as_dict(), ["runtime.preprocess=fast"])


def test_decoding_takes_all_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert RuntimeSettings().threads() == 6
    assert RuntimeSettings(workers=3).threads() == 3
    for processes, threads in (("2", 3), ("4", 1), ("8", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert RuntimeSettings().threads() == threads
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert RuntimeSettings().threads() == (os.cpu_count() or 1)
