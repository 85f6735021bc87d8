"""BERT as a phrase encoder: one of its hidden layers, pooled over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from heritage_align.plugin import BuildContext, CheckpointError, TextRead
from heritage_align_plugins.bert.config import BertConfig
from heritage_align_plugins.transformers.loading import (
    DTYPES,
    fingerprint,
    first_use,
    load_tokenizer,
    load_weights,
    refuse_vectors_not_finite,
)
from heritage_align_plugins.transformers.tokens import TextTokens

_NO_IMAGES = "the bert encoder encodes texts only; name it as text_encoder beside an image encoder"


class BertEncoder:
    """The text half of an `Encoder`; it sees no pictures, so that it can only stand as ``text_encoder``.

    Sheng et al. 2021 (section 4.2) take the second-to-last layer of a pretrained BERT for each noun phrase.

    Args:
        config: names model, layer and pooling.
        context: device and precision.

    Raises:
        CheckpointError: the model cannot be loaded or is no text encoder.
        ValueError: the model has no such layer, or not as many positions.
    """

    patch_grid = None

    def __init__(self, config: BertConfig, context: BuildContext) -> None:
        name = str(config.folder() or config.model)
        tokenizer = load_tokenizer(AutoTokenizer, name, config.revision)
        # The pooler sits behind the last layer, and many published files lack it.
        model: Any = load_weights(AutoModel, name, config.revision, unused=("pooler.",))
        settings = model.config
        layers = getattr(settings, "num_hidden_layers", None)
        positions = _positions(model)
        if layers is None or positions is None or hasattr(model, "get_image_features"):
            raise CheckpointError(f"{name}: a {settings.model_type!r} model is no BERT-like text encoder")
        if not -layers - 1 <= config.layer <= layers:
            raise ValueError(f"layer: {name} has hidden layers {-layers - 1} to {layers}, got {config.layer}")
        if config.context_length > positions:
            raise ValueError(
                f"context_length: {name} has positions for {positions} tokens, got {config.context_length}"
            )
        self._config = config
        self._name = f"bert/{settings.model_type}/{fingerprint(model)}"
        self._device = torch.device(context.device)
        self._model = model.to(self._device, DTYPES[context.precision])
        self.context_length, self.longest_context = config.context_length, positions
        self._tokens = TextTokens(
            tokenizer, config.context_length, config.characters, vocabulary=settings.vocab_size, name=name
        )
        with first_use(name):
            word = self.encode_texts(["x"])
        refuse_vectors_not_finite(word, "a text", name)
        self.dim: int = word.shape[1]

    def fingerprint(self) -> str:
        """Return ``bert/<model type>/sha256:<of the weights>/layer<i>/<pooling>``."""
        return f"{self._name}/layer{self._config.layer}/{self._config.pooling}"

    def prepare(self, image: Image) -> NoReturn:
        """Raise ValueError: there is no image tower."""
        raise ValueError(_NO_IMAGES)

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> NoReturn:
        """Raise ValueError: there is no image tower."""
        raise ValueError(_NO_IMAGES)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return ``(n, dim)`` fp32; a longer text is cut at `context_length` tokens.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        if not texts:
            return torch.empty(0, self.dim, device=self._device)
        tokens = self._tokens(texts).to(self._device)
        states = self._model(**tokens, output_hidden_states=True).hidden_states[self._config.layer].float()
        if self._config.pooling == "cls":
            return normalize(states[:, 0], dim=-1)
        present = tokens["attention_mask"].unsqueeze(-1)
        # A sum points where the mean does, and only the direction is kept.
        return normalize((states * present).sum(1), dim=-1)

    def read_texts(self, texts: Sequence[str]) -> list[TextRead]:
        """Count the tokens of texts; raises as `encode_texts`."""
        return self._tokens.read(texts)


def _positions(model: Any) -> int | None:
    """Return the tokens of a text that a model has positions for, None where its settings say nothing of positions.

    RoBERTa and its like count them from behind the number of their padding.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    before = getattr(table, "padding_idx", None)
    return positions if positions is None or before is None else positions - before - 1
