"""DeepFrag's score and losses, by hand and pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from heritage_align_plugins.alignment.config import DeepFragConfig
from heritage_align_plugins.alignment.deepfrag import DeepFragSimilarity, deepfrag_loss
from torch import Tensor

from heritage_align.ops import Ragged
from heritage_align.protocols import BuildContext
from heritage_align.testing import samples


def ragged(*items: list[list[float]]) -> Ragged:
    return Ragged.from_list([torch.tensor(item) for item in items])


REGIONS = ragged([[2.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0]])
FRAGMENTS = ragged([[1.0, 0.0]], [[0.0, 2.0], [-3.0, 0.0]])
# Products, rows regions, columns fragments:
#   (2, 0) . : 2   0  -6
#   (0, 1) . : 0   2   0
#   (-1, 0). : -1  0   3


def test_the_losses_by_hand() -> None:
    fragment, whole = deepfrag_loss(REGIONS, FRAGMENTS, latent=False, smoothing=10, margin=40, beta=0.5)
    # y = 1: regions 1, 2 with fragment 1; region 3 with fragments 2, 3. max(0, 1 - y p):
    #   within:  p = 2 -> 0, p = 0 -> 1, p = 0 -> 1, p = 3 -> 0                    = 2
    #   between: p = 0 -> 1, p = -6 -> 0, p = 2 -> 3, p = 0 -> 1, p = -1 -> 0      = 5
    assert fragment.item() == pytest.approx(2 + 5)
    # S_11 = (2 + 0) / (2 * 11), S_12 = (0 - 6 + 2 + 0) / (2 * 12), S_21 = -1 / 11, S_22 = 3 / 12
    s11, s12, s21, s22 = 2 / 22, -4 / 24, -1 / 11, 3 / 12
    hinges = [40 + s12 - s11, 40 + s21 - s22, 40 + s21 - s11, 40 + s12 - s22]
    assert whole.item() == pytest.approx(0.5 * sum(hinges))


def test_latent_labels_by_hand() -> None:
    """Within a pair y = sign of the product; a fragment that no region answers gets its best region."""
    fragment, _ = deepfrag_loss(REGIONS, FRAGMENTS, latent=True)
    # Fragment 1: p = (2, 0): 2 is positive -> 0; 0 is not -> 1 + 0 = 1. Fragment 2: p = 0, its only region -> 1.
    # Fragment 3: p = 3 -> 0. Between pairs as before: 5.
    assert fragment.item() == pytest.approx(1 + 1 + 0 + 5)
    unanswered = ragged([[-1.0, 0.0], [-3.0, 0.0]])
    fragment, _ = deepfrag_loss(unanswered, ragged([[1.0, 0.0]]), latent=True)
    # p = (-1, -3): the first is the best, 1 + 1; the other one stays negative, 1 - 3 < 0.
    assert fragment.item() == pytest.approx(2)


def slow_losses(regions: Ragged, fragments: Ragged, latent: bool, n: float, margin: float, beta: float) -> list[float]:
    images = [regions[k].tolist() for k in range(len(regions))]
    texts = [fragments[k].tolist() for k in range(len(fragments))]

    def dot(one: list[float], other: list[float]) -> float:
        return math.fsum(a * b for a, b in zip(one, other))

    total = 0.0
    for k, image in enumerate(images):
        for l, text in enumerate(texts):  # noqa: E741 - the paper's index
            for phrase in text:
                products = [dot(region, phrase) for region in image]
                signs = [1.0 if k == l else -1.0] * len(image)
                if latent and k == l:
                    signs = [1.0 if p > 0 else -1.0 for p in products]
                    if max(products) <= 0:
                        signs[products.index(max(products))] = 1.0
                total += sum(max(0.0, 1 - y * p) for y, p in zip(signs, products))
    scores = [
        [sum(dot(v, s) for v in image for s in text) / (len(image) * (len(text) + n)) for text in texts]
        for image in images
    ]
    hinge = 0.0
    for k in range(len(images)):
        for other in range(len(images)):
            if other != k:
                hinge += max(0.0, margin + scores[k][other] - scores[k][k])
                hinge += max(0.0, margin + scores[other][k] - scores[k][k])
    return [total, beta * hinge]


def batch(seed: int) -> tuple[Ragged, Ragged]:
    generator = torch.Generator().manual_seed(seed)

    def items(counts: list[int]) -> Ragged:
        return Ragged.from_list([torch.randn(count, 3, generator=generator, dtype=torch.float64) for count in counts])

    return items([2, 1, 4, 3]), items([1, 3, 2, 5])


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_losses_pair_by_pair(seed: int, latent: bool) -> None:
    regions, fragments = batch(seed)
    found = deepfrag_loss(regions, fragments, latent=latent, smoothing=5, margin=0.3, beta=0.7)
    assert [part.item() for part in found] == pytest.approx(
        slow_losses(regions, fragments, latent, 5, 0.3, 0.7), rel=1e-5
    )


def test_gradients_are_those_of_differences() -> None:
    regions, fragments = batch(5)

    def loss(values: Tensor) -> Tensor:
        return torch.stack(deepfrag_loss(Ragged(values, regions.offsets), fragments, latent=True)).sum()

    values = regions.values.clone().requires_grad_()
    loss(values).backward()
    assert values.grad is not None
    for place in ((0, 0), (3, 2), (9, 1)):
        step = torch.zeros_like(values)
        step[place] = 1e-2
        with torch.no_grad():
            slope = (loss(values + step) - loss(values - step)).item() / 2e-2
        assert values.grad[place].item() == pytest.approx(slope, rel=1e-2, abs=0.05)


def test_the_score_by_hand() -> None:
    similarity = DeepFragSimilarity(DeepFragConfig(smoothing=10), BuildContext())
    images, texts = samples.image_features((2, 1), dim=2), samples.text_features((1, 2), dim=2)
    images.regions, texts.fragments = REGIONS, FRAGMENTS
    expected = torch.tensor([[2 / 22, -4 / 24], [-1 / 11, 3 / 12]])
    torch.testing.assert_close(similarity.score(images, texts), expected)
    images.keep = torch.tensor([False, True, True])  # image 1 keeps (0, 1) alone
    torch.testing.assert_close(similarity.score(images, texts)[0], torch.tensor([0.0, 2 / 12]))
    assert similarity.respond(samples.images_at(images, [0]), samples.texts_at(texts, [1])).tolist() == [
        [-1, 2],
        [-1, 0],
    ]
