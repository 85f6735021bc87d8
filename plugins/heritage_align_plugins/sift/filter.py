"""Mask regions with too few SIFT keypoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from heritage_align.plugin import BuildContext, Regions
from heritage_align_plugins.sift.config import SiftConfig

Grey = NDArray[np.uint8]
_FINEST = 255  # octave -1 as OpenCV packs it: of the picture at twice its size


class SiftFilter:
    """Keeps a region iff it has at least z keypoints (Sheng et al. 2021, eq. 11).

    ``per_crop`` is the paper's reading: each region is a picture of its own. ``per_image`` detects once and
    counts inside the boxes. The two differ at the borders, since SIFT finds nothing within 5 pixels of an
    edge and a crop has edges where the picture goes on: ``per_image`` finds more and so masks less. Measured
    with the default settings on 200 photographs of at most 512 pixels (dishes and mosaics):

    | regions an image | masked per_crop | per_image | decided differently |
    |---|---|---|---|
    | 10 detected | 3.0 % | 1.8 % | 1.7 % |
    | 10 random crops | 3.4 % | 2.7 % | 1.2 % |
    | 14 windows, scales 1, 2, 3 | 1.2 % | 0.9 % | 0.3 % |
    | 196 cells, 14 x 14 | 45.9 % | 36.2 % | 11.3 % |

    Cells of a ViT's grid are too small for either to be trusted with z = 2. ``per_image`` no longer pays: ``per_crop``
    asks for z keypoints, not for their number, and what smaller crops show decides larger ones (`distinctive`). A
    detection in the whole of a picture is the dearest, half of it the system's handing out of memory.

    Attributes:
        attention: empty; the mask travels in `Regions.keep`.
        kept_all: images in which no region would have been left, and every region was kept instead. The paper
            has no rule for them (its eq. 15 divides 0 by 0).
    """

    attention: Mapping[str, Any]

    def __init__(self, config: SiftConfig, context: BuildContext) -> None:
        """Set the detector up."""
        self.config = config
        self.attention = {}
        self.kept_all = 0
        self._reach = reach(config)
        self._detector = cv2.SIFT.create(
            nOctaveLayers=config.octave_layers,
            contrastThreshold=config.contrast_threshold,
            edgeThreshold=config.edge_threshold,
            sigma=config.sigma,
        )

    def apply(self, images: Sequence[Image], regions: Sequence[Regions]) -> list[Regions]:
        """Return regions with `keep` narrowed; where nothing would be left it stays as it was."""
        return [self._narrow(image, found) for image, found in zip(images, regions, strict=True)]

    def count(self, image: Image, regions: Regions) -> NDArray[np.int64]:
        """Return the keypoints of every region, ``(n_regions,)``."""
        grey = np.asarray(image.convert("L"))
        if self.config.mode == "per_image":
            return _inside(self._points(grey), regions.boxes)
        crops = (_cut(grey, _pixels(box)) for box in regions.boxes.tolist())
        return np.array([len(self._points(crop)) for crop in crops], dtype=np.int64)

    def distinctive(self, image: Image, regions: Regions) -> NDArray[np.bool_]:
        """Return which regions have z keypoints, ``(n_regions,)``: as `count` would say, with fewer detections.

        Smaller crops are looked at first. A keypoint of the finest octave depends on the pixels within `reach` of it
        alone, so that a larger crop that has these pixels too has the keypoint; z of one crop's are enough for it.
        """
        z = self.config.min_keypoints
        if self.config.mode == "per_image":
            return self.count(image, regions) >= z
        grey = np.asarray(image.convert("L"))
        boxes = np.array([_pixels(box) for box in regions.boxes.tolist()], dtype=np.int64)
        order = np.argsort((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), kind="stable")
        boxes = boxes[order]
        share = _share(boxes, self._reach)
        keep = np.zeros(len(boxes), dtype=bool)
        finest: dict[int, NDArray[np.float64]] = {}
        for i, box in enumerate(boxes):
            smaller = [j for j in np.flatnonzero(share[:i, i]).tolist() if j in finest]
            if any(_common(finest[j], boxes[j], box, self._reach) >= z for j in smaller):
                keep[i] = True
                continue
            found = self._detector.detect(_cut(grey, box), None)
            keep[i] = len(found) >= z
            if keep[i] and share[i, i + 1 :].any():
                points = [point.pt for point in found if point.octave & 255 == _FINEST]
                finest[i] = np.array(points, dtype=np.float64).reshape(-1, 2) + box[:2]
        return keep[np.argsort(order)]

    def _narrow(self, image: Image, regions: Regions) -> Regions:
        if not len(regions):
            return regions
        keep = self.distinctive(image, regions)
        if regions.keep is not None:
            keep &= regions.keep
        if not keep.any():
            self.kept_all += 1
            keep = np.ones(len(regions), dtype=bool) if regions.keep is None else regions.keep
        return replace(regions, keep=keep)

    def _points(self, grey: Grey) -> NDArray[np.float64]:
        """Return the keypoints ``(n, 2)`` as x, y; one point of several orientations counts as often."""
        found = self._detector.detect(grey, None)
        return np.array([point.pt for point in found], dtype=np.float64).reshape(-1, 2)


def _pixels(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Return the whole pixels that a box touches."""
    x0, y0, x1, y1 = box
    return math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)


