"""Fixtures for tests of plugins; pytest loads this module in every session, so it imports pytest and no
more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from PIL.Image import Image

    from heritage_align.plugins import Registry
    from heritage_align.types import ImageFeatures, Regions, TextFeatures, TextItem


@pytest.fixture
def ha_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The built-in components alone, strictly: no other installed plugin is loaded, and a broken one raises.

    It is also what `default_registry` returns during the test. Add your own plugin with
    ``ha_registry.add(PluginInfo("mine", "my_plugin", "tests"), my_plugin)``.
    """
    from heritage_align import plugins

    monkeypatch.setenv("HERITAGE_ALIGN_PLUGINS", "")
    monkeypatch.setenv("HERITAGE_ALIGN_STRICT", "1")
    monkeypatch.delenv("HERITAGE_ALIGN_DISABLE_PLUGINS", raising=False)
    plugins.default_registry.cache_clear()
    yield plugins.default_registry()
    plugins.default_registry.cache_clear()


@pytest.fixture
def ha_images() -> dict[str, Image]:
    """Small RGB pictures by what is special about them: pattern, noise, flat, pixel (1 x 1), wide, tall."""
    from heritage_align.testing import samples

    return samples.images()


@pytest.fixture
def ha_regions(ha_images: dict[str, Image]) -> dict[str, Regions]:
    """Boxes of those pictures: the whole, its quarters, one pixel."""
    from heritage_align.testing import samples

    return {name: samples.regions_of(picture) for name, picture in ha_images.items()}


@pytest.fixture
def ha_texts() -> tuple[TextItem, ...]:
    """Captions in Chinese and English, one of one character."""
    from heritage_align.testing import samples

    return samples.TEXTS


@pytest.fixture
def ha_image_features() -> ImageFeatures:
    """Features of four images with 3, 1, 6 and 2 regions in 8 dimensions."""
    from heritage_align.testing import samples

    return samples.image_features()


@pytest.fixture
def ha_text_features() -> TextFeatures:
    """Features of three texts with 2, 1 and 4 fragments in 8 dimensions."""
    from heritage_align.testing import samples

    return samples.text_features()
