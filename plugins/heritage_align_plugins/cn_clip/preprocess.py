"""Pictures and texts as Chinese-CLIP's own feature extraction prepares them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from cn_clip.clip import _tokenizer, tokenize
from PIL import Image
from torch import Tensor

from heritage_align.plugin import TextRead
from heritage_align.text import CharacterForm, character_reader, plain_characters

Characters = Callable[[str], str]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# Of a longer text only the head is tokenised: cn_clip's tokeniser takes 3 s for a million characters, to drop
# all but 50 tokens. Every token but a run of blanks or a word of more than 200 characters is far shorter.
_CHARACTERS_PER_TOKEN = 256
_UNKNOWN = "[UNK]"


def _normalised_levels() -> np.ndarray:
    levels = torch.arange(256, dtype=torch.float32).div(255).expand(3, 256)
    return levels.sub(torch.tensor(MEAN)[:, None]).div(torch.tensor(STD)[:, None]).numpy()


_LEVELS = _normalised_levels()


def prepare_image(image: Image.Image, size: int) -> Tensor:
    """Squeeze a picture to a square and normalise it; bit for bit cn_clip's ``image_transform``.

    The 256 possible values of each channel are normalised once and looked up, which took 65 to 92 % of the
    time of torchvision's conversion and normalisation in four comparisons; the resizing costs far more.

    Args:
        image: any mode that converts to RGB.
        size: side in pixels.

    Returns:
        ``(3, size, size)`` float32.
    """
    squeezed = image.resize((size, size), Image.Resampling.BICUBIC)
    values = np.asarray(squeezed if squeezed.mode == "RGB" else squeezed.convert("RGB"))
    pixels = np.empty((3, size, size), dtype=np.float32)
    for channel in range(3):
        # No value is out of range; numpy's default mode checks, and writes to a copy first.
        np.take(_LEVELS[channel], values[..., channel], out=pixels[channel], mode="clip")
    return torch.from_numpy(pixels)


def reader_of(form: CharacterForm) -> Characters:
    """Return what turns a text into the characters that BERT's vocabulary is of; see `character_reader`."""
    return character_reader(form, _tokenizer.vocab)


def prepare_texts(texts: Sequence[str], context_length: int, characters: Characters = plain_characters) -> Tensor:
    """Tokenise as cn_clip's training and feature extraction do: lower case, straight double quotes, padded.

    Args:
        texts: sentences or phrases; what is beyond `context_length` is cut off.
        context_length: tokens with [CLS] and [SEP].
        characters: makes a text of the characters that are read (`reader_of`).

    Returns:
        ``(n_texts, context_length)`` int64, 0 for padding.

    Raises:
        ValueError: names the position of a text that is empty or no string.
    """
    return tokenize(_heads(texts, context_length, characters), context_length)


def read_texts(texts: Sequence[str], context_length: int, characters: Characters) -> list[TextRead]:
    """Count the tokens of texts, as `prepare_texts` makes them."""
    found = []
    for head in _heads(texts, context_length, characters):
        tokens = _tokenizer.tokenize(head)
        known = sum(token != _UNKNOWN for token in tokens[: context_length - 2])
        found.append(TextRead(len(tokens) + 2, known))
    return found


def _heads(texts: Sequence[str], context_length: int, characters: Characters) -> list[str]:
    heads = []
    for position, text in enumerate(texts):
        head = characters(text.strip()[: context_length * _CHARACTERS_PER_TOKEN]) if isinstance(text, str) else ""
        if not head.strip():
            raise ValueError(f"texts[{position}]: expected a text that is not empty, got {text!r}")
        heads.append(head.strip().lower().replace("“", '"').replace("”", '"'))
    return heads
