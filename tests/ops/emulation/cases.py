"""Inputs that the emulated kernels and a real GPU are both tested on."""

from __future__ import annotations

import itertools

import torch

from heritage_align import ops

# Lengths of images, lengths of texts, dim.
SHAPES = {
    "one region, one word": ([1], [1], 3),
    "ragged": ([36, 36, 20, 0, 1, 36, 7], [5, 0, 13, 64, 1, 25, 0, 2], 24),
    "many small items": ([1] * 70 + [2, 3], [1] * 100, 16),
    "more empty texts than a warp": ([4, 5], [0] * 40 + [3] + [0] * 40 + [2], 8),
    "an image longer than a tile": ([150, 300, 3], [4, 9], 40),
    "a text longer than a tile": ([36, 36, 36], [65, 3, 140], 20),
    "both longer, dim shorter than the items": ([200], [70, 2], 10),
    "dim of no whole chunk": ([12, 30], [6, 7], 101),
}

# Storage of regions, storage of words, largest error. The product of equal inputs, accumulated in another order, is all
# that differs for equal dtypes. Words of another dtype are rounded to that of the regions first.
PRODUCTS = [
    (torch.float32, torch.float32, 3e-6),
    (torch.float16, torch.float16, 1e-5),
    (torch.bfloat16, torch.bfloat16, 1e-5),
    (torch.int8, torch.int8, 1e-5),
    (torch.int8, torch.float16, 1e-5),
    (torch.int8, torch.float32, 1e-3),
    (torch.float16, torch.float32, 1e-3),
    (torch.float32, torch.float16, 1e-5),
    (torch.float16, torch.int8, 1e-3),
    (torch.bfloat16, torch.float32, 1e-2),
]


def ragged(lengths: list[int], dim: int, seed: int, dtype: torch.dtype = torch.float32) -> ops.Ragged:
    """Unit rows with a common direction, so that cosines differ in sign and size."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(lengths), dim, generator=generator) + 0.5 * torch.ones(dim)
    rows = torch.nn.functional.normalize(rows, dim=1)
    made = ops.Ragged(rows, torch.tensor([0, *itertools.accumulate(lengths)]))
    return ops.quantise(made) if dtype == torch.int8 else made.to(dtype=dtype)


def candidate_lists(n_texts: int, n_images: int, k: int, seed: int) -> torch.Tensor:
    """Ids with repeats and some -1."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(-1, n_images, (n_texts, k), generator=generator)
    ids[0, 0] = -1
    return ids
