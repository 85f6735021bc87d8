"""Score images against texts at the level of regions and phrases.

    >>> from tempfile import TemporaryDirectory
    >>> from heritage_align import Pipeline, Searcher, TextItem, build_index, dataset_sources, load_recipe
    >>> from heritage_align.data import Motifs
    >>> motifs = Motifs("test", artworks=3, variants=1)  # three pictures, drawn on demand
    >>> pipeline = Pipeline(load_recipe("global"))
    >>> folder = TemporaryDirectory()
    >>> build_index(pipeline, list(dataset_sources(motifs)), folder.name).images
    3
    >>> with Searcher.open(pipeline, folder.name) as searcher:
    ...     [hits] = searcher.hits([TextItem("q1", motifs.texts[0].text)], top_k=2)
    >>> hits[0].rank, hits[0].id
    (1, 'test-00000-0')

Importing this package is cheap: it loads neither torch nor any plugin's library. Names below are imported when
first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "BuildReport",
    "CommandSpec",
    "ComponentSpec",
    "Config",
    "GoldenPair",
    "HeritageAlignError",
    "Hit",
    "ImageFeatures",
    "ImageSource",
    "Pipeline",
    "Regions",
    "Run",
    "Searcher",
    "Store",
    "TextFeatures",
    "TextItem",
    "UpdateReport",
    "__version__",
    "build_index",
    "dataset_sources",
    "hookimpl",
    "load_config",
    "load_recipe",
    "recipe_names",
    "update_index",
]

if TYPE_CHECKING:
    from heritage_align.config import Config, load_config
    from heritage_align.encoding.sources import ImageSource
    from heritage_align.errors import HeritageAlignError
    from heritage_align.hookspecs import CommandSpec, ComponentSpec, hookimpl
    from heritage_align.indexing import BuildReport, build_index
    from heritage_align.pipeline import Pipeline, dataset_sources
    from heritage_align.recipes import load_recipe, recipe_names
    from heritage_align.search.searcher import Searcher
    from heritage_align.store.reader import Store
    from heritage_align.types import GoldenPair, Hit, ImageFeatures, Regions, Run, TextFeatures, TextItem
    from heritage_align.updating import UpdateReport, update_index

_PLACES = {
    "heritage_align.config": ("Config", "load_config"),
    "heritage_align.encoding.sources": ("ImageSource",),
    "heritage_align.errors": ("HeritageAlignError",),
    "heritage_align.hookspecs": ("CommandSpec", "ComponentSpec", "hookimpl"),
    "heritage_align.indexing": ("BuildReport", "build_index"),
    "heritage_align.pipeline": ("Pipeline", "dataset_sources"),
    "heritage_align.recipes": ("load_recipe", "recipe_names"),
    "heritage_align.search.searcher": ("Searcher",),
    "heritage_align.store.reader": ("Store",),
    "heritage_align.types": ("GoldenPair", "Hit", "ImageFeatures", "Regions", "Run", "TextFeatures", "TextItem"),
    "heritage_align.updating": ("UpdateReport", "update_index"),
}


if not TYPE_CHECKING:  # a checker would take any name from a module with __getattr__

    def __getattr__(name: str) -> Any:
        from heritage_align.exports import look_up

        return look_up(__name__, name, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