def _cut(grey: Grey, box: Sequence[int] | NDArray[np.int64]) -> Grey:
    x0, y0, x1, y1 = box
    return np.ascontiguousarray(grey[y0:y1, x0:x1])


def reach(config: SiftConfig) -> float:
    """Return how far, in pixels, a keypoint of the finest octave depends on what is around it.

    OpenCV's finest octave is of the picture at twice its size: blurred to sigma, then layer by layer, each time by a
    kernel of radius ``round(4 sigma)``. The sum of the radii bounds a pixel of the last layer; 5 pixels more are the
    steps by which an extremum is made precise, 1 its neighbours, 1 the doubling. The orientations look less far: at
    layers below the last two, within ``4.5`` times their scale, and that is counted too.
    """
    layers = config.octave_layers
    totals = [config.sigma * 2 ** (layer / layers) for layer in range(layers + 3)]
    first = math.sqrt(max(config.sigma**2 - 1.0, 0.01))
    blurs = [first, *(math.sqrt(b * b - a * a) for a, b in pairwise(totals))]
    radii = [round(4 * blur) for blur in blurs]
    around = round(4.5 * totals[layers] * 2 ** (0.5 / layers)) + 1
    return (max(sum(radii) + 1, sum(radii[:-2]) + around) + 6) / 2 + 0.5


def _spans(first: NDArray[np.int64], second: NDArray[np.int64], far: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what is `far` inside two spans ``(..., 2)``, ends among it: its two ends ``(...)``.

    An end that both have changes nothing for what is near it, and counts for none.
    """
    (a, b), (c, d) = np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0)
    return np.maximum(a, c) + far * (a != c), np.minimum(b, d) - 1 - far * (b != d)


def _share(boxes: NDArray[np.int64], far: float) -> NDArray[np.bool_]:
    """Return which two crops have something in common that is `far` inside both, ``(n, n)``."""
    if ((boxes[:, 2:] - boxes[:, :2]) > far).all(axis=1).sum() < 2:  # the cells of a grid
        return np.zeros((len(boxes), len(boxes)), dtype=bool)
    both = np.ones((len(boxes), len(boxes)), dtype=bool)
    for axis in (0, 1):
        spans = boxes[:, axis::2]
        low, high = _spans(spans[:, None], spans[None], far)
        both &= low <= high
    return both


def _common(points: NDArray[np.float64], inner: NDArray[np.int64], box: NDArray[np.int64], far: float) -> int:
    """Count the points ``(n, 2)`` of the crop `inner` that are `far` inside it and `box`."""
    low, high = _spans(inner.reshape(2, 2).T, box.reshape(2, 2).T, far)
    return int(((points >= low) & (points <= high)).all(axis=1).sum())


def _inside(points: NDArray[np.float64], boxes: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Count the points ``(n, 2)`` in each of ``(n_regions, 4)`` half-open boxes."""
    x, y = points[:, 0], points[:, 1]
    x0, y0, x1, y1 = (boxes[:, i, None] for i in range(4))
    return ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).sum(axis=1)
