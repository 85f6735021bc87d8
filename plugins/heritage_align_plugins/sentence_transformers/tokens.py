"""What goes with encoder `multi_vector`: tokens of pictures as regions, tokens of texts as fragments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch.nn.functional import normalize

from heritage_align.plugin import BuildContext, ConfigError, Regions, TextItem
from heritage_align_plugins.sentence_transformers.config import PictureTokensConfig, QueryTokensConfig
from heritage_align_plugins.sentence_transformers.multi_vector import MultiVector, TokenVectors


class PictureTokens:
    """Every token of a picture is a region, with its vector; a `Proposer`.

    Raises:
        ConfigError: the encoder is not `multi_vector`.
    """

    def __init__(self, config: PictureTokensConfig, context: BuildContext) -> None:
        self._encoder, self._batch_size = _encoder(context, "proposer"), config.batch_size

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return the tokens with their vectors, and the mean vector of each picture."""
        found: list[Regions] = []
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            found += map(_regions, batch, self._encoder.encode_pictures(batch))
        return found


class QueryTokens:
    """The tokens of a text that the model scores; a `Fragmenter`.

    Raises:
        ConfigError: the encoder is not `multi_vector`.
    """

    def __init__(self, config: QueryTokensConfig, context: BuildContext) -> None:
        self._encoder = _encoder(context, "fragmenter")

    def split(self, item: TextItem) -> tuple[str, ...]:
        """Return the tokens of a text."""
        return self._encoder.query_tokens(item.text)


def _encoder(context: BuildContext, kind: str) -> MultiVector:
    if not isinstance(context.encoder, MultiVector):
        raise ConfigError([f"{kind}.name: 'multi_vector' gives what encoder multi_vector makes; name that encoder too"])
    return context.encoder


def _regions(image: Image, tokens: TokenVectors) -> Regions:
    size = torch.tensor([image.width, image.height] * 2, dtype=torch.float32)
    boxes = torch.minimum(tokens.boxes * size, size)
    mean = normalize(tokens.vectors.mean(0), dim=0)
    return Regions(boxes.numpy(), features=tokens.vectors.cpu().numpy(), global_feature=mean.cpu().numpy())
