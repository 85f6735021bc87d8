"""Region features in numpy's files, one or one an image."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from heritage_align.data.region_features import feature_dim, read_region_features
from heritage_align.errors import DataError

PADDED = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
FLAT = PADDED.reshape(6, 4)[[0, 3, 4, 5]]
BOXES = np.array([[0, 0, 40, 20], [10, 10, 20, 20], [0, 5, 20, 20], [0, 0, 10, 10]], dtype=np.float32)


def save(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def one(path: Path, **change: Any) -> Path:
    arrays = {"ids": ["a", "b"], "features": FLAT, "offsets": [0, 1, 4]}
    return save(path, **{**arrays, **change})


def test_end_to_end_and_padded_are_the_same(tmp_path: Path) -> None:
    flat = read_region_features(one(tmp_path / "flat.npz", objectness=[0.1, 0.2, 0.3, 0.4]))
    padded = read_region_features(
        save(
            tmp_path / "padded.npz",
            image_ids=np.array([b"a", b"b"]),
            x=PADDED,
            num_boxes=[1, 3],
            scores=np.array([[0.1, 9, 9], [0.2, 0.3, 0.4]]),
        )
    )
    for name in ("ids", "offsets", "values", "boxes", "objectness"):
        np.testing.assert_array_equal(getattr(padded, name), getattr(flat, name))
    assert flat.ids == ("a", "b")
    assert flat.values.tolist() == FLAT.tolist()
    assert flat.boxes.tolist() == [[0, 0, 1, 1]] * 4
    assert feature_dim(tmp_path / "flat.npz") == feature_dim(tmp_path / "padded.npz") == 4


def test_all_may_have_as_many(tmp_path: Path) -> None:
    features = read_region_features(save(tmp_path / "f.npz", ids=[7, 8], values=PADDED.astype(np.float64)))
    assert features.ids == ("7", "8")
    assert features.offsets.tolist() == [0, 3, 6]
    assert features.values.dtype == np.float32


def test_pixels_need_the_pictures_sizes(tmp_path: Path) -> None:
    features = read_region_features(one(tmp_path / "f.npz", boxes=BOXES, image_w=[40, 20], image_h=[20, 20]))
    assert features.boxes.tolist() == [[0, 0, 1, 1], [0.5, 0.5, 1, 1], [0, 0.25, 1, 1], [0, 0, 0.5, 0.5]]
    with pytest.raises(DataError, match="image 'a', region 0: box .* is no box within its picture"):
        read_region_features(one(tmp_path / "g.npz", boxes=BOXES))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": None}, "has no array 'ids'"),
        ({"ids": [["a", "b"]]}, "has no array 'ids'"),
        ({"ids": [1.5, 2.5]}, "'ids' hold float64, expected strings or integers"),
        ({"ids": np.array(["a", 1], dtype=object)}, "'ids' holds Python objects"),
        ({"ids": ["a", "a"]}, "image id 'a' occurs twice"),
        ({"features": None}, "has no array of features; known names: features, values, x"),
        ({"features": FLAT.astype(np.int32)}, "features hold int32, expected floating numbers"),
        ({"features": FLAT[0]}, r"features have shape \(4,\); two dimensions need 'offsets'"),
        ({"offsets": None}, r"features have shape \(4, 4\); two dimensions need 'offsets'"),
        ({"offsets": [0, 5, 4]}, "'offsets' do not ascend: 5 is followed by 4"),
        ({"offsets": [0.0, 1, 4]}, "'offsets' is float64"),
        ({"features": PADDED, "lengths": [1, 4]}, "'lengths' must be 2 integers from 0 to 3"),
        ({"features": PADDED, "lengths": [1]}, "'lengths' must be 2 integers"),
        ({"features": PADDED[:1]}, r"'features' has shape \(1, 3, 4\), expected \(2, 3\) first"),
        ({"features": PADDED, "boxes": BOXES}, r"'boxes' has shape \(4, 4\), expected \(2, 3\) first"),
        ({"boxes": BOXES[:2], "image_w": [40, 20], "image_h": [20, 20]}, r"'boxes' has shape \(2, 4\)"),
        ({"boxes": BOXES, "image_w": [40], "image_h": [20, 20]}, "'image_w' and 'image_h' must have one number"),
        ({"boxes": BOXES, "image_w": [40, 5], "image_h": [20, 20]}, "image 'b': box .* reaches beyond its picture"),
        ({"boxes": BOXES, "image_w": [40, 0], "image_h": [20, 20]}, "image 'b': a picture of 0 x 20 pixels"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"f\.npz: {reason}"):
        read_region_features(one(tmp_path / "f.npz", **change))


def image(path: Path, rows: int = 2, **change: Any) -> Path:
    """Write what bottom-up-attention.pytorch writes for an image, its pickled remarks included."""
    arrays = {
        "x": np.full((rows, 3), rows, dtype=np.float32),
        "bbox": BOXES[:rows],
        "num_bbox": rows,
        "image_h": 20,
        "image_w": 40,
        "info": {"objects_conf": [1.0]},
    }
    return save(path, **{**arrays, **change})


def test_a_folder_with_a_file_an_image(tmp_path: Path) -> None:
    image(tmp_path / "b.npz", 1)
    image(tmp_path / "a" / "2.jpg.npz", 4)
    features = read_region_features(tmp_path)
    assert features.ids == ("a/2.jpg", "b")
    assert features.offsets.tolist() == [0, 4, 5]
    assert features.values[:, 0].tolist() == [4, 4, 4, 4, 1]
    assert features.boxes[4].tolist() == [0, 0, 1, 1]
    assert features.objectness is None
    assert feature_dim(tmp_path) == 3


def test_rows_beyond_the_declared_number_are_padding(tmp_path: Path) -> None:
    image(tmp_path / "a.npz", 3, num_bbox=2, scores=np.array([0.5, 0.25, 0]))
    features = read_region_features(tmp_path)
    assert features.offsets.tolist() == [0, 2]
    assert features.objectness is not None
    assert features.objectness.tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": None}, "has no array of features"),
        ({"x": np.ones((2, 5), dtype=np.float32)}, r"features have shape \(2, 5\), expected \(n_regions, 3\)"),
        ({"x": np.ones(3, dtype=np.float32)}, r"features have shape \(3,\)"),
        ({"num_bbox": 9}, "lengths must be one number from 0 to 2"),
        ({"bbox": BOXES[:1]}, r"boxes are float32 \(1, 4\), expected floating numbers \(2, 4\)"),
        ({"bbox": BOXES[:2].astype(int)}, "boxes are int64"),
        ({"image_w": None}, "image_w must be one number"),
        ({"image_w": 7}, "reaches beyond its picture of 7 x 20"),
        ({"image_h": [1, 2]}, "image_h must be one number"),
        ({"x": np.ones((7, 0), dtype=np.float32)}, r"'features' is float32 \(7, 0\), rows without content"),
    ],
)
def test_files_at_fault_are_named(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    image(tmp_path / "a.npz")
    image(tmp_path / "c" / "b.npz", **change)
    with pytest.raises(DataError, match=rf"1 problem\n  c/b\.npz: .*{reason}"):
        read_region_features(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04", r"is no \.npz archive, or not a whole one"),
        (b"\x80\x04N.", r"is no \.npz archive, or not a whole one"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
    ],
)
def test_what_is_no_archive_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    path.write_bytes(content)
    for read in (read_region_features, feature_dim):
        with pytest.raises(DataError, match=rf"f\.npz: {said}"):
            read(path)


@pytest.mark.parametrize("name", ["ids", "features"])
def test_an_array_of_objects_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    """Ids out of a table of pandas are objects."""
    values = np.array(["a", "b"], dtype=object) if name == "ids" else np.array([[None] * 4] * 4, dtype=object)
    with pytest.raises(DataError, match=rf"f\.npz: '{name}' holds Python objects.*numpy\.asarray\({name}\.tolist"):
        read_region_features(one(tmp_path / "f.npz", **{name: values}))


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_one_error(tmp_path: Path) -> None:
    signs = np.array([1e300, -1e300, 1e300, -1e300])[:, None]
    features = read_region_features(one(tmp_path / "f.npz", features=(FLAT.astype(np.float64) + 1) * signs))
    with pytest.raises(DataError, match="image 'a', region 0: features are NaN or infinite"):
        features.select(["a", "b"])


def member(dtype: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """An array whose header says what it wants."""
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("features", b"no array", "'features' is no array"),
        ("ids", b"no array", "'ids' is no array"),
        # Without a byte for each, 10^9 rows are claimed by a file of some hundred.
        ("features", member("<f4", (10**9, 0)), r"'features' is float32 \(1000000000, 0\), rows without content"),
        ("features", member("<f4", (1, 10**9, 0)), "'features' is float32 .* rows without content"),
        ("ids", member("<U0", (10**9,)), "'ids' is <U0 .* rows without content"),
        (
            "features",
            member("<f4", (1, 10**9), b"few"),
            "'features' is not whole: float32 .* are 4000000000 bytes",
        ),
        ("offsets", member("<i8", (10**5,)), r"'offsets' is not whole: int64 \(100000,\) are 800000 bytes, there are"),
        ("ids", member("<U1", (2,), b"\xff\xff\xff\x7f" * 2), "'ids' are no texts"),
    ],
)
def test_arrays_that_claim_what_cannot_be(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = one(tmp_path / "whole.npz")
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        for known in whole.namelist():
            archive.writestr(known, content if known == f"{name}.npy" else whole.read(known))
    with pytest.raises(DataError, match=rf"f\.npz: {reason}"):
        read_region_features(tmp_path / "f.npz")
