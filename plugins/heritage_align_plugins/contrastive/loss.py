"""What is minimised: symmetric InfoNCE, contrasts of parts with phrases, the distance to a teacher's features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, interpolate, normalize
from torchvision.ops import roi_align


def info_nce(
    images: Tensor, texts: Tensor, scale: Tensor, positive: Tensor | None = None, compared: Tensor | None = None
) -> Tensor:
    """Return the symmetric contrastive loss of CLIP, with ``S = scale * images @ texts.T``::

        (cross_entropy(S, P) + cross_entropy(S.T, P.T)) / 2

    P shares a row's target equally among its positives (UniCL, Yang et al. 2022, eqs 2 and 3); by default it is the
    diagonal (CLIP).

    Args:
        images: ``(n, dim)`` unit rows.
        texts: ``(n, dim)`` unit rows, row i a caption of picture i.
        scale: the inverse temperature, a scalar.
        positive: ``(n, n)`` bool, which text is right for which picture; its diagonal is True.
        compared: ``(n, n)`` bool, which text is held against which picture at all; True wherever `positive` is.
    """
    logits = scale * images @ texts.T
    if positive is None and compared is None:
        diagonal = torch.arange(len(logits), device=logits.device)
        return (cross_entropy(logits, diagonal) + cross_entropy(logits.T, diagonal)) / 2
    right = torch.eye(len(logits), device=logits.device) if positive is None else positive.to(logits.dtype)
    others = logits if compared is None else logits.masked_fill(~compared, -torch.inf)
    # A row's cross-entropy with shares that sum to 1; cross_entropy itself would multiply a share of 0 by -inf.
    ways = [others.logsumexp(way) - (right * logits).sum(way) / right.sum(way) for way in (1, 0)]
    return (ways[0].mean() + ways[1].mean()) / 2


def patch_contrast(patches: Tensor, labels: Tensor, phrases: Tensor, scale: Tensor) -> Tensor:
    """Return the mean cross-entropy of the phrase that a patch shows among all phrases, ``scale * <patch, phrase>``.

    Args:
        patches: ``(n, n_patches, dim)`` unit rows.
        labels: ``(n, n_patches)`` int64 rows of `phrases`, -1 for a patch that shows none clearly.
        phrases: ``(n_phrases, dim)`` unit rows.
        scale: the inverse temperature, a scalar.

    Returns:
        A scalar; 0 where no patch has a label.
    """
    known = labels >= 0
    logits = scale * patches[known] @ phrases.T
    return cross_entropy(logits, labels[known], reduction="sum") / max(int(known.sum()), 1)


def region_contrast(patches: Tensor, boxes: Sequence[Tensor], labels: Tensor, phrases: Tensor, scale: Tensor) -> Tensor:
    """Return the mean cross-entropy of the phrase that a region shows among all phrases (FG-CLIP, Xie et al. 2025).

    A region's vector is what RoIAlign (He et al. 2017) pools of its picture's patches, made a unit vector.

    Args:
        patches: ``(n, grid * grid, dim)`` unit rows, row by row of the grid.
        boxes: of each picture ``(n_regions, 4)``, x0, y0, x1, y1 in patches.
        labels: ``(sum of n_regions,)`` int64 rows of `phrases`.
        phrases: ``(n_phrases, dim)`` unit rows.
        scale: the inverse temperature, a scalar.

    Returns:
        A scalar; 0 where there is no region.
    """
    grid = math.isqrt(patches.shape[1])
    planes = patches.transpose(1, 2).unflatten(2, (grid, grid))
    pooled = roi_align(planes, [box.to(planes) for box in boxes], output_size=1, aligned=True)[:, :, 0, 0]
    logits = scale * normalize(pooled, dim=1) @ phrases.T
    return cross_entropy(logits, labels, reduction="sum") / max(len(labels), 1)


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
