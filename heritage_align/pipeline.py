"""A pipeline: plan, check, then build the components of a configuration and run images and texts through them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.config import Config, load_config, resolve_component
from heritage_align.encoding import encode_texts
from heritage_align.encoding.sources import ImageSource, OnError, dataset_sources
from heritage_align.encoding.stage import Masks
from heritage_align.errors import ConfigError, Note
from heritage_align.front_end import FrontEnd, build_component
from heritage_align.identity import digest_of, folding_settings, identity_of, shaping_settings, text_settings
from heritage_align.planning import gives, missing_pieces, needs, plan
from heritage_align.plugins import Registry, default_registry
from heritage_align.protocols import (
    BuildContext,
    Dataset,
    DetailReranker,
    Encoder,
    Executor,
    Index,
    KeptIndex,
    Reranker,
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
        self.factors = "image.factor?" in needs(config.similarity)
        self._front = front = FrontEnd(config, context, self._registry, models=models, factors=self.factors)
        self.encoder, self.text_encoder = front.encoder, front.text_encoder
        if self.text_encoder.dim != self.encoder.dim:
            # The plan compares what the settings promise; only the loaded weights tell the rest.
            fault = f"text_encoder: has {self.text_encoder.dim} dimensions, encoder has {self.encoder.dim}"
            raise ConfigError([fault], config.source)
        self.proposer, self.filters, self.fragmenter = front.proposer, front.filters, front.fragmenter
        context = replace(front.context, attention=front.attention)
        self.similarity: Similarity = build_component(config.similarity, context, self._registry)
        self.index: Index = build_component(config.index, front.context, self._registry)
        self._context = front.context
        self.preparation = front.stage.preparation

    @cached_property
    def block_index(self) -> Index:
        """What searches blocks as they come, such as regions: `index`, or where that one is kept the default one."""
        if not isinstance(self.index, KeptIndex):
            return self.index
        default = {"name": self._registry.of_role("index", "default")}
        component = resolve_component("index", default, self._registry)
        index: Index = build_component(component, self._front.context, self._registry)
        return index

    @classmethod
    def from_config(cls, source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Pipeline:
        """Load a configuration (file or mapping) and build it."""
        return cls(load_config(source, overrides))

    def at_seed(self, seed: int) -> Pipeline:
        """Return this pipeline at another seed: regions are drawn again, the encoders are the same objects."""
        runtime = self.config.runtime.model_copy(update={"seed": seed})
        config = replace(self.config, runtime=runtime)
        return Pipeline(config, self._registry, models=(self.encoder, self.text_encoder))

    @cached_property
    def executor(self) -> Executor:
        """Where collections are encoded and stores searched. Built when first used: who does its work needs none."""
        executor: Executor = build_component(self.config.executor, self._context, self._registry)
        return executor

    def identity(self) -> dict[str, str]:
        """Say what made the features of a store.

        Returns:
            ``encoder``: fingerprint of model and weights; ``image_config``: digest of everything else that shapes
            what a store holds (regions, their mask, folded vectors); ``settings``: that itself, as JSON; ``config``:
            digest of the whole configuration. Scores that differ only in how they compare (SCAN, BFAN, late
            interaction), and settings of texts alone, share a store.
        """
        return identity_of(self, {"folding similarity": folding_settings(self.config.similarity)})

    def features_key(self, *, masked: bool = True) -> str:
        """Return a digest of what shapes the features of images before any score: encoder, regions, mask, seed.

        Args:
            masked: False leaves the mask out.
        """
        settings = shaping_settings(self)
        return digest_of(settings if masked else {**settings, "filters": []})

    def texts_key(self) -> str:
        """Return a digest of what shapes the features of texts: text encoder and fragmenter."""
        return digest_of(text_settings(self))

    @cached_property
    def reranker(self) -> Reranker | DetailReranker | None:
        """What looks at the best answers of a search, None where not configured. Built when first used: an index needs
        none."""
        if self.config.last is None:
            return None
        reranker: Reranker | DetailReranker = build_component(self.config.last, self._front.context, self._registry)
        return reranker

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
        stream = self._front.encode_stream(sources, on_error=on_error, factors=factors)
        start, count = time.perf_counter(), 0
        for features in stream:
            count += len(features)
            features.folded = self.similarity.fold(features)
            yield features
        self.finished("encode", count, time.perf_counter() - start)

    @property
    def opens_pictures(self) -> bool:
        """Whether pictures are opened to encode them; without, regions and their features are looked up by id."""
        return self._front.stage.pictures

    @property
    def masks_regions(self) -> bool:
        """Whether a filter masks regions: features are then those of the same pipeline without it, but for the mask."""
        return any("keep" in gives(component) for component in self.config.filters)

    def mask_stream(self, sources: Iterable[ImageSource], *, on_error: OnError) -> Iterator[Masks]:
        """Say batch by batch which regions the filters keep (see `FrontEnd.mask_stream`)."""
        return self._front.mask_stream(sources, on_error=on_error)

    def require_pictures(self, sources: Sequence[ImageSource]) -> None:
        """Refuse filters that look at pictures where none can be opened (see `FrontEnd.require_pictures`)."""
        self._front.require_pictures(sources)

    def encode_images(self, images: Sequence[Image], ids: Sequence[str]) -> ImageFeatures:
        """Encode decoded RGB pictures; returns features in their order."""
        if len(images) != len(ids):
            raise ValueError(f"images and ids: expected as many of both, got {len(images)} and {len(ids)}")
        if not images:
            raise ValueError("images: there is nothing to encode")
        with ThreadPoolExecutor(self.config.runtime.threads()) as pool:
            pictures = list(pool.map(self._front.stage.prepare, images))
            features = self._front.stage.encode(pictures, ids, pool, self.config.runtime.batch_size)
        features.folded = self.similarity.fold(features)
        return features

    def encode_texts(self, items: Sequence[TextItem]) -> TextFeatures:
        """Encode texts and, with a fragmenter, their fragments; raises DataError that names a blank text."""
        place = "text_encoder" if self.config.text_encoder is not None else "encoder"
        size = self.config.runtime.batch_size
        return encode_texts(self.text_encoder, self.fragmenter, items, batch_size=size, place=place)

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Score with the configured similarity (see `protocols.Similarity.score`)."""
        return self.similarity.score(images, texts, candidates)

    def finished(self, stage: str, items: int, seconds: float) -> None:
        """Tell plugins that observe stages; their faults cost a warning, not the work."""
        try:
            self._registry.manager.hook.heritage_align_stage_finished(stage=stage, items=items, seconds=seconds)
        except Exception as error:  # an observer's fault must not cost hours of encoding
            warnings.warn(f"a plugin failed to observe stage {stage!r}: {error!r}", Note, stacklevel=2)


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


__all__ = ["ImageSource", "Pipeline", "build_component", "build_dataset", "dataset_sources", "resolve_device"]
