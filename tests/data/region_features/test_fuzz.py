"""Corrupted files come out as a DataError that names them or as features that can be used, never as anything else."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from heritage_align.data.region_features import feature_dim, read_region_features
from heritage_align.errors import DataError

Corrupted = Callable[[bytes, int], st.SearchStrategy[bytes]]
IDS = ["a", "b", "c"]
ARRAYS = {
    "values": np.arange(20, dtype=np.float16).reshape(5, 4),
    "offsets": np.array([0, 2, 2, 5]),
    "boxes": np.full((5, 4), [0.1, 0.1, 0.6, 0.9], dtype=np.float32),
    "objectness": np.linspace(1, 0, 5, dtype=np.float32),
    "global": np.ones((3, 4), dtype=np.float16),
}


def sample(ending: str) -> bytes:
    if ending == ".safetensors":
        return bytes(save(ARRAYS, {"ids": json.dumps(IDS)}))
    if ending == ".npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, ids=np.array(IDS), **ARRAYS)  # type: ignore[arg-type]
        return stream.getvalue()
    lines = []
    for image in IDS:
        numbers = [base64.b64encode(np.full(n, 3, dtype="<f4").tobytes()).decode() for n in (8, 6)]
        lines.append("\t".join([image, "9", "9", "2", *numbers]) + "\n")
    return "".join(lines).encode()


SAMPLES = {ending: sample(ending) for ending in (".safetensors", ".npz", ".tsv")}


def outcome(ending: str, data: bytes) -> str:
    """Read a file with this content by all that reads it; returns what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"broken{ending}"
        path.write_bytes(data)
        try:
            assert feature_dim(path) >= 0
            features = read_region_features(path)
            found = features.select(features.ids, count=2, empty="whole").regions()
        except DataError as error:
            return "refused" if str(error).startswith(str(path)) else f"not named: {error}"
    for regions in found:
        assert regions.features is not None
        assert np.isfinite(regions.features).all()
        assert (regions.boxes[:, 2:] > regions.boxes[:, :2]).all()
    return "read"


@pytest.mark.parametrize("ending", SAMPLES)
def test_the_samples_are_read(ending: str) -> None:
    assert outcome(ending, SAMPLES[ending]) == "read"


@pytest.mark.parametrize("ending", SAMPLES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_corrupted_files_are_refused_or_read(ending: str, data: st.DataObject, corrupted: Corrupted) -> None:
    assert outcome(ending, data.draw(corrupted(SAMPLES[ending], 300))) in ("read", "refused")


@pytest.mark.parametrize("ending", SAMPLES)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_noise_is_refused(ending: str, data: bytes) -> None:
    assert outcome(ending, data) == "refused"


@settings(max_examples=60, deadline=None)
@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["F16", "F32", "I64"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["values", "offsets", "__metadata__", "ids", "dtype", "shape", "data_offsets"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_json_header_is_refused(header: object) -> None:
    text = json.dumps(header).encode()
    assert outcome(".safetensors", len(text).to_bytes(8, "little") + text + bytes(64)) == "refused"
