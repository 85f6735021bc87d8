"""A whole picture from its own feature and its regions': the model's setting ``whole: pooled``. Ours."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heritage_align.ops import Ragged


def pool_regions(regions: Ragged, boxes: Tensor | None) -> Tensor:
    """Return every picture's mean of its regions, weighted by the area of their boxes; ``(n_images, feature_dim)``.

    A detector's ten best boxes often lie around one small thing; by area the mean stays that of the picture.

    Args:
        regions: values ``(total_regions, feature_dim)``.
        boxes: ``(total_regions, 4)`` xyxy in any unit; None weights all alike.

    Raises:
        ValueError: a picture has no region.
    """
    lengths = regions.lengths
    if len(lengths) and int(lengths.min()) == 0:
        raise ValueError(f"picture {int(lengths.argmin())} has no region")
    values = regions.values
    owner = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths).to(values.device)
    if boxes is None:
        area = values.new_ones(len(values))
    else:
        sides = (boxes[:, 2:] - boxes[:, :2]).to(values)
        area = sides.prod(dim=1).clamp_min(1e-6)
    total = area.new_zeros(len(lengths)).index_add(0, owner, area)
    weights = (area / total[owner]).unsqueeze(1)
    return values.new_zeros(len(lengths), values.shape[1]).index_add(0, owner, values * weights)


class WholeProjection(nn.Module):
    """``g = W_g [z, r] + b_g``: the whole image's feature z, the mean r of its regions by area, a map of its own.

    Each of the ``2 feature_dim`` dimensions is standardised by the training set. Sheng et al. 2021 (eq. 2) map z alone,
    by the regions' W_v.

    Args:
        feature_dim: width of the features.
        dim: width of the common space.
        dropout: on features while training.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, feature_dim: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2 * feature_dim))
        self.register_buffer("deviation", torch.ones(2 * feature_dim))
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(2 * feature_dim, dim)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def fit_scale(self, features: Tensor, regions: Ragged, boxes: Tensor | None) -> None:
        """Take mean and deviation of each dimension from the training pictures; one that does not vary becomes 0."""
        both = torch.cat([features, pool_regions(regions, boxes)], dim=1)
        deviation = both.std(dim=0, correction=0)
        self.mean.copy_(both.mean(dim=0))
        self.deviation.copy_(torch.where(deviation > 1e-6 * deviation.max(), deviation, torch.inf))

    def standardised(self, features: Tensor, regions: Ragged, boxes: Tensor | None) -> Tensor:
        """Return what is projected, ``(n, 2 feature_dim)``."""
        return (torch.cat([features, pool_regions(regions, boxes)], dim=1) - self.mean) / self.deviation

    def of_regions(self, features: Tensor, regions: Ragged, boxes: Tensor | None, share: float) -> Tensor:
        """Map regions to ``(total_regions, dim)``: ``v = W_g [z, r + share (x - r)] + b_g``.

        x is the region's own feature, z and r are those of its picture. The map is linear, so the mean of a picture's
        regions by area is the picture's own vector, whatever the share: attention takes the place of that mean.

        Args:
            features: ``(n, feature_dim)`` of whole images.
            regions: values ``(total_regions, feature_dim)`` of the same images.
            boxes: ``(total_regions, 4)``, or None where there are none.
            share: 0..1, of what differs a region from that mean.
        """
        lengths = regions.lengths
        owner = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths).to(features.device)
        means = pool_regions(regions, boxes)[owner]
        both = torch.cat([features[owner], means + share * (regions.values - means)], dim=1)
        projected: Tensor = self.projection(self.dropout((both - self.mean) / self.deviation))
        return projected

    def forward(self, features: Tensor, regions: Ragged, boxes: Tensor | None) -> Tensor:
        """Map pictures to ``(n, dim)``: whole-image features ``(n, feature_dim)`` and their regions'."""
        projected: Tensor = self.projection(self.dropout(self.standardised(features, regions, boxes)))
        return projected
