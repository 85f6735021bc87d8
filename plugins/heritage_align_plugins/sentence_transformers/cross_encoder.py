"""A CrossEncoder as the last look of a search."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image
from sentence_transformers import CrossEncoder
from torch import Tensor

from heritage_align.plugin import BuildContext, CheckpointError
from heritage_align_plugins.sentence_transformers.config import CrossEncoderConfig
from heritage_align_plugins.sentence_transformers.loading import load_model
from heritage_align_plugins.transformers.loading import check_texts, try_pair
from heritage_align_plugins.transformers.strips import no_strip


class CrossEncoderReranker:
    """Rates pairs by the library's ``predict``, the text as query, the picture as document; a `Reranker`.

    Args:
        config: names the model.
        context: device and precision.

    Raises:
        CheckpointError: the model cannot be loaded, does not take a text with a picture, or gives several numbers.
    """

    def __init__(self, config: CrossEncoderConfig, context: BuildContext) -> None:
        self._model, weights = load_model(CrossEncoder, config, context)
        if not (self._model.supports("image") and self._model.supports("message")):
            known = ", ".join(map(str, self._model.modalities))
            raise CheckpointError(f"{config.model}: rates no text with a picture ({known}); take another model")
        if self._model.num_labels != 1:
            raise CheckpointError(f"{config.model}: gives {self._model.num_labels} numbers a pair, expected 1")
        self._config, self._name = config, f"cross_encoder/{weights}"
        self._device = torch.device(context.device)
        try_pair(self, config.model)

    def fingerprint(self) -> str:
        """Return ``cross_encoder/sha256:<of the weights>``."""
        return self._name

    @torch.inference_mode()
    def rate(self, pairs: Sequence[tuple[Image, str]]) -> Tensor:
        """Return fp32 ``(n,)``, after the activation that the model's files name.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        texts = check_texts([text for _, text in pairs])
        if not texts:
            return torch.empty(0, device=self._device)
        inputs = [(text, no_strip(image)) for text, (image, _) in zip(texts, pairs)]
        options = {} if self._config.prompt is None else {"prompt": self._config.prompt}
        rated: Tensor = self._model.predict(
            inputs, batch_size=self._config.batch_size, convert_to_tensor=True, show_progress_bar=False, **options
        )
        return rated.float()
