"""Runs heritage-align's checks on every component of this plugin, with more than one setting."""

from __future__ import annotations

from typing import Any

import heritage_align_saliency

from heritage_align.plugin import PluginInfo, Registry
from heritage_align.testing import Case, parametrize_with_checks

(SPEC,) = heritage_align_saliency.heritage_align_components()


@parametrize_with_checks([Case.of(SPEC), Case.of(SPEC, {"count": 1, "threshold": 1.5, "whole": False})])
def test_conformance(check: Any) -> None:
    check()


def test_it_registers_beside_the_built_in_components(ha_registry: Registry) -> None:
    ha_registry.add(PluginInfo("saliency", "heritage_align_saliency", "tests"), heritage_align_saliency)
    assert "saliency_boxes" in ha_registry.names("proposer")
