"""Colour jitter and Gaussian blur of picture regions (Sheng et al. 2021, section 4.1).

The paper gives no values; those here are the ones that MoCo v2 (Chen et al. 2020) made common: jitter of 0.4, 0.4, 0.4
and 0.1, and a blur with a standard deviation of 0.1 to 2 pixels at 224 pixels in every second copy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from heritage_align.errors import DataError

BLUR_SIDE = 224  # px, the side of the pictures for which `blur` is given


@dataclass(frozen=True)
class Augmentation:
    """Strength of the changes; zeros leave a picture as it is, pixel by pixel.

    Attributes:
        brightness: the factor is drawn from 1 - x to 1 + x.
        contrast: the same.
        saturation: the same.
        hue: the shift is drawn from -x to x, in turns of the colour circle, 0..0.5.
        blur: lowest and highest standard deviation of the Gaussian, in pixels of a picture whose shorter side is 224
            pixels; scaled to the region, as regions are scaled to the encoder's size afterwards.
        blur_share: share of the copies that are blurred, 0..1.

    Raises:
        DataError: a value is out of range.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    blur: tuple[float, float] = (0.1, 2.0)
    blur_share: float = 0.5

    def __post_init__(self) -> None:
        unit = {key: getattr(self, key) for key in ("brightness", "contrast", "saturation", "blur_share")}
        problems = [f"{key}: expected 0..1, got {value}" for key, value in unit.items() if not 0.0 <= value <= 1.0]
        if not 0.0 <= self.hue <= 0.5:
            problems.append(f"hue: expected 0..0.5, got {self.hue}")
        if not 0.0 <= self.blur[0] <= self.blur[1] < np.inf:
            problems.append(f"blur: expected 0 <= low <= high, got {self.blur}")
        if problems:
            raise DataError("augmentation: " + "; ".join(problems))


def augment_image(
    image: Image.Image,
    *,
    seed: int,
    image_id: str = "",
    region: int = 0,
    copy: int = 0,
    settings: Augmentation | None = None,
) -> Image.Image:
    """Return a changed copy of a region: brightness, contrast, saturation, hue, blur, in this order.

    The draws depend on `seed`, `image_id`, `region` and `copy` alone, and each change has its own: setting one to zero
    leaves the others as they were.

    Args:
        image: RGB, of any size.
        seed: the run's seed.
        image_id: of the picture that the region is from.
        region: its place among the picture's regions.
        copy: number of the copy, from 0.
        settings: strengths; None for the defaults.

    Raises:
        DataError: the picture is not RGB.
    """
    if image.mode != "RGB":
        raise DataError(f"image {image_id!r}: expected an RGB picture, got {image.mode}")
    settings = settings or Augmentation()
    draws: list[float] = _generator(seed, image_id, region, copy).random(6).tolist()
    changed = image.copy()
    for enhancer, strength, draw in (
        (ImageEnhance.Brightness, settings.brightness, draws[0]),
        (ImageEnhance.Contrast, settings.contrast, draws[1]),
        (ImageEnhance.Color, settings.saturation, draws[2]),
    ):
        if strength:
            changed = enhancer(changed).enhance(1.0 + strength * (2.0 * draw - 1.0))
    changed = _turn_hue(changed, settings.hue * (2.0 * draws[3] - 1.0))
    if draws[4] < settings.blur_share:
        low, high = settings.blur
        deviation = (low + (high - low) * draws[5]) * min(image.size) / BLUR_SIDE
        changed = changed.filter(ImageFilter.GaussianBlur(deviation)) if deviation else changed
    return changed


def _turn_hue(image: Image.Image, turns: float) -> Image.Image:
    shift = round(turns * 256) % 256  # Pillow's hue has 256 steps
    if not shift:
        return image  # the way to HSV and back rounds
    hue, saturation, value = image.convert("HSV").split()
    shifted = hue.point(lambda step: (step + shift) % 256)
    return Image.merge("HSV", (shifted, saturation, value)).convert("RGB")


def _generator(seed: int, image_id: str, *places: int) -> np.random.Generator:
    # hash() of a str differs from process to process, hence a digest.
    name = "\0".join([str(seed), image_id, *map(str, places)])
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "big"))
