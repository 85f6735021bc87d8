"""Patches of a ViT in a picture: which grid they lie in, and the features of boxes pooled from them (RoIAlign)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.ops import Ragged
from heritage_align.protocols import Encoder, FlexibleEncoder

Grid = tuple[int, int]
"""Rows and columns."""
_THINNEST = 1e-3  # cells; of a box without area there is no sample, and its vector would be zero


def grid_of(encoder: Encoder, image: Image) -> Grid | None:
    """Return the grid that an encoder lays over a picture, None where it has no patches."""
    if isinstance(encoder, FlexibleEncoder):
        return encoder.grid_of(image.width, image.height)
    return encoder.patch_grid


def pool_boxes(patches: Tensor, grids: Sequence[Grid], boxes: Ragged) -> Tensor:
    """Pool the features of boxes out of the patches of whole pictures (He et al. 2017, RoIAlign, one bin a box).

    A box's vector is the mean of samples inside it, one a patch's width and height at most, each interpolated between
    the four patches around; so a box smaller than a patch has a vector too.

    Args:
        patches: ``(n, n_patches, dim)`` row by row; a picture's are the first ``rows * columns``. Not normalised, as a
            model was trained to be pooled.
        grids: of the n pictures.
        boxes: values ``(total_boxes, 4)`` xyxy as fractions of width and height, one run of rows a picture.

    Returns:
        ``(total_boxes, dim)`` fp32 on the device of `patches`, not normalised.

    Raises:
        ValueError: there are not as many grids, or runs of boxes, as pictures; a grid has more cells than patches.
    """
    from torchvision.ops import roi_align  # here: importing it takes a second that a search has no use for

    n, count, dim = patches.shape
    if len(grids) != n or len(boxes) != n:
        raise ValueError(f"boxes: expected one run and one grid a picture, got {len(boxes)} and {len(grids)} for {n}")
    device = patches.device
    places = boxes.values.to(device, torch.float32)
    picture = torch.arange(n).repeat_interleave(boxes.lengths.cpu())
    pooled = patches.new_empty(len(places), dim, dtype=torch.float32)
    for grid in dict.fromkeys(grids):
        rows, columns = grid
        if rows * columns > count:
            raise ValueError(f"grids: {rows} x {columns} cells, and a picture has {count} patches")
        own = [i for i in range(n) if grids[i] == grid]
        maps = patches[own, : rows * columns].transpose(1, 2).reshape(len(own), dim, rows, columns)
        of_map = torch.full((n,), -1)
        of_map[own] = torch.arange(len(own))
        chosen = (of_map[picture] >= 0).nonzero()[:, 0]
        numbers = of_map[picture[chosen]].to(device, torch.float32)
        chosen = chosen.to(device)
        size = torch.tensor([columns, rows, columns, rows], dtype=torch.float32, device=device)
        low, high = (places[chosen] * size).split(2, dim=1)
        corners = torch.cat([numbers[:, None], low, high.maximum(low + _THINNEST)], dim=1)
        pooled[chosen] = roi_align(maps.float().contiguous(), corners, output_size=1, aligned=True)[:, :, 0, 0]
    return pooled
