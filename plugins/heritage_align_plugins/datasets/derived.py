"""Data sets made of other data sets: one part of one fold, several as one, parts cut from the pictures."""

from __future__ import annotations

from heritage_align.data import Cropped, Details, Subset, Union, artworks
from heritage_align.evaluation import artwork_folds
from heritage_align.plugin import BuildContext, Dataset
from heritage_align_plugins.datasets.config import CroppedConfig, DetailsConfig, FoldConfig, UnionConfig


class FoldDataset(Subset):
    """The pictures of a part of a fold, with their texts and golden pairs; artworks are never split between parts."""

    def __init__(self, config: FoldConfig, context: BuildContext) -> None:
        """Divide the data set; raises DataError where it has too few artworks."""
        whole: Dataset = context.nested["of"]
        folds = artwork_folds(artworks(whole), config.folds, seed=config.seed, validation=config.validation_share)
        ids = getattr(folds[config.fold - 1], config.part)
        super().__init__(whole, ids, f"{whole.name}/fold-{config.fold}-of-{config.folds}/{config.part}")


class UnionDataset(Union):
    """Several data sets as one; see `heritage_align.data.Union`."""

    def __init__(self, config: UnionConfig, context: BuildContext) -> None:
        super().__init__([context.nested[f"of.{number}"] for number in range(len(config.of))])


class DetailsDataset(Details):
    """Details of another data set's pictures; see `heritage_align.data.Details`."""

    def __init__(self, config: DetailsConfig, context: BuildContext) -> None:
        super().__init__(
            context.nested["of"],
            each=config.each,
            spread=config.spread,
            shown=config.shown,
            ground=config.ground,
            seed=config.seed,
            kept_mib=config.kept_mib,
        )


class CroppedDataset(Cropped):
    """Random crops of another data set's pictures; see `heritage_align.data.Cropped`."""

    def __init__(self, config: CroppedConfig, context: BuildContext) -> None:
        super().__init__(
            context.nested["of"], each=config.each, scale=config.scale, seed=config.seed, kept_mib=config.kept_mib
        )
