"""Tiny FG-CLIP checkpoints in the published layout, and the encoder built around them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the optional extra 'transformers' is not installed")
sys.path.insert(0, str(Path(__file__).parent))

import tiny
from heritage_align_plugins.fg_clip.config import FgClipConfig
from heritage_align_plugins.fg_clip.encoder import FgClipEncoder

from heritage_align.protocols import BuildContext


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fg_clip")
    return {generation: tiny.save(generation, root / generation) for generation in tiny.CONFIGS}


@pytest.fixture(scope="session")
def build(folders: dict[str, Path]) -> Callable[..., FgClipEncoder]:
    def encoder(generation: str, precision: str = "fp32", **settings: Any) -> FgClipEncoder:
        config = FgClipConfig(model=str(folders[generation]), **settings)
        return FgClipEncoder(config, BuildContext(precision=precision))

    return encoder
