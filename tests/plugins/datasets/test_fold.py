"""One part of one fold of another data set, as a component."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heritage_align.config import resolve_component
from heritage_align.errors import ConfigError, DataError
from heritage_align.pipeline import build_component
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext, Dataset
from heritage_align.testing import Case, check_component


@pytest.fixture(scope="module")
def dishes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Twelve dishes with two pictures each, as a table."""
    folder = tmp_path_factory.mktemp("dishes")
    rows = []
    for number in range(24):
        Image.fromarray(np.full((4, 5, 3), number, dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "text": f"菜 {number}", "dish": f"dish {number // 2}"})
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return {"name": "table", "file": str(folder / "t.jsonl"), "group": "dish"}


def build(**settings: Any) -> Dataset:
    component = resolve_component("dataset", {"name": "fold", **settings}, default_registry())
    dataset: Dataset = build_component(component, BuildContext(), default_registry())
    return dataset


def test_it_conforms(dishes: dict[str, Any]) -> None:
    check_component(Case("dataset", "fold", {"of": dishes, "folds": 3, "fold": 2, "part": "train"}))


def test_the_test_parts_are_the_whole_and_parts_share_no_dish(dishes: dict[str, Any]) -> None:
    tested: list[str] = []
    for fold in (1, 2, 3):
        parts = [build(of=dishes, folds=3, fold=fold, part=part) for part in ("train", "val", "test")]
        owners = [{part.artwork_of[i] for i in part.image_ids} for part in parts]  # type: ignore[attr-defined]
        assert [len(names) for names in owners] == [7, 1, 4]
        assert not set.intersection(*owners)
        assert len(set.union(*owners)) == 12
        assert all(len(part.texts) == len(part.image_ids) for part in parts)
        tested += parts[2].image_ids
    assert len(tested) == len(set(tested)) == 24
    assert build(of=dishes, folds=3, fold=2).name == "t/fold-2-of-3/test"


def test_faults(dishes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"13 folds need 13 artworks, there are 12 \(24 pictures\)"):
        build(of=dishes, folds=13)
    with pytest.raises(DataError, match="too few for a training part and a validation part"):
        build(of={"name": "motifs", "artworks": 2, "variants": 1, "size": 64}, folds=2)
    with pytest.raises(ConfigError, match=r"fold: there are 3 folds, from 1; got 4"):
        build(of=dishes, folds=3, fold=4)
    with pytest.raises(ConfigError, match=r"of\.name: unknown dataset 'tabel'"):
        build(of={"name": "tabel"})
