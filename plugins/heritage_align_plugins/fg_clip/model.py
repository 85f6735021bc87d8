"""The two generations, from pixels and token numbers to vectors that are not normalised.

FG-CLIP is a CLIP whose dense features leave out the mixing of the last block; FG-CLIP 2 is a SigLIP 2 whose dense
features pass a head of their own. Both read long texts with places of their own. Written after the published code
(github.com/360CVGroup/FG-CLIP, Apache 2.0), with which tests/plugins/fg_clip compares.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear

from heritage_align_plugins.fg_clip.blocks import Layers, PoolingHead, TextPositions
from heritage_align_plugins.fg_clip.description import Description
from heritage_align_plugins.fg_clip.pictures import Packed

Grid = tuple[int, int]


class Encoded(NamedTuple):
    """Vectors of pictures ``(n, dim)`` and, on request, of their patches ``(n, n_patches, dim)``."""

    whole: Tensor
    dense: Tensor | None


class FirstEmbeddings(nn.Module):
    """Patches of a square and a class token, with their places."""

    def __init__(self, model: Description) -> None:
        super().__init__()
        width = model.vision.width
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, model.patch, model.patch, bias=False)
        self.position_embedding = nn.Embedding(1 + model.side**2, width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ``(n, 1 + n_patches, width)``."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class FirstVision(nn.Module):
    """The ViT of FG-CLIP."""

    def __init__(self, model: Description) -> None:
        super().__init__()
        tower = model.vision
        self.embeddings = FirstEmbeddings(model)
        self.pre_layrnorm = nn.LayerNorm(tower.width, tower.epsilon)  # so spelt in every CLIP of the library
        self.encoder = Layers(tower)
        self.post_layernorm = nn.LayerNorm(tower.width, tower.epsilon)

    def forward(self, pixels: Tensor, dense: bool) -> Encoded:
        """Encode ``(n, 3, side, side)``."""
        x = self.encoder.but_last(self.pre_layrnorm(self.embeddings(pixels)))
        last = self.encoder.last()
        whole = self.post_layernorm(last(x)[:, 0])
        return Encoded(whole, self.post_layernorm(last.without_mixing(x[:, 1:])) if dense else None)


class FirstText(nn.Module):
    """The text tower of FG-CLIP: causal, read at the first mark of an end."""

    def __init__(self, model: Description) -> None:
        super().__init__()
        tower = model.text
        self.embeddings = TextPositions(tower.width, model.vocabulary, model.short, model.long, model.kept)
        self.encoder = Layers(tower)
        self.final_layer_norm = nn.LayerNorm(tower.width, tower.epsilon)

    def forward(self, ids: Tensor, end: int, *, long: bool) -> Tensor:
        """Return ``(n, width)`` of token numbers ``(n, length)``, whose texts end with number `end`."""
        x = self.encoder(self.embeddings(ids, long=long), causal=True)
        places = (ids == end).int().argmax(dim=1)
        read: Tensor = self.final_layer_norm(x[torch.arange(len(ids), device=ids.device), places])
        return read


class FirstModel(nn.Module):
    """FG-CLIP."""

    def __init__(self, model: Description) -> None:
        super().__init__()
        self._grid = (model.side, model.side)
        self.text_model, self.vision_model = FirstText(model), FirstVision(model)
        self.visual_projection = nn.Linear(model.vision.width, model.dim, bias=False)
        self.text_projection = nn.Linear(model.text.width, model.dim, bias=False)
        self.text_filip_projection = nn.Linear(model.text.width, model.dim, bias=False)

    def pictures(self, pixels: Tensor, *, dense: bool) -> tuple[Encoded, list[Grid]]:
        """Encode squares ``(n, 3, side, side)``; also returns the grids of their patches."""
        dtype = self.visual_projection.weight.dtype
        whole, parts = self.vision_model(pixels.to(dtype), dense)
        project = self.visual_projection
        encoded = Encoded(project(whole), None if parts is None else project(parts))
        return encoded, [self._grid] * len(pixels)

    def texts(self, ids: Tensor, mask: Tensor | None, mode: str, end: int) -> Tensor:
        """Return ``(n, dim)`` of token numbers ``(n, length)``; `mask` changes nothing where attention is causal."""
        read = self.text_model(ids, end, long=mode == "long")
        head = self.text_filip_projection if mode == "long" else self.text_projection
        projected: Tensor = head(read)
        return projected


class SecondEmbeddings(nn.Module):
    """Patches with their places in grids of any shape.

    Args:
        model: of which size.
    """

    def __init__(self, model: Description) -> None:
        super().__init__()
        self._side = model.side
        self.patch_embedding = nn.Linear(3 * model.patch**2, model.vision.width)
        self.position_embedding = nn.Embedding(model.side**2, model.vision.width)

    def forward(self, rows: Tensor, grids: list[Grid]) -> Tensor:
        """Return ``(n, n_patches, width)`` of patches ``(n, n_patches, 3 * patch * patch)``."""
        x: Tensor = self.patch_embedding(rows)
        places = x.new_zeros(x.shape)
        for grid in dict.fromkeys(grids):
            own = [i for i, other in enumerate(grids) if other == grid]
            places[own, : grid[0] * grid[1]] = self._places(grid).to(x.dtype)
        return x + places

    def _places(self, grid: Grid) -> Tensor:
        """Return the embeddings of the places of a grid, ``(rows * columns, width)`` fp32."""
        table = self.position_embedding.weight.float().T.reshape(1, -1, self._side, self._side)
        return interpolate(table, grid, mode="bilinear", align_corners=False, antialias=True).flatten(2)[0].T


class SecondVision(nn.Module):
    """The ViT of FG-CLIP 2, whose pictures keep their shapes."""

    def __init__(self, model: Description) -> None:
        super().__init__()
        tower = model.vision
        self.embeddings = SecondEmbeddings(model)
        self.encoder = Layers(tower)
        self.post_layernorm = nn.LayerNorm(tower.width, tower.epsilon)
        self.head = PoolingHead(tower)

    def forward(self, rows: Tensor, grids: list[Grid], padding: Tensor | None) -> Tensor:
        """Return tokens ``(n, n_patches, width)`` of patches ``(n, n_patches, 3 * patch * patch)``."""
        mask = None if padding is None else ~padding[:, None, None]
        tokens: Tensor = self.post_layernorm(self.encoder(self.embeddings(rows, grids), mask))
        return tokens


class SecondText(nn.Module):
    """The text tower of FG-CLIP 2: every token attends to all, read at the last place."""

    def __init__(self, model: Description) -> None:
        super().__init__()
        tower = model.text
        self.embeddings = TextPositions(tower.width, model.vocabulary, model.short, model.long, model.kept)
        self.encoder = Layers(tower)
        self.final_layer_norm = nn.LayerNorm(tower.width, tower.epsilon)
        self.head = nn.Linear(tower.width, model.dim)

    def forward(self, ids: Tensor, mask: Tensor | None, *, long: bool) -> Tensor:
        """Return ``(n, width)`` of token numbers ``(n, length)``."""
        attended = None if mask is None else mask.bool()[:, None, None]
        x = self.encoder(self.embeddings(ids, long=long), attended)
        read: Tensor = self.final_layer_norm(x[:, -1])
        return read


class SecondModel(nn.Module):
    """FG-CLIP 2."""

    def __init__(self, model: Description) -> None:
        super().__init__()
        width = model.text.width
        self.text_model, self.vision_model = SecondText(model), SecondVision(model)
        self.dense_feature_head = PoolingHead(model.vision)
        self.longtext_head, self.boxtext_head = nn.Linear(width, width), nn.Linear(width, width)

    def pictures(self, pixels: Tensor, *, dense: bool) -> tuple[Encoded, list[Grid]]:
        """Encode packed pictures ``(n, 3, patch * patch, n_patches + 1)`` (`Packed`), also returns their grids."""
        packed = Packed(pixels)
        padding = packed.padding()
        rows = packed.rows().to(self.longtext_head.weight.dtype)
        tokens = self.vision_model(rows, packed.grids, padding)
        whole = self.vision_model.head.pooled(tokens, padding)
        parts = self.dense_feature_head.dense(tokens, padding) if dense else None
        return Encoded(whole, parts), packed.grids

    def texts(self, ids: Tensor, mask: Tensor | None, mode: str, end: int) -> Tensor:
        """Return ``(n, dim)`` of token numbers ``(n, length)``, which all end at the last place; `mask` of those that
        count, where a tokenizer gives one."""
        read = self.text_model(ids, mask, long=mode == "long")
        heads = {"short": self.text_model.head, "long": self.longtext_head, "box": self.boxtext_head}
        return linear(read, heads[mode].weight, heads[mode].bias)


Model = FirstModel | SecondModel


def build(model: Description) -> Model:
    """Return the model without weights, on torch's meta device."""
    with torch.device("meta"):
        return FirstModel(model) if model.generation == 1 else SecondModel(model)
