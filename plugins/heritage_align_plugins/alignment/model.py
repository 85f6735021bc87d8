"""The alignment model: linear for regions and whole images, a text model for phrases, one common space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from heritage_align.ops import Ragged
from heritage_align.plugin import Encoder
from heritage_align_plugins.alignment.pair_memory import PairMemory
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.text.bag import BagOfWords
from heritage_align_plugins.alignment.text.frozen import FrozenText
from heritage_align_plugins.alignment.text.gru import BidirectionalGru
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from heritage_align_plugins.alignment.whole import WholeProjection


class ImageProjection(nn.Module):
    """``v = W_v z + b_v`` for regions and, with the same W, whole images (Sheng et al. 2021, eqs 1 and 2).

    `z` are the features with the training set's mean taken off and divided by one number, the root mean square of
    what is left; so the scale of a detector's features does not decide the first steps.

    Args:
        feature_dim: width of the features.
        dim: width of the common space.
        dropout: on features while training.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_dim: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(()))
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(feature_dim, dim)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def fit_scale(self, features: Tensor) -> None:
        """Take mean and scale from training features ``(n, feature_dim)``."""
        self.mean.copy_(features.mean(0))
        self.scale.copy_((features - self.mean).square().mean().sqrt().clamp_min(1e-12))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, feature_dim)`` to ``(n, dim)``."""
        projected: Tensor = self.projection(self.dropout((features - self.mean) / self.scale))
        return projected


class AlignmentModel(nn.Module):
    """Regions and fragments in one space: projections, and with `finished` the vectors that are compared.

    Args:
        settings: widths and text models.
        feature_dim: width of the region features.
        vocabulary: of the text models that are trained from scratch.
        base_text: the pretrained text encoder of text model ``frozen``.

    Raises:
        ValueError: text model ``frozen`` without `base_text`.
    """

    def __init__(
        self, settings: ModelSettings, feature_dim: int, vocabulary: Vocabulary, base_text: Encoder | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.feature_dim = feature_dim
        self.vocabulary = vocabulary
        pooled = settings.whole == "pooled"
        in_picture = settings.regions == "in_picture"
        self.image = None if in_picture else ImageProjection(feature_dim, settings.projected, settings.dropout)
        self.whole = WholeProjection(feature_dim, settings.projected, settings.dropout) if pooled else None
        self.memory = PairMemory(settings.pair_memory, settings.projected) if settings.pair_memory is not None else None
        # What each text model counts for, where there are several: a warm start begins with the bag of words alone.
        self.gain = nn.Parameter(torch.ones(len(settings.text))) if len(settings.text) > 1 else None
        self.text = nn.ModuleDict()
        for part in settings.text:
            if part == "bigru":
                self.text[part] = BidirectionalGru(
                    vocabulary, settings.projected, settings.embedding_dim, settings.dropout, settings.unknown
                )
            elif part == "bag":
                self.text[part] = BagOfWords(vocabulary, settings.projected, settings.dropout)
            elif base_text is None:
                raise ValueError("text model 'frozen' needs a pretrained text encoder: name one as text_encoder")
            else:
                self.text[part] = FrozenText(base_text, settings.projected, settings.relu)

    def encode_images(self, features: Tensor) -> Tensor:
        """Map features ``(n, feature_dim)`` of pictures or regions without their surroundings to ``(n, dim)``.

        Where regions are seen in their picture, each is a picture of one region, which is all of it.
        """
        if self.image is None:
            return self.encode_regions(features, Ragged(features, torch.arange(len(features) + 1)))
        projected: Tensor = self.image(features)
        return projected

    def encode_regions(self, features: Tensor, regions: Ragged, boxes: Tensor | None = None) -> Tensor:
        """Map regions to ``(total_regions, dim)``.

        Args:
            features: ``(n, feature_dim)`` of their whole images.
            regions: values ``(total_regions, feature_dim)``, unprojected.
            boxes: ``(total_regions, 4)``, or None where there are none.
        """
        if self.image is not None:
            return self.encode_images(regions.values)
        assert self.whole is not None
        return self.whole.of_regions(features, regions, boxes, self.settings.region_share)

    def encode_wholes(self, features: Tensor, regions: Ragged, boxes: Tensor | None = None) -> Tensor:
        """Map pictures to ``(n, dim)``.

        Args:
            features: ``(n, feature_dim)`` of whole images.
            regions: values ``(total_regions, feature_dim)``, unprojected.
            boxes: ``(total_regions, 4)``, or None where there are none.
        """
        if self.whole is None:
            return self.encode_images(features)
        projected: Tensor = self.whole(features, regions, boxes)
        return projected

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode phrases or sentences, each on its own; returns ``(n, dim)``. Equal ones are encoded once."""
        distinct = list(dict.fromkeys(texts))
        row = {text: i for i, text in enumerate(distinct)}
        parts = torch.stack([part(distinct) for part in self.text.values()])
        vectors = parts.sum(0) if self.gain is None else (self.gain.view(-1, 1, 1) * parts).sum(0)
        return vectors[torch.tensor([row[text] for text in texts], dtype=torch.int64, device=vectors.device)]

    def encode_fragmented(self, texts: Sequence[str], fragments: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Encode texts with their fragments; returns ``(n, dim)`` and ``(total_fragments, dim)``.

        Raises:
            ValueError: a text has no fragment.
        """
        flat = [phrase for split in fragments for phrase in split]
        counts = torch.tensor([len(split) for split in fragments])
        if len(counts) and int(counts.min()) == 0:
            raise ValueError(f"text {texts[int(counts.argmin())]!r} has no fragment")
        in_text = self.settings.phrases == "in_text"
        if not in_text and self.settings.sentence == "mean":
            vectors, wholes = self.encode_texts(flat), None
        else:
            vectors, wholes = self.encode_texts([*flat, *texts]).split([len(flat), len(texts)])
        owner = torch.arange(len(counts)).repeat_interleave(counts).to(vectors.device)
        if in_text:
            assert wholes is not None
            vectors = vectors + self.settings.text_weight * wholes[owner]
        if self.settings.sentence == "whole":
            assert wholes is not None
            return wholes, vectors
        sums = vectors.new_zeros(len(counts), vectors.shape[1]).index_add(0, owner, vectors)
        return sums / counts.to(vectors.device).unsqueeze(1), vectors

    def finished(self, projected: Tensor, *, texts: bool, whole: bool) -> Tensor:
        """Return the unit vectors that are compared, ``(n, settings.width)`` fp32.

        Args:
            projected: ``(n, settings.projected)``, as the `encode_` methods give them.
            texts: of texts or phrases; else of pictures or regions.
            whole: of whole texts or pictures; else of phrases or regions. Only a memory of pairs asks.
        """
        unit = self.unit(projected)
        if self.memory is None:
            return unit
        return self.memory.finish(unit.flatten(0, -2), texts=texts, whole=whole).unflatten(0, unit.shape[:-1])

    def unit(self, projected: Tensor) -> Tensor:
        """Return fp32 unit vectors ``(..., settings.projected)``; of two views each has the length of its weight, so
        that a cosine is the weighted mean of theirs."""
        weight = self.settings.own_view
        if not weight:
            return normalize(projected.float(), dim=-1)
        first, second = (normalize(part, dim=-1) for part in projected.float().split(list(self.settings.views), dim=-1))
        return torch.cat([first, weight**0.5 * second], dim=-1) / (1 + weight) ** 0.5
