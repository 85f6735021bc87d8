"""Boxes pooled out of patches: RoIAlign as its paper says it, pictures of many shapes, and the stage that asks."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.encoding import ImageStage, grid_of, pool_boxes
from heritage_align.ops import Ragged
from heritage_align.protocols import EncodedImages, EncodedRegions
from heritage_align.testing.samples import ToyEncoder, unit_rows
from heritage_align.types import Regions

coordinate = st.floats(0, 1, width=32)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


def aligned(patches: np.ndarray, grid: tuple[int, int], corners: tuple[float, ...]) -> np.ndarray:
    """He et al. 2017, one bin: the mean of samples, one a cell's side at most, each interpolated between four cells."""
    rows, columns = grid
    cells = patches[: rows * columns].reshape(rows, columns, -1).astype(np.float64)
    x0, y0, x1, y1 = (c * side for c, side in zip(np.float32(corners), (columns, rows, columns, rows)))
    x1, y1 = max(x1, x0 + np.float32(1e-3)), max(y1, y0 + np.float32(1e-3))
    samples = []
    down, across = (max(1, math.ceil(np.float32(b) - np.float32(a))) for a, b in ((y0, y1), (x0, x1)))
    for i in range(down):
        for j in range(across):
            y = y0 + (i + 0.5) * (y1 - y0) / down - 0.5  # the centre of a cell is half a cell from its edge
            x = x0 + (j + 0.5) * (x1 - x0) / across - 0.5
            y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            v, u = y - top, x - left
            upper = cells[top, left] * (1 - u) + cells[top, right] * u
            lower = cells[bottom, left] * (1 - u) + cells[bottom, right] * u
            samples.append(upper * (1 - v) + lower * v)
    return np.mean(samples, axis=0)


@settings(max_examples=60, deadline=None)
@given(boxes=st.lists(st.lists(box, max_size=4), min_size=3, max_size=3))
def test_pictures_of_many_shapes_together_are_each_as_alone(boxes: list[list[tuple[float, ...]]]) -> None:
    grids = [(3, 5), (4, 4), (3, 5)]  # two of a shape, and padding in two of them
    patches = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 16, 6), dtype=np.float32))
    flat = torch.tensor([corner for of_picture in boxes for corner in of_picture]).reshape(-1, 4)
    offsets = torch.tensor([0, *map(len, boxes)]).cumsum(0)
    found = pool_boxes(patches, grids, Ragged(flat, offsets)).numpy()
    expected = [
        aligned(patches[i].numpy(), grids[i], corners) for i, of_picture in enumerate(boxes) for corners in of_picture
    ]
    assert found.shape == (len(expected), 6)
    if expected:
        np.testing.assert_allclose(found, np.stack(expected), atol=2e-5)


