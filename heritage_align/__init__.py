"""Score images against texts at the level of regions and phrases.

Importing this package is cheap: it loads neither torch nor any plugin's library. Names below are imported when
first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "CommandSpec": "heritage_align.hookspecs",
    "ComponentSpec": "heritage_align.hookspecs",
    "hookimpl": "heritage_align.hookspecs",
    "Hit": "heritage_align.types",
    "ImageFeatures": "heritage_align.types",
    "Regions": "heritage_align.types",
    "Run": "heritage_align.types",
    "TextFeatures": "heritage_align.types",
    "TextItem": "heritage_align.types",
    "Pipeline": "heritage_align.pipeline",
    "load_config": "heritage_align.config",
    "load_recipe": "heritage_align.recipes",
}

__all__ = [
    "CommandSpec",
    "ComponentSpec",
    "Hit",
    "ImageFeatures",
    "Pipeline",
    "Regions",
    "Run",
    "TextFeatures",
    "TextItem",
    "__version__",
    "hookimpl",
    "load_config",
    "load_recipe",
]

if TYPE_CHECKING:
    from heritage_align.config import load_config
    from heritage_align.hookspecs import CommandSpec, ComponentSpec, hookimpl
    from heritage_align.pipeline import Pipeline
    from heritage_align.recipes import load_recipe
    from heritage_align.types import Hit, ImageFeatures, Regions, Run, TextFeatures, TextItem


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
