"""The pickles of detectron2's model zoo, without detectron2."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from heritage_align_plugins.faster_rcnn.weights import read_arrays

from heritage_align.errors import CheckpointError


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_come_out(protocol: int, tmp_path: Path) -> None:
    weights = {"model": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.float64(0.5)}, "author": "x"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(weights, protocol))
    found = read_arrays(tmp_path / "w.pkl")
    assert found["model"]["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found["model"]["step"], found["author"]) == (0.5, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}r" + (2**28).to_bytes(4, "little") + b".",  # number 2^28 of what is kept: a list of 4 GB is made
        b"}p268435456\n.",
    ],
)
def test_a_number_of_what_is_kept_beyond_the_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"w\.pkl: cannot be read as weights: refuses to keep a value as"):
        read_arrays(tmp_path / "w.pkl")
