"""A pipeline: plan, check, then build the components of a configuration and run images and texts through them."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.config import Component, Config, load_config
from heritage_align.encoding import ImageSource, ImageStage, encode_images, encode_texts
from heritage_align.encoding.preparation import preparation_for
from heritage_align.encoding.sources import OnError
from heritage_align.errors import ConfigError
from heritage_align.identity import digest_of, folding_settings, shaping_settings, text_settings
from heritage_align.planning import gives, missing_pieces, needs, plan, takes_features
from heritage_align.plugins import Registry, default_registry
from heritage_align.protocols import (
    BuildContext,
    Dataset,
    Encoder,
    FeatureReader,
    Filter,
    Fragmenter,
    Index,
    Proposer,
    Similarity,
)
from heritage_align.types import ImageFeatures, TextFeatures, TextItem


class Pipeline:
    """A configuration with its components built.

    Attributes:
        config: the resolved configuration.
        device: where the models and the similarity work.
        encoder: of images, and of texts where there is no other.
        text_encoder: of texts.
        proposer, filters, fragmenter, similarity, index: the components, None where not configured.
        factors: whether the similarity uses triangular factors of the regions.
        preparation: how pictures and crops become pixels (``runtime.preprocess``).
    """

    def __init__(
        self, config: Config, registry: Registry | None = None, *, models: tuple[Encoder, Encoder] | None = None
    ) -> None:
        """Check the whole plan, then build.

        Args:
            config: the resolved configuration.
            registry: of plugins; by default those that are installed.
            models: image and text encoder, built already; see `at_seed`.

        Raises:
            ConfigError: everything that is wrong with the plan, before any model is loaded.
        """
        plan(config)
        self.config = config
        self._registry = registry or default_registry()
        runtime = config.runtime
        context = BuildContext(resolve_device(runtime.device), runtime.precision, runtime.seed)
        self.device = torch.device(context.device)
        self.encoder: Encoder = models[0] if models else self._build(config.encoder, context)
        context = replace(context, encoder=self.encoder)
        if models:
            self.text_encoder: Encoder = models[1]
        else:
            self.text_encoder = self._build(config.text_encoder, context) if config.text_encoder else self.encoder
        if self.text_encoder.dim != self.encoder.dim:
            # The plan compares what the settings promise; only the loaded weights tell the rest.
            fault = f"text_encoder: has {self.text_encoder.dim} dimensions, encoder has {self.encoder.dim}"
            raise ConfigError([fault], config.source)
        self.proposer: Proposer | None = self._build(config.proposer, context) if config.proposer else None
        self.filters: tuple[Filter, ...] = tuple(self._build(c, context) for c in config.filters)
        self.fragmenter: Fragmenter | None = self._build(config.fragmenter, context) if config.fragmenter else None
        attention: dict[str, Any] = {}
        for step in self.filters:
            attention.update(step.attention)
        self.similarity: Similarity = self._build(config.similarity, replace(context, attention=attention))
        self.index: Index = self._build(config.index, context)
        features = takes_features(config)
        self.factors = "image.factor?" in needs(config.similarity)
        self.preparation = preparation_for(self.encoder, runtime.preprocess, context.device, pixels=not features)
        self._stage = ImageStage(
            self.encoder,
            self.proposer,
            self.filters,
            factors=self.factors,
            features=features,
            pictures=not (features and isinstance(self.proposer, FeatureReader))
            or any("keep" in gives(component) for component in config.filters),
            preparation=self.preparation,
        )

    @classmethod
    def from_config(cls, source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Pipeline:
        """Load a configuration (file or mapping) and build it."""
        return cls(load_config(source, overrides))

    def at_seed(self, seed: int) -> Pipeline:
        """Return this pipeline at another seed: regions are drawn again, the encoders are the same objects."""
        runtime = self.config.runtime.model_copy(update={"seed": seed})
        config = replace(self.config, runtime=runtime)
        return Pipeline(config, self._registry, models=(self.encoder, self.text_encoder))

    def identity(self) -> dict[str, str]:
        """Say what made the features of a store.

        Returns:
            ``encoder``: fingerprint of model and weights; ``image_config``: digest of everything else that shapes
            what a store holds (regions, their mask, folded vectors); ``settings``: that itself, as JSON; ``config``:
            digest of the whole configuration. Scores that differ only in how they compare (SCAN, BFAN, late
            interaction), and settings of texts alone, share a store.
        """
        settings = {**shaping_settings(self), "folding similarity": folding_settings(self.config.similarity)}
        return {
            "encoder": self.encoder.fingerprint(),
            "image_config": digest_of(settings),
            "settings": json.dumps(settings, ensure_ascii=False, sort_keys=True),
            "config": self.config.digest(),
        }

    def features_key(self) -> str:
        """Return a digest of what shapes the features of images before any score: encoder, regions, mask, seed."""
        return digest_of(shaping_settings(self))

    def texts_key(self) -> str:
        """Return a digest of what shapes the features of texts: text encoder and fragmenter."""
        return digest_of(text_settings(self))

    def dataset(self) -> Dataset:
        """Build the data set that the configuration names; raises ConfigError where it names none."""
        return build_dataset(self.config, self._registry)

    def encode_stream(
        self, sources: Iterable[ImageSource], *, on_error: OnError, factors: bool = True
    ) -> Iterator[ImageFeatures]:
        """Encode pictures batch by batch in the order of the sources, decoding the next batch meanwhile.

        Args:
            sources: the pictures.
            on_error: told of each that cannot be read.
            factors: False leaves out the triangular factors, for a store, whose factors are of rounded rows.
        """
        runtime = self.config.runtime
        stage = self._stage if factors else replace(self._stage, factors=False)
        workers = runtime.threads()
        stream = encode_images(stage, sources, batch_size=runtime.batch_size, workers=workers, on_error=on_error)
        start, count = time.perf_counter(), 0
        for features in stream:
            count += len(features)
            features.folded = self.similarity.fold(features)
            yield features
        self.finished("encode", count, time.perf_counter() - start)

    def encode_images(self, images: Sequence[Image], ids: Sequence[str]) -> ImageFeatures:
        """Encode decoded RGB pictures; returns features in their order."""
        if len(images) != len(ids):
            raise ValueError(f"images and ids: expected as many of both, got {len(images)} and {len(ids)}")
        if not images:
            raise ValueError("images: there is nothing to encode")
        with ThreadPoolExecutor(self.config.runtime.threads()) as pool:
            pictures = list(pool.map(self._stage.prepare, images))
            features = self._stage.encode(pictures, ids, pool, self.config.runtime.batch_size)
        features.folded = self.similarity.fold(features)
        return features

    def encode_texts(self, items: Sequence[TextItem]) -> TextFeatures:
        """Encode texts and, with a fragmenter, their fragments; raises DataError that names a blank text."""
        return encode_texts(self.text_encoder, self.fragmenter, items, batch_size=self.config.runtime.batch_size)

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Score with the configured similarity (see `protocols.Similarity.score`)."""
        return self.similarity.score(images, texts, candidates)

    def _build(self, component: Component, context: BuildContext) -> Any:
        return build_component(component, context, self._registry)

    def finished(self, stage: str, items: int, seconds: float) -> None:
        """Tell plugins that observe stages; their faults cost a warning, not the work."""
        try:
            self._registry.manager.hook.heritage_align_stage_finished(stage=stage, items=items, seconds=seconds)
        except Exception as error:  # an observer's fault must not cost hours of encoding
            warnings.warn(f"a plugin failed to observe stage {stage!r}: {error!r}", RuntimeWarning, stacklevel=2)


