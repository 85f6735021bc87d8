"""Regions that are looked up by the picture's id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL.Image import Image

from heritage_align.data import read_region_features
from heritage_align.plugin import BuildContext, Regions, file_digest
from heritage_align_plugins.region_features.config import RegionFeaturesConfig


class PrecomputedRegions:
    """Regions with the features that a detector computed before, the best of each picture first.

    Attributes:
        dim: width of the features.
    """

    def __init__(self, config: RegionFeaturesConfig, context: BuildContext) -> None:
        """Open the file; raises DataError that names the file and what is wrong with it."""
        self.config = config
        self._features = read_region_features(config.path)
        self.dim = self._features.dim

    def lookup(self, ids: Sequence[str]) -> list[Regions]:
        """Return the regions of pictures, boxes as fractions of width and height.

        Raises:
            DataError: names the first ids without features, pictures without regions, and features that are not
                finite.
        """
        chosen = self._features.select(ids, count=self.config.count, empty=self.config.empty)
        if self.config.min_keypoints is not None:
            chosen = chosen.mask_by_keypoints(self.config.min_keypoints)
        return chosen.regions()

    def fingerprint(self) -> str:
        """Return the sha256 of the file; of a folder's files the names, sizes and times of change, in their order."""
        path = self.config.path
        if path.is_dir():
            files = sorted(part for part in path.rglob("*") if part.is_file())
            stats = [(str(part.relative_to(path)), part.stat().st_size, part.stat().st_mtime_ns) for part in files]
            return hashlib.sha256(repr(stats).encode()).hexdigest()
        return file_digest(path)

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return what `lookup` does with boxes in pixels; of the pictures only the size is used."""
        return [
            replace(found, boxes=found.boxes * np.array([*image.size, *image.size], dtype=np.float32))
            for image, found in zip(images, self.lookup(ids), strict=True)
        ]
