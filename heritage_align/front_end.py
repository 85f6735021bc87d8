"""The front end of a pipeline: what makes features of pictures and texts, before anything is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import yaml

from heritage_align.config import Component, Config
from heritage_align.encoding import ImageSource, ImageStage, encode_images
from heritage_align.encoding.preparation import preparation_for
from heritage_align.encoding.sources import OnError
from heritage_align.encoding.stage import Masks
from heritage_align.encoding.stream import mask_images
from heritage_align.errors import ConfigError, HeritageAlignError, ImageError
from heritage_align.identity import identity_of
from heritage_align.planning import gives, takes_features
from heritage_align.plugins import Registry
from heritage_align.protocols import BuildContext, Encoder, FeatureReader, Filter, Fragmenter, Proposer
from heritage_align.types import ImageFeatures


class FrontEnd:
    """Encoders, proposer, filters and fragmenter of a configuration, built alike for a pipeline and for training.

    Attributes:
        config: the resolved configuration.
        context: device, precision and seed, and the image encoder.
        encoder: of images.
        proposer, filters, fragmenter: None, or empty, where not configured.
        attention: what the filters hand to the similarity.
        takes_features: the proposer gives the regions' features; no pixel is encoded.
        as_given: such features are handed on as they are; the encoder projects them otherwise.
        factors: whether the regions' triangular factors are computed.
        stage: from pictures to features.
    """

    def __init__(
        self,
        config: Config,
        context: BuildContext,
        registry: Registry,
        *,
        models: tuple[Encoder, Encoder] | None = None,
        factors: bool = False,
        as_given: bool = False,
    ) -> None:
        """Build the components.

        Args:
            config: whose.
            context: device, precision, seed.
            registry: of plugins.
            models: image and text encoder, built already.
            factors: whether the regions' triangular factors are computed.
            as_given: hand features on as the proposer gives them.
        """
        self._registry, self._models = registry, models
        self.config = config
        self.encoder: Encoder = models[0] if models else build_component(config.encoder, context, registry)
        self.context = context = replace(context, encoder=self.encoder)
        self.proposer: Proposer | None = self._build(config.proposer) if config.proposer else None
        self.filters: tuple[Filter, ...] = tuple(map(self._build, config.filters))
        self.fragmenter: Fragmenter | None = self._build(config.fragmenter) if config.fragmenter else None
        self.attention: dict[str, Any] = {}
        for step in self.filters:
            self.attention.update(step.attention)
        self.takes_features = takes_features(config)
        self.as_given = as_given and self.takes_features
        self.factors = factors
        self._reads = self.takes_features and isinstance(self.proposer, FeatureReader)
        self.stage = ImageStage(
            self.encoder,
            self.proposer,
            self.filters,
            factors=factors,
            features=self.takes_features,
            as_given=self.as_given,
            pictures=not self._reads or any("keep" in gives(component) for component in config.filters),
            preparation=preparation_for(
                self.encoder, config.runtime.preprocess, context.device, pixels=not self.takes_features
            ),
        )

    @cached_property
    def text_encoder(self) -> Encoder:
        """The encoder of texts: the image encoder where the configuration names no other. Built when first used."""
        if self._models is not None:
            return self._models[1]
        return self._build(self.config.text_encoder) if self.config.text_encoder else self.encoder

    def identity(self) -> dict[str, str]:
        """Say what makes the features of a store (see `Pipeline.identity`)."""
        return identity_of(self, {"features": "as given"} if self.as_given else {})

    def require_pictures(self, sources: Sequence[ImageSource]) -> None:
        """Look for a picture that can be opened, where regions are read from a file and only filters look at pictures.

        Elsewhere nothing is looked for: what cannot be read is then named by whoever reads it.

        Raises:
            ConfigError: there is none; names each filter, the array of the file that would do in its place, and the
                setting that leaves such filters out.
        """
        if not self._reads or not self.stage.pictures or any(map(_opens, sources)):
            return
        faults = []
        others = [component.as_dict() for component in self.config.filters if "keep" not in gives(component)]
        without = yaml.safe_dump(others, default_flow_style=True, sort_keys=False, width=1000).strip()
        for component in self.config.filters:
            if "keep" in gives(component):
                instead = " or ".join(map(repr, component.settings.facts().stored))
                wanted = f"pictures, or a file of region features with array {instead}" if instead else "pictures"
                name = component.spec.name
                faults.append(
                    f"{component.place}.name: {name!r} needs {wanted}; not one picture can be opened. "
                    f"To do without: --set 'filters={without}'"
                )
        raise ConfigError(faults, self.config.source)

    def encode_stream(
        self, sources: Iterable[ImageSource], *, on_error: OnError, factors: bool = True
    ) -> Iterator[ImageFeatures]:
        """Encode pictures batch by batch in the order of the sources (see `Pipeline.encode_stream`)."""
        runtime = self.config.runtime
        stage = self.stage if factors else replace(self.stage, factors=False)
        return encode_images(
            stage, sources, batch_size=runtime.batch_size, workers=runtime.threads(), on_error=on_error
        )

    def mask_stream(self, sources: Iterable[ImageSource], *, on_error: OnError) -> Iterator[Masks]:
        """Say batch by batch which regions are kept; pictures are decoded, and nothing is encoded."""
        runtime = self.config.runtime
        return mask_images(
            self.stage, sources, batch_size=runtime.batch_size, workers=runtime.threads(), on_error=on_error
        )

    def _build(self, component: Component) -> Any:
        return build_component(component, self.context, self._registry)


def _opens(source: ImageSource) -> bool:
    try:
        source.load()
    except ImageError:
        return False
    return True


def build_component(component: Component, context: BuildContext, registry: Registry) -> Any:
    """Import and build a component and, before it, the ones that it names (`BuildContext.nested`).

    Raises:
        ConfigError: a setting does not suit the model or the file that it is for, which a component says as ValueError.
    """
    nested = {place: build_component(inner, context, registry) for place, inner in component.nested.items()}
    target: Callable[..., Any] = registry.target(component.spec)
    try:
        return target(component.settings, replace(context, nested=nested))
    except HeritageAlignError:  # DataError is a ValueError
        raise
    except ValueError as error:
        raise ConfigError([f"{component.spec.kind}: {error}"], component.spec.name) from error
