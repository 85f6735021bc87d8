"""Rank pictures by how surely they show a detail's keypoints, at places that fit together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from heritage_align.plugin import BuildContext, Match
from heritage_align_plugins.sift.chance import significance
from heritage_align_plugins.sift.keypoints_config import KeypointsConfig
from heritage_align_plugins.sift.matching import NOTHING, Fit, Keypoints, agreed, matches_of

FINER = 1.5
"""How much small pictures are enlarged: a motif of 50 pixels has few keypoints at its own size. Chosen with the ratio
and the tolerance on validation pictures of the motif collection, 256 pixels a side: docs/search.md has the numbers."""
SMALLEST = 16
"""Pixels of a side below which a picture has no keypoints: descriptors are of 16 x 16 of them and more."""


Grey = NDArray[np.uint8]
NOWHERE = Match(0.0, None)


class KeypointReranker:
    """Looks for a detail by its shapes, whatever their colours; a `DetailReranker`.

    SIFT keypoints (Lowe 2004) of both pictures with the roots of their descriptors (RootSIFT, Arandjelovic and
    Zisserman 2012) are matched, of the detail as it is and with light and dark exchanged: a motif may be lighter than
    its ground in one picture, and darker in another. What counts are the matches that one similarity transform explains
    (`matching.agreed`); scale and direction are free, mirrored shapes are not found. The score says how far from an
    accident their number is (`chance.significance`), of the better of the two; below `least` the detail is not there.

    Nothing is drawn at random, and a picture's score does not depend on the others.
    """

    def __init__(self, config: KeypointsConfig, context: BuildContext) -> None:
        """Set the detector up."""
        self._config = config
        self._kept: dict[tuple[tuple[int, ...], bytes], Keypoints] = {}
        self._lock = Lock()
        self._detector = cv2.SIFT.create(nfeatures=config.keypoints, contrastThreshold=config.contrast_threshold)

    def fingerprint(self) -> str:
        """Return ``keypoints/opencv-<version>``, and the settings that scores depend on."""
        c = self._config
        return (
            f"keypoints/opencv-{cv2.__version__}/{c.ratio:g}-{c.tolerance:g}-{c.least:g}-{c.keypoints}-"
            f"{c.contrast_threshold:g}-{c.max_pixels}"
        )

    def compare(self, detail: Image, images: Sequence[Image]) -> list[Match]:
        """Return of each picture how significant the keypoints are that agree, and the box of the detail; 0 and None
        where fewer than `matching.FEWEST` do, or the score is below `least`."""
        grey = self._grey(detail)
        own = self._keypoints(grey)  # not kept: a detail does not come again
        return [self._match(own, grey.shape, image) for image in images]

    def _match(self, own: Keypoints, shape: tuple[int, ...], image: Image) -> Match:
        grey, tolerance = self._grey(image), self._config.tolerance * max(shape)
        best, score, there = NOTHING, 0.0, self._known(grey)
        for one in (own, own.inverted()):
            fit = agreed(one, there, matches_of(one, there, self._config.ratio), tolerance)
            near = math.pi * (tolerance * abs(fit.factor)) ** 2  # pixels in which a point agrees
            found = significance(fit.agree, fit.pairs, near / grey.size) if fit.agree else 0.0
            if found > score:
                best, score = fit, found
        box = box_of(best, shape, grey.shape)
        if box is None or score < self._config.least:
            return NOWHERE
        across, down = image.width / grey.shape[1], image.height / grey.shape[0]
        return Match(score, (box[0] * across, box[1] * down, box[2] * across, box[3] * down))

    def _known(self, grey: Grey) -> Keypoints:
        """Return keypoints, those that are kept if these are; what was asked for last is kept longest."""
        if not self._config.kept:
            return self._keypoints(grey)
        key = (grey.shape, blake2b(grey.tobytes(), digest_size=16).digest())
        with self._lock:
            known = self._kept.pop(key, None)
        if known is None:
            known = self._keypoints(grey)
        with self._lock:
            self._kept[key] = known
            while len(self._kept) > self._config.kept:
                del self._kept[next(iter(self._kept))]
        return known

    def _keypoints(self, grey: Grey) -> Keypoints:
        """Return keypoints, none of what is flat, or smaller than `SMALLEST` pixels."""
        found: Sequence[Any] = ()
        if min(grey.shape) >= SMALLEST:
            found, descriptors = self._detector.detectAndCompute(grey, None)
        if not found:
            return Keypoints(np.zeros(0, complex), np.zeros(0, complex), np.zeros((0, 128), np.float32))
        x, y, sizes, angles = np.array([(*p.pt, p.size, p.angle) for p in found], dtype=np.float64).T
        # A pixel is a square: its middle, from which OpenCV counts, is half a pixel from its corner.
        return Keypoints(x + 0.5 + 1j * (y + 0.5), sizes * np.exp(1j * np.deg2rad(angles)), _roots(descriptors))

    def _grey(self, image: Image) -> Grey:
        """Return the grey values at the size at which keypoints are looked for."""
        grey: Grey = np.asarray(image.convert("L"))
        height, width = grey.shape
        factor = min(FINER, math.sqrt(self._config.max_pixels / (width * height)))
        size = max(round(width * factor), 1), max(round(height * factor), 1)
        if size != (width, height):
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA)
        return grey


def box_of(fit: Fit, detail: tuple[int, ...], picture: tuple[int, ...]) -> tuple[float, float, float, float] | None:
    """Return the upright box around a detail as a picture shows it, cut at its edges; None for what is outside.

    Args:
        fit: of the detail into the picture.
        detail, picture: height and width.
    """
    if not fit.agree:
        return None
    height, width = detail
    corners = fit.factor * np.array([0, width, 1j * height, width + 1j * height]) + fit.shift
    x0, x1 = (min(max(float(x), 0.0), float(picture[1])) for x in (corners.real.min(), corners.real.max()))
    y0, y1 = (min(max(float(y), 0.0), float(picture[0])) for y in (corners.imag.min(), corners.imag.max()))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _roots(descriptors: Any) -> NDArray[np.float32]:
    """Return the roots of descriptors of sum 1, unit rows: their product is Bhattacharyya's coefficient."""
    sums = descriptors.sum(axis=1, keepdims=True)
    roots: NDArray[np.float32] = np.sqrt(descriptors / np.maximum(sums, 1e-12)).astype(np.float32)
    return roots
