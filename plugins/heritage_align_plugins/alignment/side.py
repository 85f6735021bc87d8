"""The components of a configuration that make what is trained on: features of pictures, fragments of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heritage_align.encoding import ImageStage
from heritage_align.plugin import (
    BuildContext,
    Config,
    ConfigError,
    DataError,
    Encoder,
    FeatureReader,
    Fragmenter,
    FragmentGrouper,
    Groups,
    Proposer,
    Registry,
    TextItem,
    build_component,
    gives,
    takes_features,
)


@dataclass(frozen=True)
class Side:
    """The components that make features of pictures, and split texts.

    Attributes:
        stage: encoder, proposer, filters.
        fragmenter: None where the configuration has none; a text is then its only fragment.
        raw: the features are the proposer's own, not an encoder's vectors.
    """

    stage: ImageStage
    fragmenter: Fragmenter | None
    raw: bool

    @classmethod
    def of(cls, config: Config, context: BuildContext, registry: Registry) -> Side:
        """Build them from a pipeline's configuration; raises ConfigError where it has no proposer."""
        if config.proposer is None:
            raise ConfigError(["proposer: is missing; training compares regions"], config.source)
        encoder: Encoder = build_component(config.encoder, context, registry)
        context = BuildContext(context.device, context.precision, context.seed, encoder)
        proposer: Proposer = build_component(config.proposer, context, registry)
        filters = tuple(build_component(component, context, registry) for component in config.filters)
        fragmenter = build_component(config.fragmenter, context, registry) if config.fragmenter is not None else None
        raw = takes_features(config)
        masked = any("keep" in gives(component) for component in config.filters)
        pictures = not (raw and isinstance(proposer, FeatureReader)) or masked
        return cls(ImageStage(encoder, proposer, filters, features=raw, pictures=pictures), fragmenter, raw)

    def fragments(self, items: Sequence[TextItem]) -> list[tuple[str, ...]]:
        """Split texts; raises DataError that names the first ones without a fragment."""
        if self.fragmenter is None:
            return [(item.text,) for item in items]
        split = [self.fragmenter.split(item) for item in items]
        bare = [item.id for item, fragments in zip(items, split) if not fragments]
        if bare:
            names = ", ".join(map(repr, bare[:3]))
            raise DataError(f"{len(bare)} texts have no fragment, the first: {names}; look at the fragmenter")
        return split

    def groups(self, fragments: Sequence[Sequence[str]]) -> tuple[Groups, ...] | None:
        """Return the groups of every text's fragments; None where every fragment is on its own."""
        if not isinstance(self.fragmenter, FragmentGrouper):
            return None
        groups = tuple(self.fragmenter.groups(split) for split in fragments)
        shared = any(len(of_text) < len(split) for of_text, split in zip(groups, fragments))
        return groups if shared else None
