"""One small split, shared by the tests of the motif collection."""

from __future__ import annotations

import pytest

from heritage_align.data.motifs import Motifs


@pytest.fixture(scope="module")
def motifs() -> Motifs:
    return Motifs("test", artworks=12, variants=4, size=128)
