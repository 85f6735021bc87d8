"""Which part of a picture a token of a document is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def cell_boxes(features: Mapping[str, Any], model: Any) -> Tensor:
    """Return the boxes of a document's tokens, as fractions of width and height.

    Tokens of the picture itself lie in a grid, row by row, where the model lays one over the whole picture: Qwen's
    families say which (``image_grid_thw``, patches that are merged by twos), ColPali's is a square. Everything else,
    and every token of a model that cuts pictures into tiles (Idefics, ModernVBERT), is of the whole picture.

    Args:
        features: of one document, as the library's ``encode(output_value=None)`` gives them: ``input_ids (n,)``.
        model: of the library.

    Returns:
        ``(n, 4)`` xyxy float32; ``(1, 4)``, the whole picture, without ``input_ids``.
    """
    ids = features.get("input_ids")
    if ids is None:
        return WHOLE
    boxes = WHOLE.repeat(len(ids), 1)
    places = (ids.cpu() == _image_token(model)).nonzero().flatten()
    grid = _grid(features, model, len(places))
    if grid is not None:
        rows, columns = grid
        y, x = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
        corners = torch.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], dim=1)
        boxes[places] = corners
    return boxes


def _image_token(model: Any) -> int:
    """Return the number of the token that stands for a part of the picture, -1 where there is none."""
    token = getattr(model.processor, "image_token", None)
    return -1 if token is None else int(model.tokenizer.convert_tokens_to_ids(str(token)))


def _grid(features: Mapping[str, Any], model: Any, count: int) -> tuple[int, int] | None:
    """Return rows and columns of `count` tokens, None where they are no grid over the whole picture."""
    sizes = features.get("image_grid_thw")
    if sizes is not None:
        merged = int(getattr(model.processor.image_processor, "merge_size", 1))
        rows, columns = (int(side) // merged for side in sizes.flatten()[-2:])
    elif model.config is not None and model.config.model_type == "colpali":
        rows = columns = round(count**0.5)
    else:
        return None
    return (rows, columns) if count and rows * columns == count else None
