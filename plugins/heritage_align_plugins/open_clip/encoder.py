"""Models of open_clip as an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.plugin import BuildContext, CheckpointError, EncodedImages, PixelRecipe
from heritage_align_plugins.open_clip.config import OpenClipConfig
from heritage_align_plugins.open_clip.loading import load, patch_features, patch_grid
from heritage_align_plugins.transformers.loading import DTYPES, check_texts, fingerprint, first_use, tried
from heritage_align_plugins.transformers.tokens import refuse_unknown

_LEAST_CONTEXT = 3  # tokens: a word between two marks


class OpenClipEncoder:
    """Both towers of a model; an `Encoder`.

    Args:
        config: names the model.
        context: device and precision.

    Raises:
        CheckpointError: the model, its weights or its tokenizer are not there, or damaged.
    """

    def __init__(self, config: OpenClipConfig, context: BuildContext) -> None:
        loaded = load(config)
        model = loaded.model
        with first_use(config.model):
            self._ways = PreprocessCfg(**model.visual.preprocess_cfg)
            self._transform = image_transform_v2(self._ways, is_train=False)
        self._name = f"open_clip/{loaded.name}/{fingerprint(model)}"
        # Of some text towers (CoCa's) the library does not say them, of others it says 0.
        self._source, self._vocabulary = config.model, getattr(model, "vocab_size", 0)
        length = getattr(model, "context_length", 0)
        if 0 < length < _LEAST_CONTEXT:
            raise CheckpointError(f"{config.model}: context_length is {length}: texts hold no word")
        self._device, self._dtype = torch.device(context.device), DTYPES[context.precision]
        self._model, self._tokenizer = model.to(self._device, self._dtype), loaded.tokenizer
        # Pictures that lose their borders, or get some, have patches that do not lie where the grid says.
        self._whole = self._ways.resize_mode == "squash"
        self.patch_grid = patch_grid(model.visual) if self._whole else None
        self.dim: int = tried(self, config.model)

    def fingerprint(self) -> str:
        """Return ``open_clip/<name in the zoo>/sha256:<of the weights>``."""
        return self._name

    def prepare(self, image: Image) -> Tensor:
        """Return ``(3, height, width)`` float32 as the library prepares it; safe in threads."""
        pixels: Tensor = self._transform(image)
        return pixels

    def pixel_recipe(self) -> PixelRecipe | None:
        """Return what `prepare` does where pictures are squeezed to a square, None where they are cropped or padded."""
        _, height, width = self._ways.input_size
        interpolation: Any = self._ways.interpolation
        mean, std = (tuple(map(float, values)) for values in (self._ways.mean, self._ways.std))
        square = self._whole and height == width and len(mean) == len(std) == 3
        if not square or interpolation not in ("bilinear", "bicubic"):
            return None
        return PixelRecipe(width, interpolation, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared pictures ``(n, 3, height, width)``.

        Raises:
            ValueError: the pixels' shape is another; patches are asked of a tower that has none, or of pictures that
                are not shown whole.
        """
        expected = self._ways.input_size
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            raise ValueError(f"pixels: expected (n, {', '.join(map(str, expected))}), got {tuple(pixels.shape)}")
        if patches and not self._whole:
            raise ValueError(f"patches: this model's way is resize_mode {self._ways.resize_mode}; set squeeze: true")
        if patches and self.patch_grid is None:
            raise ValueError("patches: the image tower of this model has none in the space of texts")
        if not len(pixels):  # the library's towers reshape in ways that an empty batch does not survive
            none = torch.empty(0, self.dim, device=self._device)
            rows, columns = self.patch_grid or (0, 0)
            return EncodedImages(none, none.new_empty(0, rows * columns, self.dim) if patches else None)
        pixels = pixels.to(self._device, self._dtype)
        if not patches:
            return EncodedImages(normalize(self._model.encode_image(pixels).float(), dim=-1), None)
        whole, parts = patch_features(self._model.visual, pixels)
        return EncodedImages(normalize(whole.float(), dim=-1), normalize(parts.float(), dim=-1))

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return ``(n, dim)`` fp32; a longer text is cut at the model's context length.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        texts = check_texts(texts)
        if not texts:
            return torch.empty(0, self.dim, device=self._device)
        tokens = self._tokenizer(texts)
        if self._vocabulary:
            refuse_unknown(tokens, self._vocabulary, self._source)
        return normalize(self._model.encode_text(tokens.to(self._device)).float(), dim=-1)
