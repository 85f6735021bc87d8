"""The image half of a pipeline: from prepared pictures to features of the pictures and their regions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.encoding.patches import grid_of
from heritage_align.encoding.preparation import Exact, Preparation, Prepared
from heritage_align.encoding.sources import ImageSource
from heritage_align.errors import DataError
from heritage_align.ops import Ragged, triangular_factor
from heritage_align.protocols import (
    EncodedImages,
    Encoder,
    FeatureEncoder,
    FeatureReader,
    Filter,
    Proposer,
    RegionEncoder,
    SurroundedEncoder,
    WholeEncoder,
)
from heritage_align.types import ImageFeatures, Regions


class Masks(NamedTuple):
    """Which regions of some pictures are kept: `boxes` and `keep` as of `ImageFeatures`, without features."""

    ids: tuple[str, ...]
    boxes: Tensor
    keep: Tensor | None


@dataclass(frozen=True)
class ImageStage:
    """The image half of a pipeline: proposer, filters, encoder.

    Attributes:
        encoder: encodes whole pictures, and crops, patches or pooled boxes as regions.
        proposer: None for a pipeline without regions.
        filters: applied in their order.
        factors: whether the regions' triangular factors are computed (focal attention uses them).
        features: the proposer gives the regions' features and the encoder projects them; no pixel is encoded.
        as_given: such features are not projected, but handed on as they are.
        pictures: whether pictures have to be opened; without, regions are looked up by id.
        preparation: how pictures and crops become pixels; None for `Exact` with batches left on the CPU.
    """

    encoder: Encoder
    proposer: Proposer | None = None
    filters: Sequence[Filter] = ()
    factors: bool = False
    features: bool = False
    as_given: bool = False
    pictures: bool = True
    preparation: Preparation | None = None

    def regions(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions] | None:
        """Propose and filter regions; None without a proposer."""
        if self.proposer is None:
            return None
        regions = self.proposer.propose(images, ids)
        for step in self.filters:
            regions = step.apply(images, regions)
        return regions

    def load(self, source: ImageSource) -> Prepared:
        """Decode a picture for `encode`, and prepare it where its pixels are encoded; raises ImageError."""
        return Prepared(source.load(), torch.empty(0)) if self.features else self._preparation.load(source)

    def prepare(self, image: Image) -> Prepared:
        """Prepare a decoded picture for `encode`."""
        return Prepared(image, torch.empty(0)) if self.features else self._preparation.prepared(image)

    def encode(
        self, pictures: Sequence[Prepared], ids: Sequence[str], pool: ThreadPoolExecutor, batch_size: int
    ) -> ImageFeatures:
        """Encode pictures that `load` or `prepare` gave.

        Args:
            pictures: at least one.
            ids: of the pictures.
            pool: threads that prepare crops.
            batch_size: crops encoded at once.

        Raises:
            ValueError: the proposer's patches are not the encoder's.
        """
        images = [picture.image for picture in pictures]
        regions = self.regions(images, ids)
        if regions is None:
            return ImageFeatures(tuple(ids), self._encode_wholes(pictures).global_features)
        if self.features:
            return self.project(ids, regions, _fractions(images, regions))
        if all(r.grid is not None for r in regions):
            encoded = self._encode_wholes(pictures, patches=True)
            assert encoded.patches is not None
            for image, image_id, found in zip(images, ids, regions):
                grid = grid_of(self.encoder, image)
                assert grid is not None  # it gave patches
                if len(found) != grid[0] * grid[1] or found.grid != grid:
                    raise ValueError(
                        f"image {image_id!r}: the proposer gives {len(found)} patches in a grid {found.grid}, the "
                        f"encoder {grid[0] * grid[1]} in {grid}; boxes and features would not belong together"
                    )
            # Beyond its own grid a picture's patches are padding, where grids differ.
            values = torch.cat([rows[: len(found)] for rows, found in zip(encoded.patches, regions)])
            ragged, whole = Ragged(values, _offsets(regions)), encoded.global_features
        elif isinstance(self.encoder, RegionEncoder) and self.encoder.pools_regions:
            boxes = Ragged(_fractions(images, regions), _offsets(regions))
            whole, values = self.encoder.encode_regions(self._preparation.whole(pictures), boxes)
            self._preparation.settle()
            ragged = Ragged(values, _offsets(regions))
        else:
            crops = self._preparation.crops(pictures, regions, pool, batch_size)
            whole = self._encode_wholes(pictures).global_features
            parts = [self._encode(pixels).global_features for pixels in crops]
            values = torch.cat(parts) if parts else whole.new_empty(0, self.encoder.dim)
            ragged = Ragged(values, _offsets(regions))
        return ImageFeatures(
            tuple(ids),
            whole,
            ragged,
            boxes=_fractions(images, regions),
            keep=_keep(regions, ragged.device),
            factor=triangular_factor(ragged) if self.factors else None,
        )

    def masks(self, images: Sequence[Image], ids: Sequence[str]) -> Masks:
        """Propose and filter regions of decoded pictures, and encode nothing; there must be a proposer."""
        regions = self.regions(images, ids)
        assert regions is not None
        return Masks(tuple(ids), _fractions(images, regions), _keep(regions, torch.device("cpu")))

    def look_up(self, ids: Sequence[str]) -> ImageFeatures:
        """Encode pictures by their ids alone: regions and features come from a file."""
        assert isinstance(self.proposer, FeatureReader)
        regions = self.proposer.lookup(ids)
        boxes = np.concatenate([found.boxes for found in regions]).astype("float32").reshape(-1, 4)
        return self.project(ids, regions, torch.from_numpy(boxes))

    def project(self, ids: Sequence[str], regions: Sequence[Regions], boxes: Tensor) -> ImageFeatures:
        """Encode the features that came with the regions, or hand them on (`as_given`).

        Args:
            ids: of the pictures.
            regions: with their features, one a picture.
            boxes: ``(total_regions, 4)`` as fractions of width and height.

        Raises:
            DataError: names the first picture whose regions came without features.
        """
        rows, whole = [], []
        for image_id, found in zip(ids, regions):
            if found.features is None or found.global_feature is None or len(found.features) != len(found):
                raise DataError(f"image {image_id!r}: its {len(found)} regions came without features")
            rows.append(torch.from_numpy(np.asarray(found.features, dtype=np.float32)))
            whole.append(torch.from_numpy(np.asarray(found.global_feature, dtype=np.float32)))
        ragged, wholes = Ragged(torch.cat(rows), _offsets(regions)), torch.stack(whole)
        if not self.as_given:
            assert isinstance(self.encoder, FeatureEncoder)
            if isinstance(self.encoder, SurroundedEncoder):
                vectors = self.encoder.encode_surrounded(wholes, ragged, boxes)
            else:
                vectors = self.encoder.encode_features(ragged.values)
            raw, ragged = ragged, Ragged(vectors, ragged.offsets)
            if isinstance(self.encoder, WholeEncoder):
                wholes = self.encoder.encode_wholes(wholes, raw, boxes)
            else:
                wholes = self.encoder.encode_features(wholes)
        return ImageFeatures(
            tuple(ids),
            wholes,
            ragged,
            boxes=boxes,
            keep=_keep(regions, ragged.device),
            factor=triangular_factor(ragged) if self.factors else None,
        )

    @cached_property
    def _preparation(self) -> Preparation:
        return self.preparation or Exact(self.encoder)

    def _encode_wholes(self, pictures: Sequence[Prepared], *, patches: bool = False) -> EncodedImages:
        return self._encode(self._preparation.whole(pictures), patches=patches)

    def _encode(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        encoded = self.encoder.encode_pixels(pixels, patches=patches)
        self._preparation.settle()
        return encoded


def _fractions(images: Sequence[Image], regions: Sequence[Regions]) -> Tensor:
    parts = []
    for image, found in zip(images, regions):
        size = torch.tensor([image.width, image.height, image.width, image.height], dtype=torch.float32)
        parts.append(torch.from_numpy(found.boxes.astype("float32")).reshape(-1, 4) / size)
    return torch.cat(parts)


def _offsets(regions: Sequence[Regions]) -> Tensor:
    return torch.tensor([0, *(len(found) for found in regions)]).cumsum(0)


def _keep(regions: Sequence[Regions], device: torch.device) -> Tensor | None:
    if all(r.keep is None for r in regions):
        return None
    rows = [torch.ones(len(r), dtype=torch.bool) if r.keep is None else torch.from_numpy(r.keep) for r in regions]
    return torch.cat(rows).to(device)
