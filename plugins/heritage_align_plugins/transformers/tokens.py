"""Texts as tokens of a model's own tokenizer, in the form in which the model was trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from heritage_align.plugin import CheckpointError, TextRead
from heritage_align.text import CharacterForm, character_reader
from heritage_align_plugins.transformers.loading import check_texts

# Of a longer text only the head is tokenised; no token but a run of blanks is longer.
_CHARACTERS_PER_TOKEN = 256
_LEAST = 3  # tokens: a word between two marks


class TextTokens:
    """Tokenises texts.

    Args:
        tokenizer: of the transformers library.
        context_length: tokens of a text that are read, those that mark its ends included.
        vocabulary: tokens that the model has vectors for.
        name: what errors call the model.
        characters: Chinese characters that are read (`character_reader`).
        lower_case: SigLIP and SigLIP 2 were trained on lower-cased texts. SigLIP's own tokenizer and that of SigLIP 2's
            flexible form do so by themselves; the fixed-size checkpoints of SigLIP 2 name Gemma's, which does not.
        pad_to: tokens that every text is padded to on the right: SigLIP pools the last place, and was trained so; None
            pads to the longest.

    Raises:
        CheckpointError: the tokenizer has no token to pad with; later, it makes tokens that the model does not have.
    """

    def __init__(
        self,
        tokenizer: Any,
        context_length: int,
        characters: CharacterForm,
        *,
        vocabulary: int,
        name: str,
        lower_case: bool = False,
        pad_to: int | None = None,
    ) -> None:
        self._tokenizer, self._length, self._pad_to = tokenizer, context_length, pad_to
        self._characters = character_reader(characters, tokenizer.get_vocab())
        self._lower_case = lower_case
        self._vocabulary, self._name = vocabulary, name
        if tokenizer.pad_token_id is None:
            raise CheckpointError(f"{name}: its tokenizer has no pad_token, so that texts cannot be read together")
        if pad_to is not None:
            tokenizer.padding_side = "right"  # Gemma's is left where its file says nothing

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return ``input_ids`` and ``attention_mask``, both ``(n, length)``.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        tokens = self._tokenizer(self._plain(texts), truncation=True, max_length=self._length)
        padding = True if self._pad_to is None else "max_length"
        padded = self._tokenizer.pad(tokens, padding=padding, max_length=self._pad_to, return_tensors="pt")
        refuse_unknown(padded["input_ids"], self._vocabulary, self._name)
        return padded

    def read(self, texts: Sequence[str]) -> list[TextRead]:
        """Count the tokens of texts."""
        plain = self._plain(texts)
        lengths = [len(ids) for ids in self._tokenizer(plain, truncation=False, verbose=False)["input_ids"]]
        heads = self._tokenizer(plain, truncation=True, max_length=self._length)["input_ids"]
        # What stands for an unknown token may be a mark as well (CLIP's is its end of text): once is then no sign.
        unknown, marks = self._tokenizer.unk_token_id, set(self._tokenizer.all_special_ids)
        return [TextRead(n, sum(i not in marks and i != unknown for i in ids)) for n, ids in zip(lengths, heads)]

    def _plain(self, texts: Sequence[str]) -> list[str]:
        heads = [text[: self._length * _CHARACTERS_PER_TOKEN] for text in check_texts(texts)]
        plain = check_texts([self._characters(head) for head in heads])
        return [text.lower() for text in plain] if self._lower_case else plain


def refuse_unknown(tokens: Tensor, vocabulary: int, name: str) -> None:
    """Raise CheckpointError for a token that a model has no vector for.

    Args:
        tokens: numbers of texts' tokens, on the CPU.
        vocabulary: tokens of the model.
        name: what the error calls it.
    """
    if tokens.numel() and int(tokens.max()) >= vocabulary:
        raise CheckpointError(
            f"{name}: its tokenizer makes token {int(tokens.max())} of a text, and the model has {vocabulary}, from 0: "
            "it is another model's tokenizer"
        )


def most_tokens(tokenizer: Any, positions: int, name: str) -> int:
    """Return the tokens of a text that both a model and its tokenizer take.

    Args:
        tokenizer: of the transformers library.
        positions: that the model has.
        name: what the error calls the model.

    Raises:
        CheckpointError: no word goes into them, or the tokenizer's files give something else than a number.
    """
    limit = tokenizer.model_max_length
    if not isinstance(limit, (int, float)) or not min(limit, positions) >= _LEAST:  # NaN is not
        raise CheckpointError(
            f"{name}: texts of {limit!r} tokens (model_max_length) and {positions} positions hold no word"
        )
    return int(min(limit, positions))
