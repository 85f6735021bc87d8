"""FG-CLIP and FG-CLIP 2 as an encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer, PreTrainedConfig

from heritage_align.encoding import pool_boxes
from heritage_align.ops import Ragged
from heritage_align.plugin import (
    BuildContext,
    CheckpointError,
    EncodedImages,
    EncodedRegions,
    FragmentedTexts,
    PixelRecipe,
    TextRead,
    read_settings,
)
from heritage_align_plugins.fg_clip.config import FgClipConfig, TextMode
from heritage_align_plugins.fg_clip.description import describe
from heritage_align_plugins.fg_clip.loading import Files, load_model
from heritage_align_plugins.fg_clip.pictures import STEPS, grid_of, most_patches, pack
from heritage_align_plugins.transformers.config import picture_settings
from heritage_align_plugins.transformers.loading import DTYPES, fingerprint, load_tokenizer, tried
from heritage_align_plugins.transformers.tokens import TextTokens

# OpenAI's, which FG-CLIP's files repeat; FG-CLIP 2 maps levels to [-1, 1].
_FIRST_MEAN, _FIRST_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SECOND_MEAN = _SECOND_STD = (0.5, 0.5, 0.5)


class FgClipEncoder:
    """Both towers of a published model; an `Encoder`.

    Args:
        config: names the model.
        context: device and precision.

    Raises:
        CheckpointError: the model cannot be loaded, is of another family, or has settings that do not fit it.
    """

    def __init__(self, config: FgClipConfig, context: BuildContext) -> None:
        files = Files(str(config.folder() or config.model), config.revision)
        settings = read_settings(files.need("config.json", "the model's settings"))
        self._description = description = describe(settings, files.name)
        self._model_name = files.name
        # tokenizer_config.json names the class; the model's own config.json, which names code, is not asked.
        self._tokenizer = load_tokenizer(AutoTokenizer, files.name, files.revision, config=PreTrainedConfig())
        model = load_model(files, description)
        self._name = f"fg_clip/{description.generation}/{fingerprint(model)}"
        self._device = torch.device(context.device)
        self._model = model.to(self._device, DTYPES[context.precision])
        self._modes: dict[str, TextMode] = {"texts": config.texts, "phrases": config.phrases}
        self._tokens = {
            mode: TextTokens(
                self._tokenizer,
                description.length(mode),
                config.characters,
                vocabulary=description.vocabulary,
                name=files.name,
                lower_case=description.generation == 2,
                pad_to=description.length(mode),
            )
            for mode in self._modes.values()
        }
        self.context_length = self.longest_context = description.length(config.texts)
        self.pools_regions = config.regions == "roi"
        pixels = picture_settings(files.settings)
        first = description.generation == 1
        self._mean = _triple(pixels, "image_mean", _FIRST_MEAN if first else _SECOND_MEAN, files.name)
        self._std = _triple(pixels, "image_std", _FIRST_STD if first else _SECOND_STD, files.name)
        self._most = None if config.patches == "auto" else config.patches
        self._side = description.side * description.patch
        self.patch_grid = (description.side, description.side) if first else None
        self.dim = tried(self, files.name)

    def fingerprint(self) -> str:
        """Return ``fg_clip/<generation>/sha256:<of the weights>``."""
        return self._name

    def grid_of(self, width: int, height: int) -> tuple[int, int]:
        """Return the rows and columns of patches of a picture (`FlexibleEncoder`)."""
        if self.patch_grid is not None:
            return self.patch_grid
        patch = self._description.patch
        return grid_of(width, height, patch, self._most or most_patches(width, height, patch))

    def prepare(self, image: Image.Image) -> Tensor:
        """Return what the model takes: ``(3, side, side)`` float32 for FG-CLIP, a packed picture for FG-CLIP 2
        (`pictures`); safe in threads."""
        image = image if image.mode == "RGB" else image.convert("RGB")
        if self.patch_grid is None:
            grid, patch = self.grid_of(*image.size), self._description.patch
            return pack(image, grid, patch, self._most or STEPS[-1], self._mean, self._std)
        resized = image.resize((self._side, self._side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).float().div_(255)
        return ((pixels - torch.tensor(self._mean)) / torch.tensor(self._std)).permute(2, 0, 1).contiguous()

    def pixel_recipe(self) -> PixelRecipe | None:
        """Return what `prepare` does, None for FG-CLIP 2, whose pictures keep their shapes."""
        return None if self.patch_grid is None else PixelRecipe(self._side, "bicubic", self._mean, self._std)

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared pictures; patches are the dense features, row by row of each picture's grid.

        Raises:
            ValueError: the pixels' shape is another.
        """
        if not len(pixels):
            return EncodedImages(self._nothing(), self._nothing()[:, None] if patches else None)
        (whole, dense), _ = self._model.pictures(self._checked(pixels), dense=patches)
        return EncodedImages(_unit(whole), None if dense is None else _unit(dense))

    @torch.inference_mode()
    def encode_regions(self, pixels: Tensor, boxes: Ragged) -> EncodedRegions:
        """Encode prepared pictures, and boxes of them by RoIAlign of the dense features (`RegionEncoder`).

        Raises:
            ValueError: as `encode_pixels`; or there are not as many runs of boxes as pictures.
        """
        if not len(pixels):
            return EncodedRegions(self._nothing(), self._nothing())
        (whole, dense), grids = self._model.pictures(self._checked(pixels), dense=True)
        assert dense is not None
        return EncodedRegions(_unit(whole), _unit(pool_boxes(dense, grids, boxes)))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return ``(n, dim)`` fp32 as setting `texts` says; a longer text is cut.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        return self._encode_texts(texts, "texts")

    def encode_fragmented(self, texts: Sequence[str], fragments: Sequence[Sequence[str]]) -> FragmentedTexts:
        """Encode texts as setting `texts` says and their fragments as `phrases` says (`FragmentEncoder`)."""
        distinct = list(dict.fromkeys(phrase for split in fragments for phrase in split))
        row = {phrase: i for i, phrase in enumerate(distinct)}
        encoded = self._encode_texts(distinct, "phrases")
        picked = torch.tensor([row[phrase] for split in fragments for phrase in split], dtype=torch.int64)
        return FragmentedTexts(self.encode_texts(texts), encoded[picked.to(self._device)])

    def read_texts(self, texts: Sequence[str]) -> list[TextRead]:
        """Count the tokens of texts; raises as `encode_texts`."""
        return self._tokens[self._modes["texts"]].read(texts)

    @torch.inference_mode()
    def _encode_texts(self, texts: Sequence[str], setting: str) -> Tensor:
        if not texts:
            return self._nothing()
        mode = self._modes[setting]
        tokens: Any = self._tokens[mode](texts).to(self._device)
        end = self._tokenizer.eos_token_id
        # FG-CLIP reads a text at its end: without one it would read the first token, which is the same for all.
        if self._description.generation == 1 and (end is None or not bool((tokens["input_ids"] == end).any(1).all())):
            raise CheckpointError(f"{self._model_name}: its tokenizer does not end texts, where the model reads them")
        return _unit(self._model.texts(tokens["input_ids"], tokens.get("attention_mask"), mode, end))

    def _checked(self, pixels: Tensor) -> Tensor:
        packed = self._description.patch**2, (self._most or STEPS[-1]) + 1
        expected = (3, self._side, self._side) if self.patch_grid is not None else (3, *packed)
        if pixels.ndim != 4 or pixels.shape[1:] != expected:
            raise ValueError(f"pixels: expected (n, {', '.join(map(str, expected))}), got {tuple(pixels.shape)}")
        return pixels.to(self._device)

    def _nothing(self) -> Tensor:
        return torch.empty(0, self.dim, device=self._device)


def _triple(
    pixels: Mapping[str, Any], key: str, default: tuple[float, float, float], name: str
) -> tuple[float, float, float]:
    """Return one number a channel, as the library reads them: one of all three, or a list."""
    given = pixels.get(key)
    if given is None:
        return default
    numbers = given if isinstance(given, list) else [given] * 3
    if len(numbers) != 3 or not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        raise CheckpointError(f"{name}: {key} of its image processor is {given!r:.50}, expected three numbers")
    if key == "image_std" and not all(numbers):
        raise CheckpointError(f"{name}: image_std of its image processor is {given!r:.50}: nothing is divided by 0")
    first, second, third = map(float, numbers)
    return first, second, third


def _unit(x: Tensor) -> Tensor:
    return normalize(x.float(), dim=-1)
