"""LACLIP, WCA and their switches: folding at index time against the definition, crop by crop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.similarities.config import LaclipConfig
from heritage_align_plugins.similarities.local import LaclipSimilarity
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.config import load_config
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.indexing import build_index
from heritage_align.ops import Ragged
from heritage_align.pipeline import Pipeline, build_dataset, dataset_sources
from heritage_align.protocols import BuildContext
from heritage_align.search import search
from heritage_align.store import Store
from heritage_align.types import ImageFeatures, TextFeatures

E1, E2 = [1.0, 0.0], [0.0, 1.0]
SWITCHES = st.fixed_dictionaries(
    {
        "weights": st.sampled_from(["raw", "normalised", "softmax", "uniform"]),
        "temperature": st.sampled_from([0.0183, 0.1, 1.0]),
        "renormalise": st.booleans(),
        "global_mix": st.sampled_from([0.0, 0.25, 1.0]),
    }
)


def similarity_of(**switches: Any) -> LaclipSimilarity:
    return LaclipSimilarity(LaclipConfig(**switches), BuildContext())


def score_by_crop(whole: Sequence[float], crops: Sequence[Sequence[float]], text: Sequence[float], **s: Any) -> float:
    """Score one image against one text as it is defined: one weight and one cosine a crop, summed."""
    cosines = [dot(whole, crop) for crop in crops]
    if s["weights"] == "raw":
        weights = cosines
    elif s["weights"] == "normalised":
        total = sum(abs(c) for c in cosines)
        weights = [c / total if total else 0.0 for c in cosines]
    elif s["weights"] == "softmax":
        exponentials = [math.exp((c - max(cosines)) / s["temperature"]) for c in cosines]
        weights = [e / sum(exponentials) for e in exponentials]
    else:
        weights = [1 / len(crops) for _ in crops]
    local = sum(w * dot(crop, text) for w, crop in zip(weights, crops))
    if s["renormalise"]:
        length = math.hypot(*(dot(weights, column) for column in zip(*crops)))
        local = local / length if length else 0.0
    return float((1 - s["global_mix"]) * local + s["global_mix"] * dot(whole, text))


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def unit_rows(count: int, dim: int, generator: torch.Generator) -> Tensor:
    return normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)


@given(SWITCHES, st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_folded_scores_are_those_crop_by_crop(switches: dict[str, Any], counts: list[int], dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    whole, text = unit_rows(len(counts), dim, generator), unit_rows(3, dim, generator)
    crops = [unit_rows(count, dim, generator) for count in counts]
    similarity = similarity_of(**switches)
    features = ImageFeatures(tuple(map(str, counts)), whole.float(), Ragged.from_list([c.float() for c in crops]))
    scores = similarity.score(features, TextFeatures(("x", "y", "z"), text.float()))
    images = list(zip(whole.tolist(), [c.tolist() for c in crops]))
    expected = [[score_by_crop(w, c, t, **switches) for t in text.tolist()] for w, c in images]
    # fp32 of at most 7 crops; a sum that nearly cancels has lost the more digits, the shorter it is.
    plain = {**switches, "renormalise": False, "global_mix": 0.0}
    lengths = [math.hypot(*(score_by_crop(w, c, axis, **plain) for axis in torch.eye(dim).tolist())) for w, c in images]
    assume(min(lengths) > 1e-3 or not switches["renormalise"])
    scale = 1 / min(1.0, *lengths) if switches["renormalise"] else 1.0
    torch.testing.assert_close(scores.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=4e-6 * scale)


@given(st.integers(0, 10**6), st.lists(st.integers(1, 8), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_with_numbers_that_fp32_holds_folding_is_exact_to_the_bit(seed: int, counts: list[int]) -> None:
    # Entries of -4 to 4: every product and sum is an integer below 2 ** 24, so that no order of summation rounds.
    generator = torch.Generator().manual_seed(seed)

    def integers(count: int) -> Tensor:
        return torch.randint(-4, 5, (count, 6), generator=generator).float()

    whole, text, crops = integers(len(counts)), integers(5), [integers(count) for count in counts]
    features = ImageFeatures(tuple(map(str, counts)), whole, Ragged.from_list(crops))
    scores = similarity_of().score(features, TextFeatures(tuple("abcde"), text))
    by_crop = torch.stack([((c @ w)[:, None] * (c @ text.T)).sum(0) for w, c in zip(whole, crops)])
    assert torch.equal(scores, by_crop)


def test_weights_by_hand() -> None:
    # u_I = (0.8, 0.6), crops e1, e2, -e2: cosines 0.8, 0.6, -0.6. raw: (0.8, 0.6 + 0.6). normalised: divided by the sum
    # of 2.0 = 0.8 + 0.6 + 0.6. uniform: (1/3, 0).
    crops = Ragged(torch.tensor([E1, E2, [0.0, -1.0]]), torch.tensor([0, 3]))
    features = ImageFeatures(("a",), torch.tensor([[0.8, 0.6]]), crops)
    for weights, expected in (("raw", [0.8, 1.2]), ("normalised", [0.4, 0.6]), ("uniform", [1 / 3, 0.0])):
        torch.testing.assert_close(similarity_of(weights=weights).fold(features), torch.tensor([expected]))
    # mix: 0.75 of the local vector, 0.25 of the global.
    mixed = similarity_of(weights="normalised", global_mix=0.25).fold(features)
    torch.testing.assert_close(mixed, torch.tensor([[0.3 + 0.2, 0.45 + 0.15]]))


def test_crops_across_the_whole_image_divide_by_nothing() -> None:
    features = ImageFeatures(
        ("a", "b"), torch.tensor([E1, E1]), Ragged(torch.tensor([E2, E1]), torch.tensor([0, 1, 2]))
    )
    folded = similarity_of(weights="normalised").fold(features)
    torch.testing.assert_close(folded, torch.tensor([[0.0, 0.0], E1]))


def test_masked_crops_have_no_share_in_normalised_and_uniform_weights() -> None:
    features = ImageFeatures(("a",), torch.tensor([E1]), Ragged(torch.tensor([E1, E2, E1]), torch.tensor([0, 3])))
    features.keep = torch.tensor([True, True, False])
    torch.testing.assert_close(similarity_of(weights="uniform").fold(features), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(similarity_of(weights="normalised").fold(features), torch.tensor([E1]))


def test_weights_without_a_meaning_by_text_are_refused() -> None:
    for weights in ("normalised", "uniform"):
        with pytest.raises(ValidationError, match=f"'{weights}' applies to conditioning: image"):
            LaclipConfig(conditioning="text", weights=weights)


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"weights": "normalised"},
        {"weights": "uniform", "global_mix": 0.5},
        {"weights": "softmax", "temperature": 0.0183, "renormalise": True},
    ],
)
def test_folded_search_over_a_store_has_the_scores_of_evaluate(
    laclip: Pipeline, pictures: Path, tmp_path: Path, switches: dict[str, Any]
) -> None:
    rows = ["image,id,text", *(f"p{n}.png,{n},第{n}号 青花瓷" for n in range(10))]
    (tmp_path / "rows.csv").write_text("\n".join(rows), encoding="utf-8")
    document = laclip.config.as_dict()
    document["similarity"] = {"name": "laclip", **switches}
    document["data"] = {"name": "table", "file": str(tmp_path / "rows.csv"), "images": str(pictures)}
    document["store"]["dtype"] = "fp32"
    pipeline = Pipeline(load_config(document), models=(laclip.encoder, laclip.text_encoder))
    dataset = build_dataset(pipeline.config)
    encoded = encode_dataset(pipeline, dataset)
    expected = evaluate_system(pipeline, encoded).scores
    build_index(pipeline, list(dataset_sources(dataset)), tmp_path / "store")
    store = Store.open(tmp_path / "store", expect=pipeline.identity())
    run = search(pipeline, store, dataset.texts, top_k=10)
    order = expected.T.argsort(dim=1, descending=True, stable=True)
    assert run.ids == [[encoded.images.ids[row] for row in line] for line in order.tolist()]
    torch.testing.assert_close(torch.tensor(run.scores), expected.T.gather(1, order), rtol=0, atol=1e-6)
