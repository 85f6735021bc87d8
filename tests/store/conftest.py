"""A collection of pictures in a folder, which tests change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[[Path, str, int], None]


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Return a function that writes a picture of noise: folder, file name, seed of the noise."""

    def write(folder: Path, name: str, seed: int) -> None:
        pixels = np.random.default_rng(seed).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)

    return write


@pytest.fixture
def folder(tmp_path: Path, draw: Draw) -> Path:
    """Nine pictures."""
    folder = tmp_path / "collection"
    folder.mkdir()
    for number in range(9):
        draw(folder, f"p{number}.png", number)
    return folder
