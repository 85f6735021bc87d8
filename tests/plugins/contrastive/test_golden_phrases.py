"""Which phrase a patch or a region shows, and the contrasts of both with phrases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from heritage_align_plugins.contrastive.golden_phrases import COVERED, WITHIN, GoldenPhrases, shown_regions
from heritage_align_plugins.contrastive.loss import patch_contrast, region_contrast
from hypothesis import given, settings
from hypothesis import strategies as st

from heritage_align.errors import DataError
from heritage_align.types import GoldenPair

GROUND = (0.0, 0.0, 40.0, 20.0)
NAMES = {"ground": ("白地", "white ground"), "fish": ("红鱼", "red fish"), "star": ("金星",)}


class Silk:
    """Pictures of 40 x 20 pixels."""

    name = "silk"
    texts = ()

    def __init__(self, *regions: tuple[str, tuple[float, float, float, float], str]) -> None:
        self.golden = tuple(GoldenPair(image_id, box, NAMES[name]) for image_id, box, name in regions)
        self.image_ids = ("a", "b", "c")

    def load_image(self, image_id: str) -> None:
        raise AssertionError("labels need no picture")


def test_patches_by_hand():
    # Patches of 20 x 10; the fish covers the left upper one by 60 %, the star (2 x 2) lies in the right lower one.
    silk = Silk(("b", GROUND, "ground"), ("b", (0, 0, 20, 6), "fish"), ("b", (30, 14, 32, 16), "star"))
    phrases = GoldenPhrases(silk, ("a", "b"), 2)
    assert phrases.alternatives == 2
    labels, boxes, regions, names = phrases.batch([0, 1], [(40, 20), (40, 20)], 0)
    assert names == ("白地", "红鱼", "金星")
    assert labels.tolist() == [[-1] * 4, [1, 0, 0, 2]]  # picture a has no golden regions
    # In patches of 20 x 10, without the ground.
    assert len(boxes[0]) == 0
    np.testing.assert_allclose(boxes[1], [[0, 0, 1, 0.6], [1.5, 1.4, 1.6, 1.6]])
    assert regions.tolist() == [1, 2]
    labels, _, regions, names = phrases.batch([1], [(40, 20)], 1)
    assert names == ("white ground", "red fish", "金星")  # the star has but one name
    assert labels.tolist() == [[1, 0, 0, 2]]


def test_a_patch_that_shows_nothing_clearly_is_left_out():
    silk = Silk(("b", GROUND, "ground"), ("b", (0, 0, 20, 2), "fish"), ("b", (20, 0, 40, 2), "fish"))
    labels, _, _, names = GoldenPhrases(silk, ("b",), 2).batch([0], [(40, 20)], 0)
    # A fifth of each upper patch is covered, and both regions lie wholly in one: they are shown.
    assert [names[k] for k in labels[0]] == ["红鱼", "红鱼", "白地", "白地"]
    across = Silk(("b", GROUND, "ground"), ("b", (15, 0, 25, 2), "fish"))
    assert GoldenPhrases(across, ("b",), 2).batch([0], [(40, 20)], 0).patches.tolist() == [[-1, -1, 0, 0]]


def test_without_a_ground_an_empty_patch_has_no_phrase():
    labels, _, regions, names = GoldenPhrases(Silk(("b", (0, 0, 20, 10), "fish")), ("b",), 2).batch([0], [(40, 20)], 0)
    assert names == ("红鱼",)
    assert labels.tolist() == [[0, -1, -1, -1]]
    assert regions.tolist() == [0]


def test_boxes_follow_the_size_of_their_picture():
    silk = Silk(("a", (0, 0, 20, 10), "fish"), ("b", (0, 0, 20, 10), "fish"))
    labels, *_ = GoldenPhrases(silk, ("a", "b"), 2).batch([0, 1], [(40, 20), (20, 10)], 0)
    assert labels.tolist() == [[0, -1, -1, -1], [0, 0, 0, 0]]


def slow_shown(boxes, patches, size):
    found = []
    for patch in patches:

        def common(box, patch=patch):
            width = min(box[2], patch[2]) - max(box[0], patch[0])
            height = min(box[3], patch[3]) - max(box[1], patch[1])
            return max(width, 0) * max(height, 0)

        area = (patch[2] - patch[0]) * (patch[3] - patch[1])
        grounds = [k for k, b in enumerate(boxes) if (b[2] - b[0]) * (b[3] - b[1]) >= 0.9 * size[0] * size[1]]
        shares = {k: common(b) / area for k, b in enumerate(boxes) if k not in grounds}
        best = max(shares, key=lambda k: (shares[k], -k), default=None)
        own = 0 if best is None else (boxes[best][2] - boxes[best][0]) * (boxes[best][3] - boxes[best][1])
        if best is not None and shares[best] > 0 and (shares[best] >= COVERED or common(boxes[best]) >= WITHIN * own):
            found.append(best)
        else:
            found.append(grounds[0] if grounds and sum(shares.values()) < 0.02 else -1)
    return found


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans())
def test_labels_are_those_of_plain_loops(seed, n, has_ground):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 40, (n, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 24, (n, 2))], axis=1).clip(0, 48).astype(float)
    if has_ground:
        boxes = np.concatenate([boxes, [[0, 0, 48, 48]]])
    ticks = np.arange(3) * 16.0
    patches = np.array([(x, y, x + 16, y + 16) for y in ticks for x in ticks])
    assert shown_regions(boxes, patches, (48, 48)).tolist() == slow_shown(boxes.tolist(), patches.tolist(), (48, 48))


def test_contrast_by_hand():
    phrases = torch.eye(2)
    patches = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]])
    labels = torch.tensor([[0, 0, -1]])
    # Patch 1: log(1 + e^-2); patch 2: log(1 + e^(2 * (.8 - .6))); patch 3 has no label.
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(0.4))) / 2
    assert patch_contrast(patches, labels, phrases, torch.tensor(2.0)).item() == pytest.approx(expected, abs=1e-6)


def test_contrast_of_regions_by_hand():
    # Four patches, two a row. The box over the upper two has their mean, of the length sqrt(.5); a box within the left
    # lower one has that patch.
    patches = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]]])
    boxes = [torch.tensor([[0.0, 0.0, 2.0, 1.0], [0.5, 1.5, 0.5001, 1.5001]], dtype=torch.float64)]
    loss = region_contrast(patches, boxes, torch.tensor([0, 1]), torch.eye(2), torch.tensor(2.0))
    expected = (math.log(2) + math.log1p(math.exp(2 * (0.6 - 0.8)))) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-4)


def slow_region(plane, box):
    """RoIAlign into one bin: the mean of bilinear samples, as many a side as the box is patches long, rounded up."""
    x0, y0, x1, y1 = box
    across, down = math.ceil(x1 - x0), math.ceil(y1 - y0)
    total = torch.zeros(plane.shape[-1])
    for row in range(down):
        for column in range(across):
            y = y0 + (row + 0.5) * (y1 - y0) / down - 0.5  # the middle of the first patch is at 0
            x = x0 + (column + 0.5) * (x1 - x0) / across - 0.5
            y, x = (min(max(at, 0.0), plane.shape[0] - 1.0) for at in (y, x))
            low_y, low_x = int(y), int(x)
            high_y, high_x = min(low_y + 1, plane.shape[0] - 1), min(low_x + 1, plane.shape[1] - 1)
            upper = plane[low_y, low_x] * (1 - (x - low_x)) + plane[low_y, high_x] * (x - low_x)
            lower = plane[high_y, low_x] * (1 - (x - low_x)) + plane[high_y, high_x] * (x - low_x)
            total += upper * (1 - (y - low_y)) + lower * (y - low_y)
    return total / total.norm()


def test_regions_are_pooled_as_loops_pool_them():
    generator = np.random.default_rng(3)
    patches = torch.nn.functional.normalize(torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(1)), dim=2)
    low = generator.uniform(0, 2, (2, 4, 2))
    boxes = np.concatenate([low, np.minimum(low + generator.uniform(0.1, 2.5, low.shape), 3)], axis=2)
    phrases = torch.nn.functional.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(2)), dim=1)
    labels = torch.tensor([0, 1, 2, 0, 1, 1, 2, 0])
    pooled = [
        slow_region(patches[k].reshape(3, 3, 5), box) for k, several in enumerate(boxes.tolist()) for box in several
    ]
    expected = torch.nn.functional.cross_entropy(3.0 * torch.stack(pooled) @ phrases.T, labels)
    loss = region_contrast(patches, [torch.from_numpy(own) for own in boxes], labels, phrases, torch.tensor(3.0))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_batch_without_labels_costs_nothing_and_has_finite_gradients():
    patches = torch.eye(2)[None].requires_grad_()
    loss = patch_contrast(patches, torch.full((1, 2), -1), torch.eye(2), torch.tensor(2.0))
    loss.backward()
    assert loss.item() == 0
    assert not patches.grad.any()
    none = region_contrast(
        torch.ones(1, 4, 2), [torch.zeros(0, 4)], torch.zeros(0, dtype=torch.int64), torch.eye(2), torch.tensor(2.0)
    )
    assert none.item() == 0


def test_data_without_golden_regions_are_named():
    with pytest.raises(DataError, match="silk: has no golden regions with phrases, which train.patch_weight"):
        GoldenPhrases(Silk(), ("a",), 2)
