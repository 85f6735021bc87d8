"""Three images of 2, 0 and 3 regions with everything that a file may hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from heritage_align.data.region_features import RegionFeatures

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def toy() -> RegionFeatures:
    boxes = np.linspace(0, 0.4, 20, dtype=np.float32).reshape(5, 4) + np.array([0, 0, 0.5, 0.5], dtype=np.float32)
    return RegionFeatures(
        "toy",
        ("a/1.jpg", "a/2.jpg", "a/3.jpg"),
        np.array([0, 2, 2, 5]),
        np.arange(20, dtype=np.float16).reshape(5, 4),
        boxes,
        np.array([0.1, 0.9, 0.5, 0.7, 0.5], dtype=np.float32),
        -np.arange(12, dtype=np.float16).reshape(3, 4),
        np.array([0, 2, 5, 1, 2]),
        np.array([True, True, False, True, True]),
    )


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Return a function from the name of a file that is kept outside of the project to its path; it may skip."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"{name} is not here: it is not part of the project")
        return SHARED / name

    return find
