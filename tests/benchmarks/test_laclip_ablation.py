"""The parts of LACLIP's ablation: phrases as texts, agreement of crops, the settings that are tested."""

from __future__ import annotations

import argparse
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from heritage_align.data import Motifs
from heritage_align.evaluation.systems import EncodedDataset
from heritage_align.ops import Ragged
from heritage_align.types import ImageFeatures, TextFeatures, TextItem

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pipeline" / "laclip_ablation.py"
ablation = SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def test_texts_are_phrases_of_motifs_that_few_pictures_show() -> None:
    whole = Motifs("val", artworks=4, size=64)
    phrases = ablation.Phrases(whole)
    assert phrases.image_ids == whole.image_ids
    for item in phrases.texts:
        assert 1 <= len(item.image_ids) <= ablation.COMMON
        for image_id in whole.image_ids:
            shown = {p for pair in whole.golden if pair.image_id == image_id and pair.box[2] < 64 for p in pair.phrases}
            assert (item.text in shown) <= (image_id in item.image_ids)
    by_motif: dict[str, set[str]] = {}
    for item in phrases.texts:
        by_motif.setdefault(phrases.artwork_of[item.id], set()).add(item.text)
    assert {len(words) for words in by_motif.values()} == {2}, "a motif's Chinese and English phrase are one query"


def test_agreement_of_crops() -> None:
    whole = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    items = (TextItem("a", "a", ("x",)), TextItem("b", "b", ("y",)))
    images = ImageFeatures(("x", "y"), whole, Ragged(rows, torch.tensor([0, 2, 4])))
    facts = ablation._agreement(EncodedDataset(images, TextFeatures(("a", "b"), whole), items, (), 0.0))
    assert facts["cosine"] == pytest.approx((1 + 0.6 + 0 + 1) / 4)
    # Sums: 1 (1, 0) + .6 (.6, .8) = (1.36, .48); 0 + (0, 1).
    lengths = torch.tensor([(1.36**2 + 0.48**2) ** 0.5, 1.0])
    assert facts["length_spread"] == pytest.approx((lengths.std() / lengths.mean()).item(), abs=1e-6)
    assert facts["crop_i2t_r1"] == 50.0  # the first crop of y points at a


def test_the_recipe_that_is_tested_is_the_one_that_was_chosen(tmp_path: Path) -> None:
    options = argparse.Namespace(work=tmp_path, many_artworks=1, seeds=1)
    plus = {"proposer.scale": [0.3, 0.9], "similarity.renormalise": False, "similarity.global_mix": 0.25}
    wrong = {"chosen": plus}
    (tmp_path / "chosen.json").write_text(json.dumps(wrong))
    with pytest.raises(SystemExit, match=r"recipe laclip-plus has similarity .*'global_mix': 0\.25.*change the recipe"):
        ablation.tested(options)


def test_the_stored_choice_is_the_recipe() -> None:
    stored = json.loads((SCRIPT.parents[1] / "results" / "laclip-ablation.json").read_text(encoding="utf-8"))["parts"]
    rows = stored["chosen"]["systems"][1:]
    best = ablation.choice(rows)
    assert best["changes"] == stored["chosen"]["chosen"]
    chosen = ablation.System("chosen", changes=best["changes"]).config({})
    recipe = ablation.System("plus", recipe="laclip-plus").config({})
    assert (chosen.proposer, chosen.similarity) == (recipe.proposer, recipe.similarity)
