"""A vision-language model that says yes or no as the last look of a search."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from heritage_align.plugin import BuildContext, CheckpointError
from heritage_align_plugins.transformers.loading import (
    DTYPES,
    check_texts,
    files_of,
    fingerprint,
    load_tokenizer,
    load_weights,
    try_pair,
)
from heritage_align_plugins.transformers.strips import no_strip
from heritage_align_plugins.transformers.yes_no_config import YesNoConfig


class YesNo:
    """Asks about each picture, and compares what the model thinks of both answers as its first word; a `Reranker`.

    Nothing is generated: one forward pass a picture. (Lin et al. 2024, VQAScore, rate pictures so.)

    Args:
        config: names the model and the question.
        context: device and precision.

    Raises:
        CheckpointError: the model cannot be loaded, or its files say nothing of a conversation.
        ValueError: an answer is not one token of the model.
    """

    def __init__(self, config: YesNoConfig, context: BuildContext) -> None:
        name = str(files_of(config.model, config.folder(), config.revision))
        self._processor = load_tokenizer(AutoProcessor, name, None)
        model: Any = load_weights(AutoModelForImageTextToText, name, None, dtype="auto")
        if getattr(self._processor, "tokenizer", None) is None:
            raise CheckpointError(f"{config.model}: its files make a tokenizer alone, and nothing that takes pictures")
        if getattr(self._processor, "chat_template", None) is None:
            raise CheckpointError(f"{config.model}: has no chat template, so it cannot be asked about a picture")
        self._processor.tokenizer.padding_side = "left"  # the last place is then a word of each conversation
        self._name = f"yes_no/{model.config.model_type}/{fingerprint(model)}"
        self._config, self._device = config, torch.device(context.device)
        self._model = model.to(self._device, DTYPES[context.precision])
        self._answers = [self._token("yes", config.yes), self._token("no", config.no)]
        # Of thousands of places the last is looked at: the scores of all would be gigabytes.
        takes = inspect.signature(model.forward).parameters
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        try_pair(self, config.model)

    def fingerprint(self) -> str:
        """Return ``yes_no/<model type>/sha256:<of the weights>``."""
        return self._name

    @torch.inference_mode()
    def rate(self, pairs: Sequence[tuple[Image, str]]) -> Tensor:
        """Return fp32 ``(n,)``: the share of the first answer in both, 0 to 1.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        texts = check_texts([text for _, text in pairs])
        images = [no_strip(image) for image, _ in pairs]
        parts = [torch.empty(0, device=self._device)]
        for start in range(0, len(texts), self._config.batch_size):
            part = slice(start, start + self._config.batch_size)
            parts.append(self._rated(images[part], texts[part]))
        return torch.cat(parts)

    def _rated(self, images: Sequence[Image], texts: Sequence[str]) -> Tensor:
        asked = [
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]
            for image, question in zip(images, (self._config.question.replace("{text}", text) for text in texts))
        ]
        inputs = self._processor.apply_chat_template(
            asked,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        )
        inputs = inputs.to(self._device, self._model.dtype)
        logits = self._model(**inputs, **self._options).logits[:, -1, self._answers].float()
        return logits.softmax(dim=1)[:, 0]

    def _token(self, setting: str, answer: str) -> int:
        ids = self._processor.tokenizer.encode(answer, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(f"{setting}: {answer!r} is {len(ids)} tokens of {self._config.model}, expected one")
        return int(ids[0])