def test_the_box_of_a_cell_is_that_patch() -> None:
    patches = torch.randn(1, 6, 4)
    cells = torch.tensor([[x / 3, y / 2, (x + 1) / 3, (y + 1) / 2] for y in range(2) for x in range(3)])
    torch.testing.assert_close(pool_boxes(patches, [(2, 3)], Ragged(cells, torch.tensor([0, 6]))), patches[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_pooled_in_fp32(dtype: torch.dtype) -> None:
    patches, corners = (
        torch.randn(2, 9, 8, dtype=dtype),
        Ragged(torch.tensor([[0.1, 0.2, 0.9, 0.7]]), torch.tensor([0, 0, 1])),
    )
    found = pool_boxes(patches, [(3, 3)] * 2, corners)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pool_boxes(patches.float(), [(3, 3)] * 2, corners))


def test_what_does_not_belong_together() -> None:
    patches, none = torch.zeros(2, 9, 8), Ragged(torch.empty(0, 4), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="one run and one grid a picture, got 1 and 2 for 2"):
        pool_boxes(patches, [(3, 3)] * 2, none)
    with pytest.raises(ValueError, match="3 x 4 cells, and a picture has 9 patches"):
        pool_boxes(patches, [(3, 4)] * 2, Ragged(torch.empty(0, 4), torch.tensor([0, 0, 0])))


class Halves(ToyEncoder):
    """Patches that follow the picture: as many as it has pixels, padded by NaN, and boxes pooled from them."""

    patch_grid = None
    pools_regions = True
    passes = 0

    def grid_of(self, width: int, height: int) -> tuple[int, int]:
        return height, width

    def prepare(self, image: Image.Image) -> Tensor:
        pixels = torch.zeros(3, 1, 10)
        pixels[0, 0, :2] = torch.tensor([image.height, image.width])
        levels = torch.from_numpy(np.array(image)[..., 0].flatten())
        pixels[1, 0, : len(levels)] = levels.float()
        return pixels

    def _dense(self, pixels: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        grids = [(int(row[0, 0, 0]), int(row[0, 0, 1])) for row in pixels]
        dense = pixels[:, 1, 0, :, None] * unit_rows(1, self.dim) + 1
        for row, grid in zip(dense, grids):
            row[math.prod(grid) :] = float("nan")
        return dense[:, : max(map(math.prod, grids))], grids

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        self.passes += 1
        whole = normalize(torch.ones(len(pixels), self.dim), dim=-1)
        return EncodedImages(whole, normalize(self._dense(pixels)[0], dim=-1) if patches else None)

    def encode_regions(self, pixels: Tensor, boxes: Ragged) -> EncodedRegions:
        whole = self.encode_pixels(pixels).global_features
        return EncodedRegions(whole, normalize(pool_boxes(*self._dense(pixels), boxes), dim=-1))


class Cells:
    """Every pixel of a picture, as a patch or as a box; the last one twice."""

    def __init__(self, patches: bool) -> None:
        self.patches = patches

    def propose(self, images: list[Image.Image], ids: list[str]) -> list[Regions]:
        found = []
        for image in images:
            boxes = [[x, y, x + 1, y + 1] for y in range(image.height) for x in range(image.width)]
            grid = (image.height, image.width) if self.patches else None
            found.append(Regions(np.array(boxes, dtype=np.float32), grid=grid))
        return found


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("patches", [False, True])
def test_the_stage_encodes_pictures_and_regions_in_one_pass(patches: bool) -> None:
    encoder, pictures = Halves(), [picture(2, 3), picture(5, 2), picture(1, 1)]
    stage = ImageStage(encoder, Cells(patches))
    with ThreadPoolExecutor(1) as pool:
        features = stage.encode([stage.prepare(image) for image in pictures], ["a", "b", "c"], pool, 1)
        assert encoder.passes == 1
        assert features.regions is not None
        assert features.regions.offsets.tolist() == [0, 6, 16, 17]
        levels = np.concatenate([np.array(image)[..., 0].flatten() for image in pictures])
        expected = normalize(torch.from_numpy(levels).float()[:, None] * unit_rows(1, encoder.dim) + 1, dim=-1)
        torch.testing.assert_close(features.regions.values, expected)
        alone = stage.encode([stage.prepare(pictures[1])], ["b"], pool, 1)
    assert alone.regions is not None
    torch.testing.assert_close(alone.regions.values, features.regions.item(1))


def test_patches_of_another_grid_are_refused() -> None:
    class Square(Cells):
        def propose(self, images: list[Image.Image], ids: list[str]) -> list[Regions]:
            return [Regions(np.zeros((4, 4), dtype=np.float32), grid=(2, 2)) for _ in images]

    stage = ImageStage(Halves(), Square(True))
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(ValueError, match=r"image '长': .*4 patches in a grid \(2, 2\).*\(1, 5\)"),
    ):
        stage.encode([stage.prepare(picture(5, 1))], ["长"], pool, 1)


def test_the_grid_of_a_picture() -> None:
    assert grid_of(ToyEncoder(), picture(5, 1)) == (2, 2)
    assert grid_of(Halves(), picture(5, 1)) == (1, 5)
