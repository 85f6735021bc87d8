"""Data sets made of others, as components."""

from __future__ import annotations

from typing import Any

import pytest

from heritage_align.config import resolve_component
from heritage_align.errors import ConfigError
from heritage_align.pipeline import build_component
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext, Dataset
from heritage_align.testing import Case, check_component

WHOLE = {"name": "motifs", "split": "val", "artworks": 2, "variants": 1, "size": 64}
DETAILS = {"name": "details", "of": WHOLE, "each": 2, "kept_mib": 1}


def build(document: dict[str, Any]) -> Dataset:
    component = resolve_component("dataset", document, default_registry())
    dataset: Dataset = build_component(component, BuildContext(), default_registry())
    return dataset


def test_they_conform() -> None:
    check_component(Case("dataset", "details", {"of": WHOLE, "each": 2}))
    check_component(Case("dataset", "union", {"of": [WHOLE, DETAILS]}))


def test_crops_conform_beside_their_pictures_and_details() -> None:
    cropped = {"name": "cropped", "of": WHOLE, "each": 2}
    check_component(Case("dataset", "cropped", {"of": WHOLE, "each": 2}))
    all_three = build({"name": "union", "of": [WHOLE, DETAILS, cropped]})
    assert all_three.image_ids[-1] == "val-00001-0/crop-1"
    assert len({item.id for item in all_three.texts}) == len(all_three.texts)


def test_pictures_and_their_details_are_one_data_set() -> None:
    both = build({"name": "union", "of": [WHOLE, DETAILS]})
    assert both.name == "motifs-val+motifs-val/details"
    assert both.image_ids[:2] == ("val-00000-0", "val-00001-0")
    assert both.image_ids[2:] == tuple(f"val-0000{n}-0/detail-{k}" for n in (0, 1) for k in (0, 1))
    assert set(both.artwork_of.values()) == {"val-00000", "val-00001"}  # type: ignore[attr-defined]
    assert both.load_image("val-00000-0").size == (64, 64)
    assert max(both.load_image("val-00001-0/detail-1").size) <= 64


def test_every_default_of_a_part_is_written_down() -> None:
    written = resolve_component("dataset", {"name": "union", "of": [WHOLE, DETAILS]}, default_registry()).as_dict()
    assert written["of"][1]["shown"] == 0.6
    assert written["of"][1]["of"]["language"] == "both"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"name": "union", "of": []}, "of: "),
        ({"name": "union", "of": [WHOLE, {"name": "nonsense"}]}, "of.1.name"),
        ({"name": "details", "of": {**WHOLE, "artwork": 2}}, "of.artwork"),
        ({"name": "details", "of": WHOLE, "spread": 2}, "spread"),
        ({"name": "cropped", "of": WHOLE, "scale": [0.9, 0.3]}, "scale: expected two ascending shares"),
        ({"name": "cropped", "of": WHOLE, "scale": [0.3, 1.5]}, "scale: expected two ascending shares"),
    ],
)
def test_faults_are_found_before_anything_is_built(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_component("dataset", document, default_registry())
