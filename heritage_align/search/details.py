"""Details, parts of pictures that are queries, and the vectors that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from heritage_align.data.boxes import areas, common_areas, pixel_box
from heritage_align.errors import DataError
from heritage_align.ops import Ragged
from heritage_align.pipeline import Pipeline
from heritage_align.planning import takes_features
from heritage_align.protocols import BoxFeatures, FeatureEncoder, RegionEncoder

MARGINS = (1.0, 1.3, 1.6)
"""Sides of the squares that a detail is set into, over its longer side. A region of the store shows a motif with what
is around it, and rarely as large as a tight cut-out does. Chosen on validation pictures of the motif collection, 200
details and 14 windows a picture: the motif came first for 21.5 % of tight crops and for 26.5 % of the mean of these
three; in the same colour for 11.3 and 20.8 %. Crops that were moved as well, or took what was around the detail, were
no better."""

LARGEST = 2048
"""Pixels of a detail's longer side before it is set into squares, which would take 7.7 bytes for a pixel of a scan."""


@dataclass(frozen=True)
class Detail:
    """A picture, or a part of one, as a query.

    Attributes:
        image: upright RGB.
        name: names the answers; features that were computed before are looked up by it, as by an image's id.
        box: ``(x0, y0, x1, y1)`` in pixels; the whole picture where None.
    """

    image: Image.Image
    name: str = "detail"
    box: tuple[float, float, float, float] | None = None

    def inside(self) -> tuple[float, float, float, float]:
        """Return the box, cut at the picture's edges; raises DataError for one without area within the picture."""
        width, height = self.image.size
        if self.box is None:
            return 0.0, 0.0, float(width), float(height)
        if len(self.box) != 4:
            raise DataError(f"{self.name}: a box is four numbers, x0, y0, x1, y1 in pixels; got {self.box!r}")
        x0, y0, x1, y1 = self.box
        if not all(np.isfinite(self.box)) or min(x1, width) <= max(x0, 0) or min(y1, height) <= max(y0, 0):
            raise DataError(
                f"{self.name}: box {tuple(self.box)} has no area within the picture of {width} x {height} pixels"
            )
        return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))

    def crop(self) -> Image.Image:
        """Return the pixels of the box, at least one; raises DataError as `inside`."""
        return self.image if self.box is None else self.image.crop(pixel_box(self.inside()))


def encode_details(pipeline: Pipeline, details: Sequence[Detail]) -> Tensor:
    """Encode details as the regions of a store are, ``(n_details, dim)`` fp32 with unit rows on the pipeline's device.

    An encoder of pixels is given every detail at the sizes of `MARGINS`, and the vectors' mean is taken. One that pools
    regions out of whole pictures is given the picture and pools the box, all of it without one. Where regions have
    features, the proposer describes the box if it can (`BoxFeatures`); else the picture's own region that shares
    most with the box is taken, and for a picture without a box the vector of the whole.

    Raises:
        DataError: a box outside its picture; features are read from a file that does not have the picture.
    """
    if takes_features(pipeline.config):
        return torch.cat([_described(pipeline, detail) for detail in details])
    encoder = pipeline.encoder
    if isinstance(encoder, RegionEncoder) and encoder.pools_regions:
        return torch.cat([_pooled(encoder, detail) for detail in details])
    views = [view for detail in details for view in set_into_squares(detail.crop())]
    parts = []
    size = pipeline.config.runtime.batch_size
    for start in range(0, len(views), size):
        pixels = torch.stack([encoder.prepare(view) for view in views[start : start + size]])
        parts.append(encoder.encode_pixels(pixels).global_features.float())
    vectors = torch.cat(parts)
    return torch.nn.functional.normalize(vectors.reshape(len(details), len(MARGINS), -1).mean(1), dim=1)


def set_into_squares(image: Image.Image) -> list[Image.Image]:
    """Return a picture in the middle of squares of `MARGINS`, filled with the median colour of its edge."""
    image = image.convert("RGB")
    if max(image.size) > LARGEST:
        image.thumbnail((LARGEST, LARGEST))  # of the copy
    pixels = np.asarray(image)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = (int(value) for value in np.median(edge, axis=0))
    views = []
    for margin in MARGINS:
        side = round(max(image.size) * margin)
        view = Image.new("RGB", (side, side), (red, green, blue))
        view.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        views.append(view)
    return views


def _pooled(encoder: RegionEncoder, detail: Detail) -> Tensor:
    """Return the vector of a detail's box, pooled from the forward pass of its picture, ``(1, dim)``."""
    image = detail.image.convert("RGB")
    box = torch.tensor([detail.inside()]) / torch.tensor([image.width, image.height] * 2)
    pixels = encoder.prepare(image)[None]
    return encoder.encode_regions(pixels, Ragged(box, torch.tensor([0, 1]))).regions.float()


def _described(pipeline: Pipeline, detail: Detail) -> Tensor:
    box = detail.inside()
    if isinstance(pipeline.proposer, BoxFeatures):
        rows = np.asarray(pipeline.proposer.features_of(detail.image, [box]), dtype=np.float32)
        assert isinstance(pipeline.encoder, FeatureEncoder)  # the plan lets no other take features
        return pipeline.encoder.encode_features(torch.from_numpy(rows)).float()
    features = pipeline.encode_images([detail.image], [detail.name])
    if detail.box is None or features.regions is None or features.boxes is None:
        return features.global_features.float()
    width, height = detail.image.size
    own = features.boxes.double().cpu().numpy() * (width, height, width, height)
    asked = np.array([box])
    common = common_areas(asked, own)[0]
    best = int((common / (areas(own) + areas(asked) - common)).argmax())
    return features.regions.item(0)[best : best + 1].float()
