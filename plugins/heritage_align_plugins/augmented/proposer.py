"""The regions of another proposer, with the features that they have in changed copies of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from heritage_align.data import Augmentation, augment_image, with_copies
from heritage_align.plugin import BoxFeatures, BuildContext, ConfigError, FloatArray, Proposer, Regions
from heritage_align_plugins.augmented.config import AugmentedConfig


class Augmented:
    """Adds changed copies of regions to a picture's regions, or averages each region with its copies.

    The whole picture is changed and the detector's second stage describes the same boxes in it. A region cut out and
    given to the detector as a picture would be enlarged to its full input, and its features would differ for that
    alone. Regions of one copy therefore share the draws, which depend on the run's seed, the picture's id and the
    copy's number. For training: `features_of`, which golden fragments are described by, changes nothing.
    """

    def __init__(self, config: AugmentedConfig, context: BuildContext) -> None:
        """Take the wrapped proposer.

        Raises:
            ConfigError: it cannot describe boxes that it did not find.
        """
        self.config = config
        self._seed = context.seed
        self._inner: Proposer = context.nested["proposer"]
        self._settings = Augmentation(
            brightness=config.brightness,
            contrast=config.contrast,
            saturation=config.saturation,
            hue=config.hue,
            blur=config.blur,
            blur_share=config.blur_share,
        )
        if not isinstance(self._inner, BoxFeatures):
            raise self._incompatible("has no features of boxes in a changed picture")
        self._describer: BoxFeatures = self._inner

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return the regions with their features and those of their copies.

        Raises:
            ConfigError: the wrapped proposer gives regions without features.
        """
        found = self._inner.propose(images, ids)
        return [self._augmented(*row) for row in zip(images, ids, found)]

    def features_of(self, image: Image, boxes: Sequence[Sequence[float]]) -> FloatArray:
        """Return the wrapped proposer's features of boxes ``(n_boxes, feature_dim)``, of the unchanged picture."""
        return self._describer.features_of(image, boxes)

    def _augmented(self, image: Image, image_id: str, regions: Regions) -> Regions:
        if regions.features is None:
            raise self._incompatible("gives regions without features")
        boxes = regions.boxes.tolist()
        changed = []
        for copy in range(self.config.copies):
            picture = augment_image(image, seed=self._seed, image_id=image_id, copy=copy, settings=self._settings)
            changed.append(self._describer.features_of(picture, boxes))
        # (copies, n_regions, dim) to the copies of one region together, as `with_copies` takes them.
        copies = np.stack(changed, axis=1).reshape(-1, regions.features.shape[1])
        return with_copies(regions, copies, self.config.form)

    def _incompatible(self, fault: str) -> ConfigError:
        name = self.config.proposer.get("name")
        remedy = "take one that has, for example {name: faster_rcnn, features: pooled} or encoded"
        return ConfigError([f"proposer.proposer: {name!r} {fault}; {remedy}"])
