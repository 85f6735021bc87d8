"""The fixtures that plugin authors get from the pytest entry point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from heritage_align_plugins import PLUGINS

from heritage_align.errors import PluginError
from heritage_align.plugins import PluginInfo, Registry, default_registry, discover

if TYPE_CHECKING:
    from PIL.Image import Image

    from heritage_align.types import ImageFeatures, Regions, TextFeatures, TextItem


@pytest.fixture
def another_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken third-party plugin that is installed beside the one under test."""
    (tmp_path / "somebody_elses.py").write_text("raise RuntimeError('not my fault')\n")
    info = tmp_path / "somebody_elses-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody-elses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[heritage_align]\nsomebody_elses = somebody_elses\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("another_plugin")
def test_the_registry_loads_no_other_installed_plugin(ha_registry: Registry) -> None:
    states = {plugin.name: plugin.state for plugin in ha_registry.plugins}
    assert states.pop("somebody_elses") == "disabled"
    assert states == dict.fromkeys(PLUGINS, "ok")
    assert default_registry() is ha_registry


@pytest.mark.usefixtures("another_plugin")
def test_without_it_the_other_plugin_is_found_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HERITAGE_ALIGN_PLUGINS", raising=False)
    assert {p.name: p.state for p in discover().plugins}["somebody_elses"] == "broken"


def test_the_registry_is_strict(ha_registry: Registry) -> None:
    class Broken:
        def __dir__(self) -> list[str]:
            raise OSError("cannot be looked at")

    with pytest.raises(PluginError, match=r"plugin 'broken' is broken: OSError"):
        ha_registry.add(PluginInfo("broken", "broken", "tests"), Broken())


def test_the_process_gets_its_own_registry_back() -> None:
    before = default_registry()
    assert before is default_registry()
    assert "given" not in {plugin.name for plugin in before.plugins}


def test_pictures_are_rgb_and_cover_the_extremes(ha_images: dict[str, Image], ha_regions: dict[str, Regions]) -> None:
    assert {picture.mode for picture in ha_images.values()} == {"RGB"}
    assert ha_images["pixel"].size == (1, 1)
    ratios = [picture.width / picture.height for picture in ha_images.values()]
    assert min(ratios) < 1 / 50
    assert max(ratios) > 50
    for name, picture in ha_images.items():
        x0, y0, x1, y1 = ha_regions[name].boxes.T
        assert bool(((x0 >= 0) & (x0 < x1) & (x1 <= picture.width)).all())
        assert bool(((y0 >= 0) & (y0 < y1) & (y1 <= picture.height)).all())


def test_features_have_the_shapes_that_are_promised(
    ha_image_features: ImageFeatures, ha_text_features: TextFeatures, ha_texts: tuple[TextItem, ...]
) -> None:
    assert ha_image_features.regions is not None
    assert ha_image_features.regions.lengths.tolist() == [3, 1, 6, 2]
    assert ha_text_features.fragments is not None
    assert ha_text_features.fragments.lengths.tolist() == [2, 1, 4]
    assert ha_image_features.global_features.shape == (4, 8)
    assert {item.language for item in ha_texts} >= {"zh", "en"}
