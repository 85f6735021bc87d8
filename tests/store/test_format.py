"""docs/store.md: the reader that is printed there reads what a store holds, and names every tensor there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heritage_align.store import Store
from heritage_align.testing import samples

PAGE = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
COUNTS = (3, 1, 6, 2, 4)


@pytest.fixture(scope="module")
def read_store() -> Callable[[Path], Iterator[tuple[str, Any, Any, Any]]]:
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 27  # imports and docstring among them
    assert "torch" not in code
    names: dict[str, Any] = {}
    exec(code, names)
    found: Callable[[Path], Iterator[tuple[str, Any, Any, Any]]] = names["read_store"]
    return found


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_the_printed_reader_reads_a_store(
    read_store: Callable[[Path], Iterator[tuple[str, Any, Any, Any]]],
    stored: Callable[..., Store],
    tmp_path: Path,
    dtype: str,
) -> None:
    store = stored(samples.image_features(COUNTS), tmp_path / "store", dtype, 2)
    seen = []
    for image_id, whole, regions, boxes in read_store(store.path):
        expected = store.gather(torch.tensor([store.row(image_id)]))
        assert expected.regions is not None
        assert np.array_equal(whole, expected.global_features[0].numpy())
        assert np.array_equal(regions, expected.regions.dequantised().float().numpy())
        assert boxes.shape == (len(regions), 4)
        seen.append(image_id)
    assert tuple(seen) == store.ids


def test_the_page_names_every_tensor(stored: Callable[..., Store], tmp_path: Path) -> None:
    images = samples.image_features(COUNTS)
    keep = torch.ones(sum(COUNTS), dtype=torch.bool)
    keep[1] = False
    full = replace(images, keep=keep)
    store = stored(full, tmp_path / "store", "int8", 5)
    for name in store._shards[0].tensors:
        assert f"`{name}`" in PAGE, name