def build_component(component: Component, context: BuildContext, registry: Registry) -> Any:
    """Import and build a component and, before it, the ones that it names (`BuildContext.nested`)."""
    nested = {place: build_component(inner, context, registry) for place, inner in component.nested.items()}
    target: Callable[..., Any] = registry.target(component.spec)
    return target(component.settings, replace(context, nested=nested))


def resolve_device(name: str) -> str:
    """Return a torch device string; ``"auto"`` takes the GPU where there is one.

    Raises:
        ConfigError: CUDA is asked for and torch has none, or the name is unknown.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError([f"runtime.device: {name!r} is not a torch device"]) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError([f"runtime.device: {name!r}, but torch {torch.__version__} finds no GPU; use cpu or auto"])
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError([f"runtime.device: {name!r}, but there are {torch.cuda.device_count()} GPUs, from cuda:0"])
    return str(device)


def build_dataset(config: Config, registry: Registry | None = None) -> Dataset:
    """Build the data set that a configuration names, without building the rest.

    Raises:
        ConfigError: it names none, or the files that it names are missing.
    """
    if config.data is None:
        fault = "data: is missing; name a data set, for example data: {name: motifs}, or give --data PATH"
        raise ConfigError([fault], config.source)
    faults = list(missing_pieces([config.data]))
    if faults:
        raise ConfigError(faults, config.source)
    dataset: Dataset = build_component(
        config.data, BuildContext(seed=config.runtime.seed), registry or default_registry()
    )
    return dataset


def dataset_sources(dataset: Dataset) -> Iterator[ImageSource]:
    """Return a data set's pictures as sources for `Pipeline.encode_stream`."""
    for image_id in dataset.image_ids:
        yield ImageSource.of(dataset, image_id)


__all__ = ["ImageSource", "Pipeline", "build_component", "build_dataset", "dataset_sources", "resolve_device"]
