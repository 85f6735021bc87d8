"""What plugins are written with: description, settings, contracts, nouns, errors and helpers, all from one module.

    >>> from heritage_align.plugin import ComponentConfig, ComponentSpec, hookimpl
    >>> @hookimpl
    ... def heritage_align_components():
    ...     return [ComponentSpec("proposer", "halves", target="halves.impl:Halves", config="halves.config:Settings")]
    >>> class Settings(ComponentConfig):
    ...     upright: bool = False
    >>> Settings(upright=True)
    Settings(upright=True)
    >>> heritage_align_components()[0].name
    'halves'

The contracts are versioned: `API_VERSION` is raised when a method of one changes. Importing this module loads no heavy
library; names are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "API_VERSION",
    "ArtworkDataset",
    "BoxFeatures",
    "BuildContext",
    "CanvasDataset",
    "CheckpointError",
    "Component",
    "ComponentConfig",
    "ComponentSpec",
    "Config",
    "ConfigError",
    "DataError",
    "Dataset",
    "DetailReranker",
    "EncodedImages",
    "EncodedRegions",
    "Encoder",
    "Executor",
    "Facts",
    "FeatureEncoder",
    "FeatureReader",
    "Filter",
    "FlexibleEncoder",
    "FloatArray",
    "FragmentEncoder",
    "FragmentGrouper",
    "FragmentedTexts",
    "Fragmenter",
    "GoldenPair",
    "Groups",
    "HealthCheck",
    "HeritageAlignError",
    "ImageError",
    "ImageFeatures",
    "ImageFile",
    "ImageFiles",
    "Index",
    "KeptIndex",
    "KeptSearch",
    "Kind",
    "Match",
    "MissingDependency",
    "ModelPart",
    "ModelSource",
    "Note",
    "PictureSettings",
    "PixelRecipe",
    "PluginError",
    "PluginInfo",
    "ProjectingEncoder",
    "Proposer",
    "ReadingEncoder",
    "RecipeEncoder",
    "RegionEncoder",
    "Regions",
    "Registry",
    "Reranker",
    "RerankerConfig",
    "ShardJob",
    "ShardPart",
    "Similarity",
    "SplitSettings",
    "StoreError",
    "SummedSimilarity",
    "SurroundedEncoder",
    "TextFeatures",
    "TextItem",
    "TextRead",
    "Trainer",
    "UnitedDataset",
    "VersionedPlugin",
    "WholeEncoder",
    "build_component",
    "build_dataset",
    "candidate_images",
    "contents_of",
    "default_registry",
    "did_you_mean",
    "dot",
    "encode_parts",
    "encode_shards_here",
    "file_digest",
    "fitted",
    "gives",
    "hookimpl",
    "indexed_files",
    "leads_outside",
    "load_into",
    "mean_of_groups",
    "moved",
    "needs",
    "numpy_stand_in",
    "read_metadata",
    "read_settings",
    "read_tensors",
    "refusal",
    "refuse_foreign",
    "refuse_not_finite",
    "resolve_component",
    "settled_answers",
    "takes_features",
    "user_path",
    "wait_for_copies",
    "write_atomically",
    "write_parts",
]

if TYPE_CHECKING:
    from heritage_align.answers import settled_answers
    from heritage_align.checkpoints import fitted, load_into, read_tensors, refusal, refuse_not_finite
    from heritage_align.component import ComponentConfig, Facts, RerankerConfig
    from heritage_align.config import Component, Config, resolve_component
    from heritage_align.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        HeritageAlignError,
        ImageError,
        MissingDependency,
        Note,
        PluginError,
        StoreError,
        did_you_mean,
    )
    from heritage_align.features import candidate_images, dot, moved
    from heritage_align.fragment_groups import Groups, mean_of_groups
    from heritage_align.hookspecs import ComponentSpec, HealthCheck, Kind, hookimpl
    from heritage_align.model_source import ModelPart, ModelSource, user_path
    from heritage_align.pipeline import build_component, build_dataset
    from heritage_align.plain_numpy import numpy_stand_in
    from heritage_align.planning import gives, needs, takes_features
    from heritage_align.plugins import PluginInfo, Registry, default_registry
    from heritage_align.protocols import (
        API_VERSION,
        ArtworkDataset,
        BoxFeatures,
        BuildContext,
        CanvasDataset,
        Dataset,
        DetailReranker,
        EncodedImages,
        EncodedRegions,
        Encoder,
        Executor,
        FeatureEncoder,
        FeatureReader,
        Filter,
        FlexibleEncoder,
        FragmentedTexts,
        FragmentEncoder,
        Fragmenter,
        FragmentGrouper,
        ImageFile,
        ImageFiles,
        Index,
        KeptIndex,
        KeptSearch,
        PictureSettings,
        PixelRecipe,
        ProjectingEncoder,
        Proposer,
        ReadingEncoder,
        RecipeEncoder,
        RegionEncoder,
        Reranker,
        Similarity,
        SplitSettings,
        SummedSimilarity,
        SurroundedEncoder,
        TextRead,
        Trainer,
        UnitedDataset,
        VersionedPlugin,
        WholeEncoder,
    )
    from heritage_align.shards import ShardJob, ShardPart, encode_parts, encode_shards_here, write_parts
    from heritage_align.store.contents import contents_of
    from heritage_align.store.files import file_digest, write_atomically
    from heritage_align.store.shard import wait_for_copies
    from heritage_align.types import FloatArray, GoldenPair, ImageFeatures, Match, Regions, TextFeatures, TextItem
    from heritage_align.weight_files import (
        indexed_files,
        leads_outside,
        read_metadata,
        read_settings,
        refuse_foreign,
    )

_PLACES = {
    "heritage_align.answers": ("settled_answers",),
    "heritage_align.checkpoints": ("fitted", "load_into", "read_tensors", "refusal", "refuse_not_finite"),
    "heritage_align.component": ("ComponentConfig", "Facts", "RerankerConfig"),
    "heritage_align.config": ("Component", "Config", "resolve_component"),
    "heritage_align.errors": (
        "CheckpointError",
        "ConfigError",
        "DataError",
        "HeritageAlignError",
        "ImageError",
        "MissingDependency",
        "Note",
        "PluginError",
        "StoreError",
        "did_you_mean",
    ),
    "heritage_align.features": ("candidate_images", "dot", "moved"),
    "heritage_align.fragment_groups": ("Groups", "mean_of_groups"),
    "heritage_align.hookspecs": ("ComponentSpec", "HealthCheck", "Kind", "hookimpl"),
    "heritage_align.model_source": ("ModelPart", "ModelSource", "user_path"),
    "heritage_align.pipeline": ("build_component", "build_dataset"),
    "heritage_align.plain_numpy": ("numpy_stand_in",),
    "heritage_align.planning": ("gives", "needs", "takes_features"),
    "heritage_align.plugins": ("PluginInfo", "Registry", "default_registry"),
    "heritage_align.protocols": (
        "API_VERSION",
        "ArtworkDataset",
        "BoxFeatures",
        "BuildContext",
        "CanvasDataset",
        "Dataset",
        "DetailReranker",
        "EncodedImages",
        "EncodedRegions",
        "Encoder",
        "Executor",
        "FeatureEncoder",
        "FeatureReader",
        "Filter",
        "FlexibleEncoder",
        "FragmentEncoder",
        "FragmentGrouper",
        "FragmentedTexts",
        "Fragmenter",
        "ImageFile",
        "ImageFiles",
        "Index",
        "KeptIndex",
        "KeptSearch",
        "PictureSettings",
        "PixelRecipe",
        "ProjectingEncoder",
        "Proposer",
        "ReadingEncoder",
        "RecipeEncoder",
        "RegionEncoder",
        "Reranker",
        "SurroundedEncoder",
        "Similarity",
        "SplitSettings",
        "SummedSimilarity",
        "TextRead",
        "Trainer",
        "UnitedDataset",
        "VersionedPlugin",
        "WholeEncoder",
    ),
    "heritage_align.shards": ("ShardJob", "ShardPart", "encode_parts", "encode_shards_here", "write_parts"),
    "heritage_align.store.contents": ("contents_of",),
    "heritage_align.store.files": ("file_digest", "write_atomically"),
    "heritage_align.store.shard": ("wait_for_copies",),
    "heritage_align.types": (
        "FloatArray",
        "GoldenPair",
        "ImageFeatures",
        "Match",
        "Regions",
        "TextFeatures",
        "TextItem",
    ),
    "heritage_align.weight_files": (
        "indexed_files",
        "leads_outside",
        "read_metadata",
        "read_settings",
        "refuse_foreign",
    ),
}


if not TYPE_CHECKING:  # a checker would take any name from a module with __getattr__

    def __getattr__(name: str) -> Any:
        from heritage_align.exports import look_up

        return look_up(__name__, name, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
