"""The Chinese-CLIP encoder (Yang et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from cn_clip.clip.model import VisualTransformer
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.encoding import pool_boxes
from heritage_align.ops import Ragged
from heritage_align.plugin import BuildContext, EncodedImages, EncodedRegions, PixelRecipe, TextRead
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.loading import load_configured
from heritage_align_plugins.cn_clip.patches import patch_recipe
from heritage_align_plugins.cn_clip.preprocess import MEAN, STD, prepare_image, prepare_texts, read_texts
from heritage_align_plugins.cn_clip.resnet import ResNetTower
from heritage_align_plugins.cn_clip.text import TextTower
from heritage_align_plugins.cn_clip.vision import VisionTower

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class CnClipEncoder:
    """Both towers of a Chinese-CLIP model; an `Encoder`.

    Args:
        config: names the model and its weights.
        context: device and precision; the seed is that of random weights.

    Raises:
        CheckpointError: the weights are missing, refused, or not of this model.
        ValueError: `image_size` or `context_length` does not suit the model.
    """

    def __init__(self, config: CnClipConfig, context: BuildContext) -> None:
        model, architecture, self._weights_name, self._characters = load_configured(config, context.seed)
        self._architecture = architecture
        self._device, self._dtype = torch.device(context.device), _DTYPES[context.precision]
        self.dim = architecture.embed_dim
        self.context_length = architecture.context_length
        self.longest_context = architecture.text_max_position_embeddings
        self.patch_grid = architecture.patch_grid
        self.pools_regions = config.regions == "roi"
        self._texts = TextTower(model, self._converted)
        self._images: VisionTower | ResNetTower
        if isinstance(model.visual, VisualTransformer):
            assert self.patch_grid is not None
            self._images = VisionTower(model.visual, self._converted)
            self._recipe = patch_recipe(config.patch_features, self.patch_grid, config.naclip_sigma)
        else:
            self._images = ResNetTower(model.visual, self._converted)

    def fingerprint(self) -> str:
        """Return ``cn_clip/<model>/sha256:<the weights' file>``, then ``@<px>px`` at another input size."""
        return f"cn_clip/{self._architecture.name}/{self._weights_name}"

    def prepare(self, image: Image) -> Tensor:
        """Return ``(3, size, size)`` float32; bit for bit cn_clip's ``image_transform``, safe in threads."""
        return prepare_image(image, self._architecture.image_resolution)

    def pixel_recipe(self) -> PixelRecipe:
        """Return what `prepare` does."""
        return PixelRecipe(self._architecture.image_resolution, "bicubic", MEAN, STD)

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared pictures.

        Args:
            pixels: ``(n, 3, size, size)``.
            patches: also return the ViT's patches by the configured recipe, row by row of `patch_grid`.

        Raises:
            ValueError: the pixels' shape is another, or patches are asked of a ResNet.
        """
        whole, parts = self._encode(pixels, patches)
        return EncodedImages(_unit(whole), None if parts is None else _unit(parts))

    @torch.inference_mode()
    def encode_regions(self, pixels: Tensor, boxes: Ragged) -> EncodedRegions:
        """Encode prepared pictures, and boxes of them by pooling their patches (`RegionEncoder`).

        Raises:
            ValueError: as `encode_pixels`; or there are not as many runs of boxes as pictures.
        """
        whole, parts = self._encode(pixels, patches=True)
        assert parts is not None
        assert self.patch_grid is not None
        return EncodedRegions(_unit(whole), _unit(pool_boxes(parts, [self.patch_grid] * len(parts), boxes)))

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return ``(n, dim)`` fp32; a longer text is cut at `context_length` tokens.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        if not texts:
            return torch.empty(0, self.dim, device=self._device)
        return _unit(self._texts(prepare_texts(texts, self.context_length, self._characters)))

    def read_texts(self, texts: Sequence[str]) -> list[TextRead]:
        """Count the tokens of texts; raises as `encode_texts`."""
        return read_texts(texts, self.context_length, self._characters)

    def _encode(self, pixels: Tensor, patches: bool) -> tuple[Tensor, Tensor | None]:
        size = self._architecture.image_resolution
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise ValueError(f"pixels: expected (n, 3, {size}, {size}), got {tuple(pixels.shape)}")
        pixels = pixels.to(self._device, self._dtype)
        if isinstance(self._images, VisionTower):
            return self._images(pixels, self._recipe if patches else None)
        if patches:
            raise ValueError(f"patches: {self._architecture.name} is a ResNet and has none; take a ViT")
        return self._images(pixels), None

    def _converted(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self._device, self._dtype)


def _unit(x: Tensor) -> Tensor:
    return normalize(x.float(), dim=-1)
