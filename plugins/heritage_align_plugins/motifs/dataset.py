"""The motif collection, built from a pipeline's configuration."""

from __future__ import annotations

from heritage_align.data import Motifs
from heritage_align.plugin import BuildContext
from heritage_align_plugins.motifs.config import MotifsConfig


class MotifsDataset(Motifs):
    """The motif collection as a component; see `heritage_align.data.Motifs`."""

    def __init__(self, config: MotifsConfig, context: BuildContext) -> None:
        super().__init__(
            split=config.split,
            artworks=config.artworks,
            variants=config.variants,
            size=config.size,
            languages=("zh", "en") if config.language == "both" else (config.language,),
            domain=config.domain,
            noise=config.noise,
            seed=config.seed,
        )
