"""A picture and two small detectors that several modules share."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="package")
def picture() -> Image.Image:
    """A landscape picture of coloured blocks, 130 x 90."""
    blocks = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((130, 90), Image.Resampling.NEAREST)
