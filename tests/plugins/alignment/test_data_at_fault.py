"""Data and settings that cannot be trained on: one clear error each, and nothing is trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from heritage_align.config import load_config
from heritage_align.data.region_features import read_region_features
from heritage_align.errors import ConfigError, DataError
from heritage_align.pipeline import build_component
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext
from heritage_align.training.material import fragments_of
from heritage_align.types import TextItem


def broken(small: Any, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Write a collection whose features are changed: arrays of `RegionFeatures` by name."""
    folder = small.write_collection(tmp_path / "data")
    path = folder / "region_features.safetensors"
    given = read_region_features(path)
    names = ("ids", "offsets", "values", "boxes", "objectness", "global_features")
    arrays = {name: getattr(given, name) for name in names} | changes
    path.unlink()
    # By hand: the writer refuses what is not finite.
    tensors = {("global" if name == "global_features" else name): arrays[name] for name in names[1:]}
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items() if value is not None}
    save_file(tensors, path, {"ids": json.dumps(arrays["ids"])})
    document: dict[str, Any] = small.document(folder, epochs=1)
    return document


def refused(small: Any, config: dict[str, Any], tmp_path: Path) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        small.train(config, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.pt"))
    return str(caught.value)


def test_pictures_without_regions(small: Any, tmp_path: Path) -> None:
    given = read_region_features(small.write_collection(tmp_path / "data") / "region_features.safetensors")
    keep = np.repeat([i not in (1, 5, 6) for i in range(40)], 3)
    counts = [3 * (i not in (1, 5, 6)) for i in range(40)]
    config = broken(
        small, tmp_path, offsets=np.cumsum([0, *counts]), values=given.values[keep], boxes=given.boxes[keep]
    )
    message = refused(small, config, tmp_path)
    assert "'images/1.jpg'" in message
    assert "without regions" in message
    config["proposer"]["empty"] = "whole"
    assert small.train(config, tmp_path / "run").metrics["recall"] > 0


def test_ids_that_do_not_match(small: Any, tmp_path: Path) -> None:
    config = broken(small, tmp_path, ids=[f"photo-{i}.png" for i in range(40)])
    message = refused(small, config, tmp_path)
    assert "'images/0.jpg', 'images/1.jpg', 'images/2.jpg'" in message
    assert "of 24 have no features" in message
    assert "'photo-0.png'" in message


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_finite(small: Any, tmp_path: Path, wrong: float) -> None:
    folder = small.write_collection(tmp_path / "data")
    values = np.array(read_region_features(folder / "region_features.safetensors").values)
    values[3 * 5 + 1, 4] = wrong
    message = refused(small, broken(small, tmp_path, values=values), tmp_path)
    assert "image 'images/5.jpg', region 1" in message
    whole = np.array(read_region_features(folder / "region_features.safetensors").values)[:40].copy()
    whole[7, 0] = wrong
    message = refused(small, broken(small, tmp_path, global_features=whole), tmp_path)
    assert "'images/7.jpg'" in message


def test_texts_without_phrases() -> None:
    class Barren:
        """A fragmenter that finds nothing in some texts, which ours never do."""

        def split(self, item: TextItem) -> tuple[str, ...]:
            return () if "crane" in item.text else (item.text,)

    items = [TextItem(f"t{i}", f"a {'crane' if i % 2 else 'lotus'}") for i in range(9)]
    message = "4 texts have no fragment, the first: 't1', 't3', 't5'; look at the fragmenter"
    with pytest.raises(DataError, match=re.escape(message)):
        fragments_of(Barren(), items)


def test_a_text_that_is_blank(small: Any, folder: Path, tmp_path: Path) -> None:
    config = small.document(folder)
    config.pop("fragmenter")
    (tmp_path / "table.jsonl").write_text('{"image": "images/0.jpg", "text": "  ", "split": "train"}\n')
    config["train"]["data"]["file"] = str(tmp_path / "table.jsonl")
    assert "table.jsonl:1: 'text' is empty" in refused(small, config, tmp_path)


def test_data_that_is_too_little(small: Any, folder: Path, tmp_path: Path) -> None:
    config = small.document(folder)
    row = {"image": "images/0.jpg", "text": "a lotus", "phrases": ["a lotus"], "split": "train"}
    (tmp_path / "table.jsonl").write_text(json.dumps(row) + "\n")
    config["train"]["data"]["file"] = str(tmp_path / "table.jsonl")
    assert "not a single batch" in refused(small, config, tmp_path)
    config["train"]["data"]["split"] = "trian"
    assert "has no rows of split 'trian'; splits: train" in refused(small, config, tmp_path)


def test_pieces_that_are_missing(small: Any, folder: Path, tmp_path: Path) -> None:
    def without(**changes: Any) -> str:
        return refused(small, {**small.document(folder), **changes}, tmp_path)

    assert "train: is missing" in without(train=None)
    assert "train.data: is missing" in without(train={"name": "alignment"})
    assert "proposer: is missing; training compares regions" in without(proposer=None)
    frozen = small.document(folder, model={"text": ["frozen"]})
    assert "text_encoder: is missing; train.model.text frozen projects one" in refused(small, frozen, tmp_path)
    lost = small.document(folder)
    lost["proposer"]["path"] = str(tmp_path / "none.safetensors")
    assert "none.safetensors" in refused(small, lost, tmp_path)
    wide = small.document(folder)
    wide["encoder"]["dim"] = 13
    assert "13" in refused(small, wide, tmp_path)
    warm = small.document(folder, warm_start={})
    assert "starts a bag of words; add bag to train.model.text" in refused(small, warm, tmp_path)


def test_a_warm_start_on_captions_that_are_all_alike(small: Any, folder: Path, tmp_path: Path) -> None:
    config = small.document(folder, warm_start={}, model={"dim": 8, "text": ["bag"]})
    rows = [{"image": f"images/{i}.jpg", "text": "a vase", "phrases": ["a vase"], "split": "train"} for i in range(9)]
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config["train"]["data"]["file"] = str(tmp_path / "table.jsonl")
    assert "do not vary" in refused(small, config, tmp_path)


def test_the_trainer_is_built_without_its_data(small: Any, folder: Path) -> None:
    config = load_config(small.document(folder))
    assert config.train is not None
    build_component(config.train, BuildContext(), default_registry())
