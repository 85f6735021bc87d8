"""Fused scores of ragged images against ragged texts. Needs torch and numpy, nothing else of this package."""

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
