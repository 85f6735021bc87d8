"""Fused scores of ragged images against ragged texts. Needs torch and numpy, nothing else of this package.

>>> import torch
>>> from heritage_align import ops
>>> pages = ops.Ragged.from_list([torch.eye(2), torch.tensor([[0.6, 0.8]])])  # two images: 2 regions, 1 region
>>> words = ops.Ragged.from_list([torch.eye(2)])  # one text of two words
>>> ops.maxsim_score(words, pages)  # (n_images, n_texts)
tensor([[2.0000],
        [1.4000]])
>>> ops.patch_weighted_score(torch.tensor([[1.0, 0.0]]), pages, pooling="max")
tensor([[1.0000],
        [0.6000]])
"""

from .build_info import BuildInfo, build_info
from .factor import triangular_factor
from .focal_attention import focal_attention_score
from .folding import fold_patches
from .maxsim import maxsim_score
from .mining import hardest_negative_hinge, mining_scores
from .patch_weighted import patch_weighted_score
from .quantise import quantise
from .ragged import Ragged

__all__ = [
    "BuildInfo",
    "Ragged",
    "build_info",
    "focal_attention_score",
    "fold_patches",
    "hardest_negative_hinge",
    "maxsim_score",
    "mining_scores",
    "patch_weighted_score",
    "quantise",
    "triangular_factor",
]
