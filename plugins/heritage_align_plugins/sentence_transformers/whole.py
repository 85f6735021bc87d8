"""A SentenceTransformer with pictures as an encoder of whole pictures and texts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.plugin import BuildContext, EncodedImages, Note
from heritage_align_plugins.sentence_transformers.config import WholeConfig
from heritage_align_plugins.sentence_transformers.loading import load_model, refuse_without_pictures
from heritage_align_plugins.sentence_transformers.pictures import pack, packed_shape, unpack
from heritage_align_plugins.transformers.loading import check_texts, first_use, tried


class SentenceTransformersEncoder:
    """Pictures by the library's ``encode_document``, texts by ``encode_query``; an `Encoder`.

    Args:
        config: names the model.
        context: device and precision.

    Raises:
        CheckpointError: the model cannot be loaded, or takes no pictures.
        ValueError: `dim` is more than the model has.

    Warns:
        Note: the model was made for another similarity than the cosine.
    """

    patch_grid: tuple[int, int] | None = None

    def __init__(self, config: WholeConfig, context: BuildContext) -> None:
        self._model, weights = load_model(SentenceTransformer, config, context)
        refuse_without_pictures(self._model, config.model)
        self._config = config
        width = self._model.get_embedding_dimension()
        if width is None:  # a module of the model does not say
            with first_use(config.model):
                width = int(self._model.encode(["x"], convert_to_tensor=True).shape[-1])
        if config.dim is not None and config.dim > width:
            raise ValueError(f"dim: {config.model} has vectors of {width} dimensions, got {config.dim}")
        self.dim: int = config.dim or width
        asked = self._model.similarity_fn_name
        if asked != "cosine" and not isinstance(self._model[-1], Normalize):
            said = f"{config.model}: its files ask for similarity {asked!r}; its vectors are compared by their cosine"
            warnings.warn(said, Note, stacklevel=2)
        self._name = f"sentence_transformers/{weights}"
        self._device = torch.device(context.device)
        tried(self, config.model)

    def fingerprint(self) -> str:
        """Return ``sentence_transformers/sha256:<of the weights>``."""
        return self._name

    def prepare(self, image: Image) -> Tensor:
        """Return the picture packed (`pictures`): the library's own processor takes it as it is; safe in threads."""
        return pack(image, self._config.max_pixels)

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared pictures.

        Raises:
            ValueError: the pixels were not prepared by this encoder; patches are asked for.
        """
        if patches:
            raise ValueError("patches: a SentenceTransformer gives one vector a picture")
        expected = packed_shape(self._config.max_pixels)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected or pixels.dtype != torch.uint8:
            found = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise ValueError(f"pixels: expected uint8 (n, {', '.join(map(str, expected))}), got {found}")
        return EncodedImages(self._encoded(self._model.encode_document, unpack(pixels), "document"), None)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return ``(n, dim)`` fp32; a longer text is cut where the model's files say.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        return self._encoded(self._model.encode_query, check_texts(texts), "query")

    def _encoded(self, encode: Any, inputs: list[Any], role: str) -> Tensor:
        if not inputs:
            return torch.empty(0, self.dim, device=self._device)
        prompt = self._config.query_prompt if role == "query" else self._config.document_prompt
        options = {} if prompt is None else {"prompt": prompt}
        rows: Tensor = encode(
            inputs, batch_size=len(inputs), convert_to_tensor=True, show_progress_bar=False, **options
        )
        return normalize(rows[:, : self.dim].float(), dim=-1)
