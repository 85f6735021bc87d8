"""One part of one fold of another data set."""

from __future__ import annotations

from heritage_align.data.subset import Subset, artworks
from heritage_align.evaluation.folds import artwork_folds
from heritage_align.protocols import BuildContext, Dataset
from heritage_align_plugins.datasets.config import FoldConfig


class FoldDataset(Subset):
    """The pictures of a part of a fold, with their texts and golden pairs; artworks are never split between parts."""

    def __init__(self, config: FoldConfig, context: BuildContext) -> None:
        """Divide the data set; raises DataError where it has too few artworks."""
        whole: Dataset = context.nested["of"]
        folds = artwork_folds(artworks(whole), config.folds, seed=config.seed, validation=config.validation_share)
        ids = getattr(folds[config.fold - 1], config.part)
        super().__init__(whole, ids, f"{whole.name}/fold-{config.fold}-of-{config.folds}/{config.part}")
