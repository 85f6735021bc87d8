"""Hand-computed scores, masks, candidates and folding of the built-in similarities."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from heritage_align.config import load_config, resolve
from heritage_align.errors import ConfigError
from heritage_align.ops import Ragged
from heritage_align.planning import needs
from heritage_align.plugins import Registry, discover
from heritage_align.protocols import BuildContext
from heritage_align.types import ImageFeatures, TextFeatures

E1, E2 = [1.0, 0.0], [0.0, 1.0]
DIAGONAL = [math.sqrt(0.5), math.sqrt(0.5)]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture
def images() -> ImageFeatures:
    """Two images: one looks along the first axis with regions on both, one has a single diagonal region."""
    regions = Ragged(torch.tensor([E1, E2, DIAGONAL]), torch.tensor([0, 2, 3]))
    return ImageFeatures(("a", "b"), torch.tensor([E1, DIAGONAL]), regions, boxes=torch.rand(3, 4))


@pytest.fixture
def texts() -> TextFeatures:
    fragments = Ragged(torch.tensor([E1, E2, E2]), torch.tensor([0, 2, 3]))
    return TextFeatures(("x", "y"), torch.tensor([E1, E2]), fragments, (("one", "two"), ("two",)))


def build(registry: Registry, name: str, attention: dict[str, Any] | None = None, **settings: Any) -> Any:
    spec = registry.spec("similarity", name)
    config = registry.config_model(spec)(**settings)
    nested = {place: build(registry, **raw) for place, (_, raw) in config.nested().items()}
    return registry.target(spec)(config, BuildContext(attention=attention or {}, nested=nested))


def test_global_is_the_cosine(registry: Registry, images: ImageFeatures, texts: TextFeatures) -> None:
    similarity = build(registry, "global")
    half = math.sqrt(0.5)
    torch.testing.assert_close(similarity.score(images, texts), torch.tensor([[1.0, 0.0], [half, half]]))
    assert similarity.fold(images) is images.global_features
    with pytest.raises(ValueError, match="laclip"):
        similarity.respond(images, texts)


def test_laclip_weights_regions_by_the_whole_image(
    registry: Registry, images: ImageFeatures, texts: TextFeatures
) -> None:
    # image a: w = (<e1,e1>, <e1,e2>) = (1, 0), so the folded vector is e1; image b: w = 1, its region itself.
    similarity = build(registry, "laclip")
    folded = similarity.fold(images)
    torch.testing.assert_close(folded, torch.tensor([E1, DIAGONAL]))
    torch.testing.assert_close(similarity.score(images, texts), folded @ texts.global_features.T)


def test_wca_softmax_and_renormalise(registry: Registry, images: ImageFeatures) -> None:
    # temperature 1: w = softmax(1, 0) = (e, 1) / (e + 1); the sum of w_j u_j has length sqrt(e^2 + 1) / (e + 1).
    similarity = build(registry, "laclip", weights="softmax", temperature=1.0, renormalise=True)
    length = math.sqrt(math.e**2 + 1)
    torch.testing.assert_close(similarity.fold(images)[0], torch.tensor([math.e / length, 1 / length]))


def test_laclip_text_conditioned(registry: Registry, images: ImageFeatures, texts: TextFeatures) -> None:
    # text x = e1 on image a: s = (1, 0), softmax at temperature 1, so the score is e / (e + 1).
    similarity = build(registry, "laclip", conditioning="text", temperature=1.0)
    assert similarity.fold(images) is None
    scores = similarity.score(images, texts)
    expected = math.e / (math.e + 1)
    torch.testing.assert_close(scores, torch.tensor([[expected, expected], [math.sqrt(0.5)] * 2]))
    mixed = build(registry, "laclip", conditioning="text", temperature=1.0, global_mix=0.25)
    torch.testing.assert_close(mixed.score(images, texts)[0], torch.tensor([0.25 + 0.75 * expected, 0.75 * expected]))


def test_late_interaction_takes_the_best_region(registry: Registry, images: ImageFeatures, texts: TextFeatures) -> None:
    half = math.sqrt(0.5)
    expected = torch.tensor([[1.0, 1.0], [half, half]])
    torch.testing.assert_close(build(registry, "late_interaction").score(images, texts), expected)
    sums = build(registry, "late_interaction", aggregate="sum").score(images, texts)
    torch.testing.assert_close(sums, expected * torch.tensor([2.0, 1.0]))


def test_masked_regions_do_not_count(registry: Registry, images: ImageFeatures, texts: TextFeatures) -> None:
    images.keep = torch.tensor([True, False, True])  # image a keeps e1 alone
    late = build(registry, "late_interaction").score(images, texts)
    torch.testing.assert_close(late[0], torch.tensor([0.5, 0.0]))
    text = build(registry, "laclip", conditioning="text", temperature=1.0).score(images, texts)
    torch.testing.assert_close(text[0], torch.tensor([1.0, 0.0]))
    # SCAN with a mean over words: both words attend to e1 alone.
    scan = build(registry, "scan", aggregate="mean").score(images, texts)
    torch.testing.assert_close(scan[0], torch.tensor([0.5, 0.0]), atol=1e-6, rtol=0)


def test_scan_reproduces_the_vectors_of_the_reference(registry: Registry) -> None:
    # float64 hand computation of SCAN t2i and BFAN on three unit word vectors and four unit regions.
    regions = torch.nn.functional.normalize(
        torch.tensor([[1, 0, 0.2], [0.6, 0.8, 0], [0, 1, 0.1], [-0.3, 0.2, 1]]), dim=1
    )
    words = torch.nn.functional.normalize(torch.tensor([[1, 0.1, 0], [0.2, 1, 0.3], [0.5, 0.4, -0.6]]), dim=1)
    images = ImageFeatures(("a",), regions[:1], Ragged(regions, torch.tensor([0, 4])))
    texts = TextFeatures(("x",), words[:1], Ragged(words, torch.tensor([0, 3])))
    assert build(registry, "scan").score(images, texts).item() == pytest.approx(1.040237, abs=2e-6)
    bfan = build(registry, "scan", {"focal": "prob"}, direction="ens", temperature=20.0, aggregate="mean")
    assert bfan.score(images, texts).item() == pytest.approx(1.449496, abs=2e-6)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("global", {}),
        ("laclip", {}),
        ("laclip", {"conditioning": "text", "global_mix": 0.3}),
        ("late_interaction", {}),
        ("scan", {"direction": "ens"}),
        (
            "weighted_sum",
            {
                "terms": [
                    {"weight": -0.5, "similarity": {"name": "global"}},
                    {"weight": 2, "similarity": {"name": "scan"}},
                ]
            },
        ),
    ],
)
def test_candidates_are_the_same_pairs(
    registry: Registry, images: ImageFeatures, texts: TextFeatures, name: str, settings: dict[str, Any]
) -> None:
    similarity = build(registry, name, **settings)
    every: Tensor = similarity.score(images, texts)
    chosen = similarity.score(images, texts, torch.tensor([[1, 0, -1], [0, -1, 1]]))
    expected = torch.tensor([[every[1, 0], every[0, 0], -torch.inf], [every[0, 1], -torch.inf, every[1, 1]]])
    torch.testing.assert_close(chosen, expected)


def test_a_sum_folds_when_its_terms_fold(registry: Registry, images: ImageFeatures, texts: TextFeatures) -> None:
    terms = [{"weight": 0.25, "similarity": {"name": "global"}}, {"weight": 1, "similarity": {"name": "laclip"}}]
    similarity = build(registry, "weighted_sum", terms=terms)
    folded = similarity.fold(images)
    torch.testing.assert_close(similarity.score(images, texts), folded @ texts.global_features.T)
    images.folded = folded  # a store keeps the fold of the sum; the terms must not read it as theirs
    torch.testing.assert_close(similarity.score(images, texts), folded @ texts.global_features.T)
    terms[1]["similarity"] = {"name": "scan"}
    assert build(registry, "weighted_sum", terms=terms).fold(images) is None


def test_features_without_regions_are_refused(registry: Registry, images: ImageFeatures, texts: TextFeatures) -> None:
    bare = ImageFeatures(images.ids, images.global_features)
    with pytest.raises(ValueError, match="no regions"):
        build(registry, "late_interaction").score(bare, texts)
    with pytest.raises(ValueError, match="no fragments"):
        build(registry, "scan").score(images, TextFeatures(texts.ids, texts.global_features))


def test_needs_of_a_sum_are_those_of_its_terms(registry: Registry) -> None:
    document = {
        "version": 1,
        "name": "sum",
        "encoder": {"name": "cn_clip", "model": "RN50", "checkpoint": "random"},
        "similarity": {
            "name": "weighted_sum",
            "terms": [{"weight": 1, "similarity": {"name": "global"}}, {"weight": 1, "similarity": {"name": "scan"}}],
        },
    }
    config = load_config(document, registry=registry)
    assert {"image.global", "image.regions", "text.fragments"} <= needs(config.similarity)
    document["similarity"]["terms"][1]["similarity"]["temprature"] = 3  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"similarity\.terms\.1\.similarity\.temprature: unknown key.*temperature"):
        resolve(document, registry)
