"""Image-text models of the transformers library as an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from heritage_align.encoding import pool_boxes
from heritage_align.ops import Ragged
from heritage_align.plugin import (
    BuildContext,
    CheckpointError,
    EncodedImages,
    EncodedRegions,
    PixelRecipe,
    TextRead,
)
from heritage_align_plugins.transformers.config import CLIP_LIKE, SIGLIP_LIKE, TransformersConfig, no_boxes
from heritage_align_plugins.transformers.loading import (
    DTYPES,
    fingerprint,
    first_use,
    load,
    load_tokenizer,
    load_weights,
    tried,
)
from heritage_align_plugins.transformers.pixels import Preparer, split_patches
from heritage_align_plugins.transformers.tokens import TextTokens, most_tokens
from heritage_align_plugins.transformers.towers import clip_patches, siglip_patches


class TransformersEncoder:
    """Any model with ``get_image_features`` and ``get_text_features``; an `Encoder`.

    Patches are given for Chinese-CLIP, CLIP, SigLIP and both forms of SigLIP 2. The flexible form (NaFlex)
    gets square pictures here.

    Args:
        config: names the model.
        context: device and precision.

    Raises:
        CheckpointError: the model cannot be loaded, or does not encode images and texts.
        ValueError: a setting does not suit the model.
    """

    def __init__(self, config: TransformersConfig, context: BuildContext) -> None:
        name = str(config.folder() or config.model)
        settings = load(AutoConfig, name, revision=config.revision)
        self._kind: str = settings.model_type
        tokenizer = load_tokenizer(AutoTokenizer, name, config.revision)
        model: Any = load_weights(AutoModel, name, config.revision)
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise CheckpointError(f"{name}: a {self._kind!r} model has no common space of images and texts")
        self._name = f"transformers/{self._kind}/{fingerprint(model)}"
        self._device, self._dtype = torch.device(context.device), DTYPES[context.precision]
        self._model = model.to(self._device, self._dtype)
        with first_use(name):  # families that are not known here may have none of these
            texts, vision = settings.text_config, settings.vision_config
            positions, vocabulary, patch = texts.max_position_embeddings, texts.vocab_size, vision.patch_size
            native = vision.image_size if self._kind != "siglip2" else round(vision.num_patches**0.5) * patch
            if not all(isinstance(size, int) and size > 0 for size in (positions, vocabulary, patch, native)):
                raise TypeError(f"expected whole numbers, got patches of {patch!r} pixels in pictures of {native!r}")
        self.longest_context = most_tokens(tokenizer, positions, name)
        self.context_length = _context_length(config, self.longest_context)
        siglip = self._kind in SIGLIP_LIKE
        self._tokens = TextTokens(
            tokenizer,
            self.context_length,
            config.characters,
            vocabulary=vocabulary,
            name=name,
            lower_case=siglip,
            pad_to=self.longest_context if siglip else None,
        )

        self._side = config.image_size or native
        if self._side % patch:
            raise ValueError(f"image_size: {name} needs a multiple of {patch}, got {self._side}")
        resized = self._side != native
        self._name += f"@{self._side}px" if resized else ""
        self._patch = patch if self._kind == "siglip2" else None
        # The flexible form interpolates by itself.
        self._options = {"interpolate_pos_encoding": True} if resized and self._patch is None else {}
        processor = load(AutoImageProcessor, name, revision=config.revision)
        self._prepare = Preparer(processor, self._side, config.squeeze or config.image_size is not None, self._patch)

        self._recipe, self._sigma = config.patch_features, config.naclip_sigma
        if self._recipe != "plain" and self._kind not in CLIP_LIKE:
            raise ValueError(f"patch_features: {self._recipe} is for CLIP, and {name} is a {self._kind!r} model")
        rows = self._side // patch
        self.patch_grid = (rows, rows) if self._kind in (*CLIP_LIKE, *SIGLIP_LIKE) else None
        self.pools_regions = config.regions == "roi"
        if self.pools_regions and (self.patch_grid is None or self._prepare.crops):
            raise ValueError(no_boxes(name, self._kind, cut=self._prepare.crops))
        self.dim: int = tried(self, name)

    def fingerprint(self) -> str:
        """Return ``transformers/<model type>/sha256:<of the weights>``."""
        return self._name

    def prepare(self, image: Image) -> Tensor:
        """Return ``(3, side, side)`` float32 as the model's image processor does it; safe in threads."""
        return self._prepare(image)

    def pixel_recipe(self) -> PixelRecipe | None:
        """Return what `prepare` does, None where the model's image processor does more than a recipe can say."""
        return self._prepare.recipe()

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared pictures ``(n, 3, side, side)``.

        Raises:
            ValueError: the pixels' shape is another; patches are asked of a model that has none, or whose
                processor crops pictures so that the patches would not cover them.
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

    def _encode(self, pixels: Tensor, patches: bool) -> tuple[Tensor, Tensor | None]:
        """Return vectors of pictures ``(n, dim)`` and, on request, of patches, not normalised."""
        side = self._side
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise ValueError(f"pixels: expected (n, 3, {side}, {side}), got {tuple(pixels.shape)}")
        if patches and self.patch_grid is None:
            raise ValueError(f"patches: a {self._kind!r} model gives none")
        if patches and self._prepare.crops:
            raise ValueError("patches: this model's processor crops the borders away; set squeeze: true")
        if not len(pixels):  # the library's models reshape in ways that an empty batch does not survive
            return self._nothing(patches)
        pixels = pixels.to(self._device, self._dtype)
        inputs = {"pixel_values": pixels} if self._patch is None else split_patches(pixels, self._patch)
        hidden = {"output_hidden_states": True} if patches and self._recipe != "plain" else {}
        states = self._model.get_image_features(**inputs, **self._options, **hidden)
        if not patches:
            return states.pooler_output, None
        if self._kind in CLIP_LIKE:
            assert self.patch_grid is not None
            return states.pooler_output, clip_patches(self._model, states, self._recipe, self.patch_grid, self._sigma)
        return states.pooler_output, siglip_patches(self._model, states)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return ``(n, dim)`` fp32; a longer text is cut at `context_length` tokens.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        if not texts:
            return self._nothing(patches=False)[0]
        tokens = self._tokens(texts)
        return _unit(self._model.get_text_features(**tokens.to(self._device)).pooler_output)

    def read_texts(self, texts: Sequence[str]) -> list[TextRead]:
        """Count the tokens of texts; raises as `encode_texts`."""
        return self._tokens.read(texts)

    def _nothing(self, patches: bool) -> tuple[Tensor, Tensor | None]:
        whole = torch.empty(0, self.dim, device=self._device)
        rows, columns = self.patch_grid or (0, 0)
        return whole, whole.new_empty(0, rows * columns, self.dim) if patches else None


def _context_length(config: TransformersConfig, positions: int) -> int:
    if config.context_length is not None and config.context_length > positions:
        raise ValueError(
            f"context_length: {config.model} has positions for {positions} tokens, got {config.context_length}"
        )
    return config.context_length or positions


def _unit(x: Tensor) -> Tensor:
    return normalize(x.float(), dim=-1)
