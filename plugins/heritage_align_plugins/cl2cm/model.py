"""The student: a projection of frozen image vectors, and a text model."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from heritage_align_plugins.cl2cm.settings import TextSettings
from heritage_align_plugins.cl2cm.text import TextModel


class StudentModel(nn.Module):
    """A projection of frozen image vectors and a text model for both languages, into one space of `dim` dimensions."""

    def __init__(self, settings: TextSettings, vocabulary: int, image_dim: int, dim: int) -> None:
        super().__init__()
        self.text = TextModel(settings, vocabulary, dim)
        self.projection = nn.Linear(image_dim, dim)

    def images(self, vectors: Tensor, hidden: float = 0.0) -> Tensor:
        """Project the directions of ``(n, image_dim)`` to ``(n, dim)``, unit rows; `hidden` is training's dropout."""
        return normalize(self.projection(dropout(normalize(vectors, dim=-1), hidden)).float(), dim=-1)
