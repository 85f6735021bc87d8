"""Changes to training pictures as Chinese-CLIP's --use-augment makes them: crop, mirror image, AutoAugment.

Chinese-CLIP takes them from timm (``create_transform(scale=(0.9, 1), auto_augment='original')``). Here all chance comes
from a generator that is given, so that a picture is changed alike in every run and thread.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from heritage_align_plugins.cn_clip.preprocess import MEAN
from heritage_align_plugins.contrastive.config import AugmentationConfig

# Cubuk et al. 2019, AutoAugment, table 9 (ImageNet): pairs of operation, chance, magnitude of 10.
POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)
_GREY = tuple(round(255 * mean) for mean in MEAN)  # what turned corners are filled with
_ATTEMPTS = 10  # at a crop of the wanted area and aspect that fits into the picture


def augment(image: Image.Image, config: AugmentationConfig, size: int, generator: np.random.Generator) -> Image.Image:
    """Crop a picture to ``size x size`` pixels and change it.

    Args:
        image: upright RGB.
        config: how much.
        size: side in pixels of the encoder's input.
        generator: all chance.
    """
    box = _crop_box(*image.size, config, generator)
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if generator.random() < config.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if config.auto_augment:
        for name, chance, magnitude in POLICY[int(generator.integers(len(POLICY)))]:
            if generator.random() < chance:
                image = apply(name, image, magnitude / 10, -1 if generator.random() < 0.5 else 1)
    return image


def apply(name: str, image: Image.Image, level: float, sign: int) -> Image.Image:
    """Apply one operation of the policy.

    Args:
        name: of `POLICY`.
        image: RGB.
        level: 0..1 of the operation's range.
        sign: -1 or 1, the direction of a rotation or shear.
    """
    if name == "rotate":
        return image.rotate(sign * 30 * level, Image.Resampling.BICUBIC, fillcolor=_GREY)
    if name == "shear":
        matrix = (1, sign * 0.3 * level, 0, 0, 1, 0)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=_GREY)
    if name == "posterize":
        return ImageOps.posterize(image, 4 + int(4 * level))
    if name == "solarize":
        return ImageOps.solarize(image, int(256 * level))
    if name in ("autocontrast", "equalize", "invert"):
        return getattr(ImageOps, name)(image)
    enhancer = {"color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast, "sharpness": ImageEnhance.Sharpness}
    return enhancer[name](image).enhance(0.1 + 1.8 * level)


def _crop_box(
    width: int, height: int, config: AugmentationConfig, generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """Return a crop of random area and aspect; where none fits the middle, as wide and high as `aspect` allows."""
    low, high = (math.log(a) for a in config.aspect)
    for _ in range(_ATTEMPTS):
        area = width * height * generator.uniform(*config.scale)
        aspect = math.exp(generator.uniform(low, high))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(generator.integers(width - across + 1)), int(generator.integers(height - down + 1))
            return left, top, left + across, top + down
    across = min(width, round(height * config.aspect[1]))
    down = min(height, round(width / config.aspect[0]))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down
