"""Another name by an override: the new component has its own defaults, and nothing of the old one's is in its way."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml

from heritage_align.config import load_config
from heritage_align.errors import ConfigError
from heritage_align.plugins import default_registry
from heritage_align.recipes import recipe_text
from heritage_align.renaming import change_names

MOTIFS = {"name": "motifs", "split": "train", "artworks": 7}


def filled(**changes: Any) -> dict[str, Any]:
    """A configuration with every default of its components written out, as runs and `config fill` write it."""
    base: dict[str, Any] = {
        "version": 1,
        "name": "丝绸",
        "encoder": {"name": "cn_clip", "model": "RN50", "checkpoint": "rn50.pt"},
        "text_encoder": {"name": "bert", "model": "bert-base-chinese"},
        "proposer": {"name": "random_crops", "count": 3},
        "filters": [{"name": "sift", "min_keypoints": 4}],
        "fragmenter": {"name": "annotated"},
        "similarity": {"name": "scan"},
        "data": MOTIFS,
        "train": {"name": "alignment", "data": MOTIFS, "epochs": 8},
    }
    return load_config({**base, **changes}).as_dict()


def changed(document: dict[str, Any], *overrides: str) -> list[str]:
    return change_names(document, overrides, default_registry())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("fragmenter.name=noun_phrases", ""),
        ("encoder.name=transformers", 'encoder.name=transformers leaves out what was set for cn_clip: model="RN50"'),
        ("text_encoder.name=cn_clip", "text_encoder.name=cn_clip leaves out what was set for bert: model="),
        ("proposer.name=patch_grid", "proposer.name=patch_grid leaves out what was set for random_crops: count=3"),
        ("filters.0.name=bfan_focal", "filters.0.name=bfan_focal leaves out what was set for sift: min_keypoints=4"),
        ("similarity.name=late_interaction", ""),
        ("data.name=folder", "data.name=folder leaves out what was set for motifs: "),
        ("train.name=contrastive", ""),
        ("train.data.name=folder", "train.data.name=folder leaves out what was set for motifs: "),
    ],
)
def test_a_new_name_in_any_section_begins_afresh(override: str, said: str) -> None:
    document = filled()
    place, name = override.split(".name=")
    (sentence,) = changed(document, override) or [""]
    assert sentence.startswith(said)
    assert bool(sentence) == bool(said)
    component: Any = document
    for key in place.split("."):
        component = component[int(key) if key.isdecimal() else key]
    kept = {"data": {**filled()["train"]["data"]}, "epochs": 8} if override == "train.name=contrastive" else {}
    assert component == {"name": name, **kept}


def test_the_name_on_the_command_line_of_a_filled_config_is_enough() -> None:
    with pytest.warns(UserWarning, match=r"proposer.name=patch_grid leaves out what was set for random_crops: count=3"):
        config = load_config(filled(), ["fragmenter.name=noun_phrases", "proposer.name=patch_grid"])
    assert config.fragmenter is not None
    assert (
        config.fragmenter.as_dict() == load_config(filled(fragmenter={"name": "noun_phrases"})).as_dict()["fragmenter"]
    )


@pytest.mark.parametrize("order", [1, -1])
def test_settings_that_are_given_beside_the_name_count_in_any_order(order: int) -> None:
    overrides = ["proposer.count=5", "proposer.name=region_features", "proposer.path=图.npz"][::order]
    document = filled()
    assert changed(document, *overrides) == []
    proposer = load_config(filled(), overrides).proposer
    assert proposer is not None
    assert {"name": "region_features", "count": 5, "path": "图.npz"}.items() <= proposer.as_dict().items()


def test_what_two_components_have_in_common_stays_where_somebody_chose_it() -> None:
    document = filled(fragmenter={"name": "annotated", "connectives": False})
    assert changed(document, "fragmenter.name=punctuation") == []
    assert document["fragmenter"] == {"name": "punctuation", "connectives": False}
    # 50 epochs are the default of `alignment`; three are that of `contrastive`, which has the setting from one class.
    document = filled(train={"name": "alignment", "data": MOTIFS, "validation": {**MOTIFS, "split": "val"}})
    changed(document, "train.name=contrastive")
    assert sorted(document["train"]) == ["data", "name", "validation"]


def test_components_inside_others_are_renamed_too() -> None:
    document = yaml.safe_load(recipe_text("scan-gb"))
    assert document["similarity"]["name"] == "weighted_sum", "the recipe that this test is about"
    terms = load_config(document).as_dict()["similarity"]["terms"]
    number = next(i for i, term in enumerate(terms) if term["similarity"]["name"] == "scan")
    document = load_config(document).as_dict()
    place = f"similarity.terms.{number}.similarity"
    with pytest.warns(UserWarning, match=f"{place}.name=late_interaction leaves out what was set for scan: rectifier="):
        config = load_config(document, [f"{place}.name=late_interaction", f"similarity.terms.{number}.weight=0.25"])
    assert config.similarity.as_dict()["terms"][number] == {
        "weight": 0.25,
        "similarity": {"name": "late_interaction", "aggregate": "mean"},
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ["fragmenter.name=annotated"],
        ["fragmenter.name=punctuation", "fragmenter.name=annotated"],
        ["name=另一个"],
        ["fragmenter.name="],
        ["fragmenter.name=[1]"],
        ["fragmenter.name={"],
        ["fragmenter.name=none-such"],
        ["fragmenter={name: punctuation}", "fragmenter.name=words"],
        ["filters.7.name=sift"],
        ["filters.name=sift"],
        ["similarity.terms.0.name=scan"],
        ["runtime.name=sift"],
        ["nothing.name=sift"],
        [".name=sift"],
        ["fragmenter.name"],
    ],
)
def test_what_changes_no_name_of_a_component_changes_nothing_here(overrides: list[str]) -> None:
    document = filled()
    assert changed(document, *overrides) == []
    assert document == filled()


def test_a_name_that_is_unknown_is_the_one_fault(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(filled(), ["fragmenter.name=noun_phrase"])
    assert len(refused.value.problems) == 1
    assert "Did you mean 'noun_phrases'?" in refused.value.problems[0]
    assert not recwarn


def test_settings_of_a_component_that_is_not_installed_are_all_named() -> None:
    document = deepcopy(filled())
    document["fragmenter"] = {"name": "of_a_plugin_that_is_gone", "窗口": [1, 2], "model": "x" * 200}
    (said,) = changed(document, "fragmenter.name=punctuation")
    assert said.startswith(
        "fragmenter.name=punctuation leaves out what was set for of_a_plugin_that_is_gone: 窗口=[1, 2], model="
    )
    assert len(said) < 220
    assert document["fragmenter"] == {"name": "punctuation"}


def test_the_caller_s_document_is_left_alone() -> None:
    document = filled()
    load_config(document, ["fragmenter.name=noun_phrases"])
    assert document == filled()
