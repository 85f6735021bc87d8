"""Attention to the training pairs: a picture recalls the texts of the pictures like it, a text the pictures.

With few training pairs a linear map leaves much of them unused. Here every unit vector p of the model reads a memory of
the training pairs, as in a key-value memory network (Miller et al. 2016) or a kernel regression (Nadaraya 1964):

    m = sum_j softmax_j(sharpness p . k_j) v_j

with pictures' vectors as keys k and their texts' as values v where p is a picture or a region, and the other way round
where p is a text or a phrase. The vector that is compared is ``[sqrt(a) p, sqrt(b) m / |m|]``, a + b = 1, so a cosine
is a p . p' + b m . m'.

Whole pictures and texts are corrected for hubs besides, pictures that lie near every text (inverted softmax, Smith et
al. 2017; Bogolin et al. 2022): ``S(i, t) - w h(i) - w h(t)`` with ``h(i) = s log mean_j exp(S(i, t_j) / s)`` over the
training texts t_j, h(t) over the training pictures, and s the standard deviation of such scores times `temperature`.
Both corrections are dimensions of the vectors, so the corrected score is still a cosine, up to a constant factor: any
index of cosines gives it (the padding to one length is that of Bachrach et al. 2014).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from heritage_align_plugins.alignment.settings import EXTRA, PairMemorySettings

ROWS = 1024
"""Rows that read the memory at once: 4,000 keys ask for 16 MB."""


class PairMemory(nn.Module):
    """Vectors of the training pairs, and what is measured on them. Empty until `fit`.

    Attributes:
        pictures: ``(n, dim)`` unit vectors of the training pictures.
        texts: ``(n, dim)`` unit vectors of their texts, the captions of one picture as one document.
        bank_pictures: ``(n, 2 dim)`` finished vectors of training pictures; what they recall leaves their own pair out.
        bank_texts: ``(n_texts, 2 dim)`` likewise of single captions.
        shares: ``(2,)``, a and b.
        hub: ``(4,)``: s, the mean h of pictures, the mean h of texts, the largest distance from either.
    """

    pictures: Tensor
    texts: Tensor
    bank_pictures: Tensor
    bank_texts: Tensor
    shares: Tensor
    hub: Tensor

    def __init__(self, settings: PairMemorySettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.dim = dim
        for name, width in (("pictures", dim), ("texts", dim), ("bank_pictures", 2 * dim), ("bank_texts", 2 * dim)):
            self.register_buffer(name, torch.zeros(0, width))
        self.register_buffer("shares", torch.zeros(2))
        self.register_buffer("hub", torch.zeros(4))

    @torch.no_grad()
    def fit(self, pictures: Tensor, documents: Tensor, texts: Tensor, owners: Tensor) -> None:
        """Take the training pairs.

        Args:
            pictures: ``(n, dim)`` unit vectors.
            documents: ``(n, dim)`` unit vectors, all captions of a picture as one text.
            texts: ``(n_texts, dim)`` unit vectors of single captions.
            owners: ``(n_texts,)`` row of `pictures` of every caption.

        Raises:
            ValueError: fewer than two pictures: the memory of a pair without itself would be empty.
        """
        if len(pictures) < 2:
            raise ValueError(f"a memory of pairs needs 2 pictures at least, got {len(pictures)}")
        self.pictures, self.texts = pictures, documents
        own = torch.arange(len(pictures), device=pictures.device)
        recalled = {
            "pictures": self._read(self.pictures, self.pictures, self.texts, own),
            "texts": self._read(texts, self.texts, self.pictures, owners),
        }
        # A share is one over the spread of its cosines, so that neither part drowns the other.
        others = owners.unsqueeze(0) != own.unsqueeze(1)
        spreads = [
            float((one @ other.T)[others].std())
            for one, other in ((self.pictures, texts), (recalled["pictures"], recalled["texts"]))
        ]
        first, second = 1 / max(spreads[0], 1e-6), self.settings.weight / max(spreads[1], 1e-6)
        self.shares = torch.tensor([first, second], device=pictures.device) / (first + second)
        self.bank_pictures = self._joined(self.pictures, recalled["pictures"])
        bank = self._joined(texts, recalled["texts"])
        scores = self.bank_pictures @ bank.T
        spread = max(float(scores[others].std()) * self.settings.temperature, 1e-6)
        if len(bank) > self.settings.bank:
            chosen = torch.linspace(0, len(bank) - 1, self.settings.bank, device=bank.device).long()
            bank, scores = bank[chosen], scores[:, chosen]
        self.bank_texts = bank
        of_pictures, of_texts = _mean_of_exponents(scores, spread), _mean_of_exponents(scores.T, spread)
        centres = [float(of_pictures.mean()), float(of_texts.mean())]
        # Half as much again as in training, where what is new lies as a rule; what lies beyond is cut.
        largest = 1.5 * max(float((h - c).abs().max()) for h, c in zip((of_pictures, of_texts), centres))
        self.hub = torch.tensor([spread, *centres, max(largest, 1e-6)], device=pictures.device)

    def finish(self, vectors: Tensor, *, texts: bool, whole: bool) -> Tensor:
        """Return the unit vectors that are compared, ``(n, 2 dim + EXTRA)``.

        Args:
            vectors: ``(n, dim)`` unit vectors.
            texts: of texts or phrases; else of pictures or regions.
            whole: of whole texts or pictures, which are corrected for hubs; phrases and regions are not.
        """
        keys, values = (self.texts, self.pictures) if texts else (self.pictures, self.texts)
        joined = self._joined(vectors, self._read(vectors, keys, values))
        if not whole or self.settings.hubness == 0:
            return pad(joined, (0, EXTRA))
        spread, *centres, largest = self.hub.tolist()
        bank = self.bank_pictures if texts else self.bank_texts
        hub = torch.cat([_mean_of_exponents(part @ bank.T, spread) for part in joined.split(ROWS)])
        correction = self.settings.hubness * (hub - centres[int(texts)]).clamp(-largest, largest)
        # [h / k, k] against [k, h' / k] gives h + h'; k^2 = the largest h, where both are longest together.
        k = math.sqrt(self.settings.hubness * largest)
        mine, other = -correction / k, torch.full_like(correction, k)
        padding = (k * k - mine.square()).clamp_min(0).sqrt()
        nothing = torch.zeros_like(padding)
        ends = [other, mine, nothing, padding] if texts else [mine, other, padding, nothing]
        return torch.cat([joined, torch.stack(ends, dim=1)], dim=1) / math.sqrt(1 + 2 * k * k)

    def _read(self, queries: Tensor, keys: Tensor, values: Tensor, own: Tensor | None = None) -> Tensor:
        """Return what queries recall, unit rows; `own` are the keys that each may not read."""
        parts = []
        for start in range(0, len(queries), ROWS):
            part = queries[start : start + ROWS]
            logits = self.settings.sharpness * part @ keys.T
            if own is not None:
                logits.scatter_(1, own[start : start + ROWS].unsqueeze(1), -torch.inf)
            parts.append(logits.softmax(dim=1) @ values)
        return normalize(torch.cat(parts), dim=1) if parts else queries

    def _joined(self, projected: Tensor, recalled: Tensor) -> Tensor:
        first, second = self.shares.sqrt()
        return torch.cat([first * projected, second * recalled], dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take tensors of any number of pairs."""
        for name, buffer in self.named_buffers():
            given = state_dict.get(prefix + name)
            if given is not None and given.ndim == buffer.ndim and given.shape[1:] == buffer.shape[1:]:
                setattr(self, name, torch.empty_like(given, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _mean_of_exponents(scores: Tensor, spread: float) -> Tensor:
    """Return ``s log mean_j exp(score_ij / s)`` of every row."""
    return spread * ((scores / spread).logsumexp(dim=1) - math.log(scores.shape[1]))
