"""What is minimised: symmetric InfoNCE, and the distance to a teacher's picture features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, interpolate


def info_nce(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric contrastive loss of CLIP, with ``S = scale * images @ texts.T``::

        (cross_entropy(S, diagonal) + cross_entropy(S.T, diagonal)) / 2

    Args:
        images: ``(n, dim)`` unit rows.
        texts: ``(n, dim)`` unit rows, row i the caption of picture i.
        scale: the inverse temperature, a scalar.
    """
    logits = scale * images @ texts.T
    diagonal = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, diagonal) + cross_entropy(logits.T, diagonal)) / 2


def distillation(students: Tensor, teachers: Tensor) -> Tensor:
    """Return ``1 - mean cosine`` of a teacher's and a student's features of the same pictures.

    A student of another width is stretched to the teacher's by linear interpolation along the features (half-pixel
    centres), which is what Chinese-CLIP's bilinear resizing of the whole matrix comes to.

    Args:
        students: ``(n, dim)``.
        teachers: ``(n, teacher_dim)``, without gradient.
    """
    if students.shape[1] != teachers.shape[1]:
        students = interpolate(students[:, None], size=teachers.shape[1], mode="linear", align_corners=False)[:, 0]
    return 1 - cosine_similarity(students, teachers, dim=1).mean()
