"""The safetensors form: what is written is read, real files, broken ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from heritage_align.data.region_features import (
    RegionFeatures,
    feature_dim,
    read_region_features,
    write_region_features,
)
from heritage_align.errors import DataError

Shared = Callable[[str], Path]
IDS = {"ids": json.dumps(["a", "b"])}


def tensors(**change: Any) -> dict[str, Any]:
    made = {"values": np.ones((3, 4), dtype=np.float16), "offsets": np.array([0, 1, 3]), **change}
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_what_is_written_is_read(toy: RegionFeatures, dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    write_region_features(path, toy, dtype=dtype, metadata={"detector": "none"})
    again = read_region_features(path)
    assert (again.ids, again.source, again.dim) == (toy.ids, str(path), 4)
    assert again.values.dtype == (np.float16 if dtype == "fp16" else np.float32)
    for name in ("offsets", "values", "boxes", "objectness", "global_features", "keypoints", "keep"):
        np.testing.assert_array_equal(getattr(again, name), getattr(toy, name))
    assert feature_dim(path) == 4
    assert isinstance(again.values, np.memmap)  # a collection's features may be larger than the memory
    write_region_features(path, again)  # over the file that is mapped
    np.testing.assert_array_equal(read_region_features(path).values, again.values)


def test_optional_columns_stay_away(toy: RegionFeatures, tmp_path: Path) -> None:
    bare = replace(toy, objectness=None, global_features=None, keypoints=None, keep=None)
    write_region_features(tmp_path / "f.safetensors", bare)
    assert set(load_file(tmp_path / "f.safetensors")) == {"values", "offsets", "boxes"}
    again = read_region_features(tmp_path / "f.safetensors")
    assert (again.objectness, again.global_features, again.keypoints, again.keep) == (None,) * 4


def test_what_cannot_be_written_is_refused(toy: RegionFeatures, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"f\.npz: region features are written to a \.safetensors file"):
        write_region_features(tmp_path / "f.npz", toy)
    values = toy.values.astype(np.float32)
    values[1, 2] = 70_000
    large = replace(toy, values=values)
    with pytest.raises(DataError, match=r"toy: 'values' reaches 7e\+04, which fp16 cannot hold"):
        write_region_features(tmp_path / "f.safetensors", large)
    write_region_features(tmp_path / "f.safetensors", large, dtype="fp32")
    values[1, 2] = np.nan
    with pytest.raises(DataError, match="toy: image 'a/1.jpg', region 1: values are NaN"):
        write_region_features(tmp_path / "g.safetensors", large)
    assert not (tmp_path / "g.safetensors").exists()


def test_without_boxes_a_region_is_the_whole_picture(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "f.safetensors", {"ids": "[1, 2]"})
    features = read_region_features(tmp_path / "f.safetensors")
    assert features.boxes.tolist() == [[0, 0, 1, 1]] * 3
    assert features.ids == ("1", "2")


@pytest.mark.parametrize(("folder", "images"), [("howtocook", 179), ("getty_mosaics", 21)])
def test_real_files(folder: str, images: int, shared: Shared) -> None:
    path = shared(f"{folder}/region_features.safetensors")
    features, raw = read_region_features(path), load_file(path)
    assert (len(features), features.dim, feature_dim(path)) == (images, 544, 544)
    assert (features.counts == 10).all()
    image = features.ids[7]
    (found,) = features.select([image.removeprefix("images/")], count=4).regions()
    assert found.features is not None
    assert found.global_feature is not None
    np.testing.assert_array_equal(found.features, raw["values"][70:74].astype(np.float32))
    np.testing.assert_array_equal(found.global_feature, raw["global"][7].astype(np.float32))
    np.testing.assert_array_equal(found.boxes, raw["boxes"][70:74])


def test_every_picture_of_the_real_captions_has_features(shared: Shared) -> None:
    lines = shared("howtocook/dishes.jsonl").read_text(encoding="utf-8").splitlines()
    images = list(dict.fromkeys(json.loads(line)["image"] for line in lines))
    features = read_region_features(shared("howtocook/region_features.safetensors"))
    assert features.select(images, count=10).values.shape == (10 * len(images), 544)


@pytest.mark.parametrize(
    ("content", "metadata", "reason"),
    [
        (tensors(values=None), IDS, "has no tensor 'values', only 'offsets'"),
        (tensors(offsets=None), IDS, "has no tensor 'offsets'"),
        (tensors(), {"names": "[]"}, "metadata field 'ids' is no JSON list of image ids: KeyError"),
        (tensors(), {"ids": "[1,"}, "metadata field 'ids' is no JSON list"),
        (tensors(), {"ids": "3"}, "metadata field 'ids' is no JSON list of image ids but int"),
        (tensors(), {"ids": "[true, null]"}, "True is no image id"),
        (tensors(), {"ids": '["a", "a"]'}, "image id 'a' occurs twice"),
        (tensors(), {"ids": '["a", "\\ud800"]'}, "an image id holds a lone surrogate"),
        (tensors(), {"ids": '["a", ' + "[" * 400 + "]" * 400 + "]"}, r"\[\[.* is no image id"),
        (tensors(values=np.ones((9, 0), dtype=np.float16)), IDS, r"'values' has shape \(9, 0\), expected"),
        (tensors(), {"ids": '["a"]'}, r"'offsets' is int64 \(3,\), expected 2 integers"),
        (tensors(offsets=np.array([0, 3, 1])), IDS, "'offsets' do not ascend: 3 is followed by 1"),
        (tensors(offsets=np.array([0, 1, 7])), IDS, "'offsets' go from 0 to 7, the regions from 0 to 3"),
        (tensors(values=np.ones(3, dtype=np.float16)), IDS, r"'values' has shape \(3,\)"),
        (tensors(values=np.ones((3, 4), dtype=np.int8)), IDS, "is no whole safetensors file: tensor 'values' is of"),
        (tensors(boxes=np.ones((2, 4), dtype=np.float32)), IDS, r"'boxes' is float32 \(2, 4\)"),
        (tensors(boxes=np.full((3, 4), 300, dtype=np.float32)), IDS, "image 'a', region 0: box .* is no box within"),
    ],
)
def test_what_does_not_fit_is_refused(
    content: dict[str, Any], metadata: dict[str, str], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "f.safetensors"
    save_file(content, path, metadata)
    with pytest.raises(DataError, match=rf"f\.safetensors: {reason}"):
        read_region_features(path)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_a_file_cut_off_is_refused(keep: int, toy: RegionFeatures, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    write_region_features(path, toy)
    path.write_bytes(path.read_bytes()[:keep])
    for read in (read_region_features, feature_dim):
        with pytest.raises(DataError, match=r"f\.safetensors: is no whole safetensors file: (it|its header) should"):
            read(path)


def test_what_is_not_there_or_of_no_known_form_is_refused(tmp_path: Path) -> None:
    for read in (read_region_features, feature_dim):
        with pytest.raises(DataError, match="gone: there is no such file"):
            read(tmp_path / "gone")
        with pytest.raises(DataError, match="is none of these: a store, a folder of .npz files"):
            read(tmp_path)
    (tmp_path / "f.h5").write_bytes(b"")
    with pytest.raises(DataError, match=r"f\.h5: region features are read from \.safetensors, .*, \.npy, a folder"):
        read_region_features(tmp_path / "f.h5")


def test_a_file_that_shrinks_while_it_is_mapped_is_an_error(toy: RegionFeatures, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    write_region_features(path, toy)
    features = read_region_features(path)
    os.truncate(path, 100)
    uses: list[Callable[[], object]] = [
        lambda: features.select(toy.ids),
        features.regions,
        lambda: write_region_features(tmp_path / "g.safetensors", features),
    ]
    for use in uses:
        with pytest.raises(DataError, match=r"f\.safetensors: was changed since it was opened"):
            use()
    path.unlink()
    with pytest.raises(DataError, match=r"f\.safetensors: cannot be read: No such file"):
        features.regions()
