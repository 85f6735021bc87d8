"""Changes to training pictures."""

from __future__ import annotations

import numpy as np
import pytest
from heritage_align_plugins.contrastive.augmentation import POLICY, apply, augment
from heritage_align_plugins.contrastive.config import AugmentationConfig
from PIL import Image
from torchvision.transforms import autoaugment

PLAIN = AugmentationConfig(flip=0.0, auto_augment=False)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    rows = np.arange(40, dtype=np.uint8)[:, None, None]
    columns = np.arange(60, dtype=np.uint8)[None, :, None]
    return Image.fromarray(np.concatenate([rows + 0 * columns, 0 * rows + columns, rows + columns], axis=2))


def test_a_generator_repeats_its_changes_and_another_makes_others(picture):
    changed = [
        np.asarray(augment(picture, AugmentationConfig(), 32, np.random.default_rng(seed))) for seed in (0, 0, 1)
    ]
    assert changed[0].shape == (32, 32, 3)
    assert np.array_equal(changed[0], changed[1])
    assert not np.array_equal(changed[0], changed[2])


def test_a_crop_keeps_the_share_that_is_asked_for(picture):
    config = PLAIN.model_copy(update={"scale": (0.25, 0.25), "aspect": (1.0, 1.0)})
    for seed in range(20):
        cropped = np.asarray(augment(picture, config, 24, np.random.default_rng(seed))).astype(float)
        # The square of a quarter of 60 x 40 pixels has a side of 24, and channels hold rows and columns.
        rows, columns = cropped[:, 0, 0], cropped[0, :, 1]
        assert np.ptp(rows) == np.ptp(columns) == 23


def test_where_no_crop_fits_it_is_the_middle():
    wide = Image.fromarray(np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 20, 0).repeat(3, 2))
    config = PLAIN.model_copy(update={"scale": (1.0, 1.0), "aspect": (0.5, 2.0)})
    kept = np.asarray(augment(wide, config, 20, np.random.default_rng(0)))[0, :, 0]
    assert (int(kept.min()), int(kept.max())) == pytest.approx((80, 119), abs=1)


def test_mirror_images_come_as_often_as_is_asked_for(picture):
    config = AugmentationConfig(scale=(1.0, 1.0), aspect=(1.5, 1.5), flip=0.5, auto_augment=False)
    firsts = [np.asarray(augment(picture, config, 32, np.random.default_rng(s)))[0, 0, 1] for s in range(60)]
    assert 15 < sum(first > 30 for first in firsts) < 45


@pytest.mark.parametrize("name", sorted({name for pair in POLICY for name, _, _ in pair}))
@pytest.mark.parametrize("level", [0.1, 0.9])
def test_every_operation_of_the_policy_changes_a_picture_and_keeps_its_form(name, level):
    noise = Image.fromarray(np.random.default_rng(0).integers(1, 255, (40, 60, 3), dtype=np.uint8))
    changed = apply(name, noise, level, 1)
    assert (changed.mode, changed.size) == ("RGB", noise.size)
    assert not np.array_equal(np.asarray(changed), np.asarray(noise))


def test_operations_by_hand():
    image = Image.fromarray(np.array([[[10, 120, 255]]], dtype=np.uint8))

    def applied(name: str, level: float) -> list[int]:
        return np.asarray(apply(name, image, level, 1))[0, 0].tolist()

    assert applied("invert", 0.4) == [245, 135, 0]
    assert applied("posterize", 0.0) == [0, 112, 240]  # 4 bits
    assert applied("solarize", 0.5) == [10, 120, 0]  # from 128 on inverted
    assert applied("contrast", 0.5) == [10, 120, 255]  # 0.1 + 1.8 / 2 = 1 changes nothing


def test_the_policy_is_that_of_the_paper_as_torchvision_has_it():
    theirs = autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy.IMAGENET).policies
    names = {"shear": "ShearX"}
    # torchvision has no magnitude for operations that know none, and rounds posterisation in another way.
    assert [tuple((names.get(n, n).lower(), p) for n, p, _ in pair) for pair in POLICY] == [
        tuple((name.lower(), chance) for name, chance, _ in pair) for pair in theirs
    ]
    for ours, other in zip(POLICY, theirs):
        for (_, _, level), (_, _, magnitude) in zip(ours, other):
            assert magnitude is None or magnitude == level
