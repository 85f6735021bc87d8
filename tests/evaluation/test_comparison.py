"""Systems that share an encoding, and those that must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heritage_align.config import Config, load_config
from heritage_align.errors import ConfigError
from heritage_align.evaluation.comparison import compare_systems
from heritage_align.evaluation.predictions import predict_systems
from heritage_align.evaluation.repeats import repeat_systems
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.protocols import Dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, scan: Pipeline) -> Dataset:
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(1)
    rows = []
    for number in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "text": f"第{number}号，白鹤"})
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return build_dataset(_config(scan, "x", data={"name": "table", "file": str(folder / "rows.jsonl")}))


def _config(pipeline: Pipeline, name: str, **changes: object) -> Config:
    return load_config({**pipeline.config.as_dict(), "name": name, **changes})


def test_systems_over_the_same_regions_share_one_encoding(scan: Pipeline, dataset: Dataset) -> None:
    late = _config(scan, "late", similarity={"name": "late_interaction"})
    first, second = compare_systems([_config(scan, "scan"), late], dataset, ks=(1,))
    assert first.encode_seconds is not None
    assert second.encode_seconds is None
    assert second.encoded.images.global_features is first.encoded.images.global_features
    assert first.tests == {}
    assert set(second.tests) == {"t2i", "i2t"}


def test_the_same_system_alone_and_after_another_scores_the_same(
    scan: Pipeline, laclip: Pipeline, dataset: Dataset
) -> None:
    folds = _config(scan, "laclip", similarity=laclip.config.similarity.as_dict())
    alone = compare_systems([folds], dataset, ks=(1,))[0]
    after = compare_systems([_config(scan, "scan"), folds], dataset, ks=(1,))[1]
    assert (alone.evaluation.scores == after.evaluation.scores).all()


def test_another_precision_seed_or_proposer_is_encoded_again(scan: Pipeline, dataset: Dataset) -> None:
    runtime = scan.config.runtime.model_dump()
    configs = [
        _config(scan, "scan"),
        _config(scan, "bf16", runtime={**runtime, "precision": "bf16"}),
        _config(scan, "seed", runtime={**runtime, "seed": 5}),
        _config(scan, "crops", proposer={"name": "random_crops", "count": 2}),
        _config(scan, "batch", runtime={**runtime, "batch_size": 2}),
    ]
    outcomes = compare_systems(configs, dataset, ks=(1,))
    assert [o.encode_seconds is None for o in outcomes] == [False, False, False, False, True]
    assert not (outcomes[0].evaluation.scores == outcomes[1].evaluation.scores).all()


SIFT = [{"name": "sift", "min_keypoints": 1}]


def test_a_filter_that_masks_takes_the_features_of_the_system_without_it(
    scan: Pipeline, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked, other = _config(scan, "masked", filters=SIFT), _config(scan, "more", filters=[*SIFT, *SIFT])
    alone = compare_systems([masked], dataset, ks=(1,))[0]
    keep = alone.encoded.images.keep
    assert keep is not None
    assert 0 < keep.sum() < len(keep)
    encoded: list[str] = []
    encode = Pipeline.encode_stream

    def counted(self: Pipeline, *arguments: Any, **settings: Any) -> Any:
        encoded.append(self.config.name)
        return encode(self, *arguments, **settings)

    monkeypatch.setattr(Pipeline, "encode_stream", counted)
    _, after, twice = compare_systems([_config(scan, "scan"), masked, other], dataset, ks=(1,))
    assert encoded == ["scan"]
    assert after.encode_seconds is not None
    for outcome in (after, twice):
        assert outcome.encoded.images.keep is not None
        assert outcome.encoded.images.keep.equal(keep)
    assert after.evaluation.scores.equal(alone.evaluation.scores)
    encoded.clear()
    runtime = {**scan.config.runtime.model_dump(), "seed": 5}
    seed = _config(scan, "seed", filters=SIFT, runtime=runtime)
    compare_systems([masked, _config(scan, "scan"), seed], dataset, ks=(1,))
    assert encoded == ["masked", "scan", "seed"], "other crops are other features"


def test_a_mask_of_other_pictures_or_regions_is_made_with_its_own_features(
    scan: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    rows = [json.dumps({"image": f"{number}.png", "text": f"第{number}号"}) for number in range(3)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    data = build_dataset(_config(scan, "x", data={"name": "table", "file": str(tmp_path / "t.jsonl")}))
    encode = Pipeline.encode_stream

    def losing(self: Pipeline, *arguments: Any, **settings: Any) -> Any:
        yield from encode(self, *arguments, **settings)
        (tmp_path / "1.png").unlink(missing_ok=True)

    monkeypatch.setattr(Pipeline, "encode_stream", losing)
    first, second = compare_systems([_config(scan, "scan"), _config(scan, "masked", filters=SIFT)], data, ks=(1,))
    assert first.encoded.images.ids == ("0.png", "1.png", "2.png")
    assert second.encoded.images.ids == ("0.png", "2.png")
    assert [image_id for image_id, _ in second.encoded.skipped] == ["1.png"]


def test_two_seeds_of_one_recipe_are_told_apart_before_anything_is_encoded(
    scan: Pipeline, dataset: Dataset, tmp_path: Path
) -> None:
    runtime = scan.config.runtime.model_dump()
    document = scan.config.as_dict()
    seeds = [
        load_config({**document, "runtime": {**runtime, "seed": seed}}, label=f"运行 {seed}/config.yaml")
        for seed in range(2)
    ]
    hint = (
        f"2 configs have the same name {scan.config.name!r} (运行 0/config.yaml, 运行 1/config.yaml), and results are "
        f"kept by name. One under another name: heritage-align config fill '运行 1/config.yaml' "
        f"--set name={scan.config.name}-2 > {scan.config.name}-2.yaml"
    )
    begun: list[str] = []
    for evaluate in (
        lambda: compare_systems(seeds, dataset, ks=(1,), started=lambda config: begun.append(config.name)),
        lambda: repeat_systems(seeds, dataset, 2, ks=(1,), started=lambda config: begun.append(config.name)),
        lambda: predict_systems(seeds, dataset, tmp_path, started=lambda config: begun.append(config.name)),
    ):
        with pytest.raises(ConfigError) as refused:
            evaluate()
        assert hint in refused.value.problems[0]
    assert not begun
