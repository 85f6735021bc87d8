"""Regions with changed copies, around a detector and around a proposer whose features are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from heritage_align_plugins.augmented.config import AugmentedConfig
from heritage_align_plugins.augmented.proposer import Augmented
from PIL import Image
from pydantic import ValidationError

from heritage_align.component import ComponentConfig
from heritage_align.data.augment import Augmentation, augment_image
from heritage_align.errors import ConfigError
from heritage_align.hookspecs import ComponentSpec, hookimpl
from heritage_align.plugins import discover
from heritage_align.protocols import BoxFeatures, BuildContext, Proposer
from heritage_align.testing import Case, parametrize_with_checks
from heritage_align.types import FloatArray, Regions

PICTURE = Image.fromarray(np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8))


class MeanColours:
    """The left half of a picture and the whole of it, described by their mean colours."""

    def __init__(self, config: ComponentConfig | None = None, context: BuildContext | None = None) -> None:
        pass

    def features_of(self, image: Image.Image, boxes: Sequence[Sequence[float]]) -> FloatArray:
        crops = [np.asarray(image.crop(tuple(map(int, box)))) for box in boxes]
        return np.stack([crop.mean(axis=(0, 1)) for crop in crops]).astype(np.float32)

    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [self.regions(image) for image in images]

    def regions(self, image: Image.Image) -> Regions:
        boxes = np.array([[0, 0, (image.width + 1) // 2, image.height], [0, 0, *image.size]], dtype=np.float32)
        return Regions(boxes, features=self.features_of(image, boxes.tolist()), global_feature=np.ones(3, np.float32))


BOXES = MeanColours().regions(PICTURE).boxes


class Plugin:
    @hookimpl
    def heritage_align_components(self) -> list[ComponentSpec]:
        target = f"{__name__}:MeanColours"
        config = "heritage_align.component:ComponentConfig"
        return [ComponentSpec("proposer", "mean_colours", target, config, outputs=("features",))]


REGISTRY = discover([("mean_colours", Plugin())])


def build(inner: object, seed: int = 0, **settings: Any) -> Augmented:
    config = AugmentedConfig(proposer={"name": "mean_colours"}, **settings)
    built = Augmented(config, BuildContext(seed=seed, nested={"proposer": inner}))
    assert isinstance(built, Proposer)
    assert isinstance(built, BoxFeatures)
    return built


@pytest.mark.parametrize("form", ["add", "mean"])
def test_copies_have_the_features_of_the_same_boxes_in_changed_pictures(form: str) -> None:
    inner = MeanColours()
    (found,) = build(inner, seed=7, form=form, copies=2).propose([PICTURE], ["a"])
    described = [inner.features_of(PICTURE, BOXES.tolist())]
    for copy in range(2):
        changed = augment_image(PICTURE, seed=7, image_id="a", copy=copy, settings=Augmentation())
        described.append(inner.features_of(changed, BOXES.tolist()))
    expected = np.stack(described, axis=1)  # (n_regions, 1 + copies, 3)
    if form == "mean":
        np.testing.assert_allclose(found.features, expected.mean(axis=1), rtol=1e-6)
        np.testing.assert_array_equal(found.boxes, BOXES)
    else:
        np.testing.assert_array_equal(found.features, expected.reshape(6, 3))
        np.testing.assert_array_equal(found.boxes, BOXES.repeat(3, axis=0))


def test_zero_strength_repeats_the_regions() -> None:
    nothing = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "blur_share": 0}
    (found,) = build(MeanColours(), **nothing).propose([PICTURE], ["a"])
    assert found.features is not None
    np.testing.assert_array_equal(found.features[::2], found.features[1::2])


def test_boxes_that_are_asked_for_are_described_unchanged() -> None:
    inner = MeanColours()
    boxes = [[1.0, 2.0, 9.0, 8.0]]
    np.testing.assert_array_equal(build(inner).features_of(PICTURE, boxes), inner.features_of(PICTURE, boxes))


class OnlyBoxes:
    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [Regions(BOXES) for _ in images]


class NoFeatures(MeanColours):
    propose = OnlyBoxes.propose  # type: ignore[assignment]


def test_proposers_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"'mean_colours' has no features of boxes .*faster_rcnn, features: pooled"):
        build(OnlyBoxes())
    with pytest.raises(ConfigError, match="'mean_colours' gives regions without features"):
        build(NoFeatures()).propose([PICTURE], ["a"])
    with pytest.raises(ValidationError, match=r"blur: expected 0 <= low <= high, got \[2.0, 1.0\]"):
        AugmentedConfig(proposer={}, blur=(2, 1))


def test_around_a_detector() -> None:
    detector = {"architecture": "mobilenet_v3_large_320_fpn", "weights": "random", "count": 2, "features": "pooled"}
    (plain,) = Case("proposer", "faster_rcnn", detector).build().propose([PICTURE], ["a"])
    wrapped = Case("proposer", "augmented", {"proposer": {"name": "faster_rcnn", **detector}}).build()
    (found,) = wrapped.propose([PICTURE], ["a"])
    assert plain.features is not None
    assert found.features is not None
    np.testing.assert_array_equal(found.boxes[::2], plain.boxes)
    np.testing.assert_allclose(found.features[::2], plain.features, rtol=1e-4, atol=1e-6)
    assert found.features.shape == (2 * len(plain), 1024)


@parametrize_with_checks(
    [
        Case("proposer", "augmented", {"proposer": {"name": "mean_colours"}}, registry=REGISTRY),
        Case("proposer", "augmented", {"proposer": {"name": "mean_colours"}, "form": "mean"}, registry=REGISTRY),
    ]
)
def test_conformance(check: Callable[[], None]) -> None:
    check()
