"""The encoder that the trainer makes: pictures through a frozen encoder and a projection, texts of both languages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.plugin import BuildContext, DataError, EncodedImages, Encoder, PixelRecipe, RecipeEncoder, TextRead
from heritage_align_plugins.cl2cm.checkpoint import load_student
from heritage_align_plugins.cl2cm.config import Cl2cmConfig

_NO_PIXELS = "encoder 'cl2cm' takes features here, not pixels: name the encoder of pictures as base"


class Cl2cmEncoder:
    """A trained student; an `Encoder`, and a `FeatureEncoder` where it was trained on features from a file."""

    def __init__(self, config: Cl2cmConfig, context: BuildContext) -> None:
        """Load the model.

        Raises:
            CheckpointError: the file is no cl2cm model.
            DataError: `base` has another width than the vectors that the model was trained on.
        """
        model, self._vocabulary, self._description, self._sha256 = load_student(config.checkpoint)
        self._model = model.to(context.device)
        self._device = torch.device(context.device)
        self._base: Encoder | None = context.nested.get("base")
        self.dim = self._description.dim
        self.patch_grid = None
        self.context_length = self.longest_context = self._description.text.context_length
        if self._base is not None:
            self._check_width(self._base.dim, "base: its vectors")

    def fingerprint(self) -> str:
        """Name the model's file and, with its weights, the encoder below it."""
        below = [] if self._base is None else [self._base.fingerprint()]
        return "+".join([f"cl2cm/sha256:{self._sha256}", *below])

    def prepare(self, image: Image) -> Tensor:
        """Prepare a picture for `base`; raises DataError without one."""
        return self._pictures().prepare(image)

    def pixel_recipe(self) -> PixelRecipe | None:
        """Return what `prepare` does, None where `base` says nothing of it."""
        return self._base.pixel_recipe() if isinstance(self._base, RecipeEncoder) else None

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared pictures by `base`, then project them; ``(n, dim)`` unit rows.

        Raises:
            DataError: there is no `base`.
            ValueError: patches are asked for, which were not trained.
        """
        base = self._pictures()
        if patches:
            raise ValueError("patches: a cl2cm model projects whole pictures only")
        return EncodedImages(self._project(base.encode_pixels(pixels).global_features), None)

    @torch.inference_mode()
    def encode_features(self, features: Tensor) -> Tensor:
        """Project vectors of pictures ``(n, image_dim)`` to ``(n, dim)``, unit rows; raises DataError for another
        width."""
        self._check_width(features.shape[-1], "features")
        return self._project(features)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return ``(n, dim)``, unit rows; a longer text is cut at the model's `context_length` tokens.

        Raises:
            ValueError: names the position of a text that is blank or no string.
        """
        if not texts:
            return torch.empty(0, self.dim, device=self._device)
        numbers = self._vocabulary.encode(texts, self.context_length)
        return self._model.text(numbers.to(self._device)).sentences

    def read_texts(self, texts: Sequence[str]) -> list[TextRead]:
        """Count the tokens of texts."""
        return self._vocabulary.read(texts, self.context_length)

    def _pictures(self) -> Encoder:
        if self._base is None:
            raise DataError(_NO_PIXELS)
        return self._base

    def _project(self, vectors: Tensor) -> Tensor:
        return self._model.images(vectors.to(self._device, torch.float32))

    def _check_width(self, width: int, what: str) -> None:
        if width != self._description.image_dim:
            raise DataError(f"{what} have {width} dimensions, the model was trained on {self._description.image_dim}")
