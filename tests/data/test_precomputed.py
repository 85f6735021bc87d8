"""Folders of VSE++, SCAN and BFAN: features, captions and ids of each split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heritage_align.data.discover import discover
from heritage_align.data.npy_file import mapped_npy
from heritage_align.data.precomputed import read_precomputed
from heritage_align.data.region_features import feature_dim, read_region_features, write_region_features
from heritage_align.errors import DataError, ImageError


def features(count: int, regions: int = 3, dim: int = 4, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((count, regions, dim), dtype=np.float32)


def write(folder: Path, split: str, array: Any, captions: int, ids: list[str] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{split}_ims.npy", array)
    lines = "".join(f"caption {number}\n" for number in range(captions))
    (folder / f"{split}_caps.txt").write_text(lines, encoding="utf-8")
    if ids is not None:
        (folder / f"{split}_ids.txt").write_text("\n".join(ids), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five captions a picture; ids of pictures, of captions, and ids that are no help; COCO's repeated pictures."""
    root = tmp_path / "f30k_precomp"
    write(root, "train", features(4), 20, ["7", "9", "11", "13"])
    write(root, "dev", np.repeat(features(2, seed=1), 5, axis=0), 10, [i for i in "ab" for _ in range(5)])
    write(root, "test", features(3, seed=2), 15, ["1", "1", "2"])
    return root


def test_captions_belong_to_their_pictures(folder: Path) -> None:
    train, dev, test = (read_precomputed(folder, split) for split in ("train", "dev", "test"))
    assert train.name == "f30k_precomp/train"
    assert train.image_ids == ("train/7", "train/9", "train/11", "train/13")
    assert (train.texts[6].id, train.texts[6].text, train.texts[6].image_ids) == (
        "train/9#1",
        "caption 6",
        ("train/9",),
    )
    assert dev.image_ids == ("dev/a", "dev/b")
    assert dev.texts[9].image_ids == ("dev/b",)
    assert test.image_ids == ("test/0", "test/1", "test/2")  # the file names one picture twice
    assert {item.language for item in test.texts} == {"en"}
    with pytest.raises(ImageError, match="test/0: no such file"):
        test.load_image("test/0")


def test_features_are_those_of_the_arrays_whether_of_a_split_or_of_the_folder(folder: Path, tmp_path: Path) -> None:
    whole, dev = read_region_features(folder), read_region_features(folder / "dev_ims.npy")
    assert (whole.dim, feature_dim(folder), feature_dim(folder / "test_ims.npy"), len(whole)) == (4, 4, 4, 9)
    expected = {f"dev/{name}": features(2, seed=1)[row] for row, name in enumerate("ab")}
    expected |= {f"train/{name}": features(4)[row] for row, name in enumerate((7, 9, 11, 13))}
    expected |= {f"test/{row}": features(3, seed=2)[row] for row in range(3)}
    assert set(whole.ids) == set(expected)
    chosen = ["test/2", "dev/b", "train/9", "dev/a"]
    for image_id, regions in zip(chosen, whole.select(chosen).regions()):
        np.testing.assert_array_equal(regions.features, expected[image_id])
        np.testing.assert_allclose(regions.global_feature, expected[image_id].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(dev.regions()[1].features, expected["dev/b"])
    write_region_features(tmp_path / "all.safetensors", whole, dtype="fp32")
    again = read_region_features(tmp_path / "all.safetensors")
    np.testing.assert_array_equal(again.values, whole.values[:])
    np.save(folder / "test_ims.npy", features(3)[:, 0].astype(np.float64))  # VSE++: one vector a picture
    assert read_region_features(folder / "test_ims.npy").select(["test/1"]).values.shape == (1, 4)


def test_the_command_line_finds_the_splits(folder: Path) -> None:
    found = discover(folder)
    assert found is not None
    assert (found.role, found.features) == ("precomputed", folder)
    assert found.splits == {"train": "train", "val": "dev", "test": "test"}
    assert found.settings("val") == {"folder": str(folder), "split": "dev"}
    (folder / "test_caps.txt").unlink()
    found = discover(folder)
    assert found is not None
    with pytest.raises(DataError, match="has splits train, dev, and no test"):
        found.settings()


def test_what_does_not_fit_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"tets_caps\.txt: no such file; splits found: dev, test, train\. Did"):
        read_precomputed(folder, "tets")
    with (folder / "test_caps.txt").open("a", encoding="utf-8") as stream:
        stream.write("one more\n")
    for read in (lambda: read_precomputed(folder, "test"), lambda: read_region_features(folder)):
        with pytest.raises(DataError, match=r"test_ims\.npy: has 3 pictures, test_caps\.txt 16 captions"):
            read()
    (folder / "test_caps.txt").write_text("a\n\nb\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test_caps\.txt:2: caption is empty"):
        read_precomputed(folder, "test")
    write(folder, "test", features(3, dim=5), 15)
    with pytest.raises(DataError, match=r"train_ims\.npy: features have 4 dimensions|test_ims\.npy: features have 5"):
        read_region_features(folder)
    write(folder, "test", features(2)[0, 0], 15)
    with pytest.raises(DataError, match=r"test_ims\.npy: has shape \(4,\), expected"):
        read_precomputed(folder, "test")


def test_an_array_that_is_cut_damaged_or_shrinks_is_an_error(folder: Path, tmp_path: Path) -> None:
    path = folder / "test_ims.npy"
    whole = path.read_bytes()
    opened = read_region_features(folder)
    for keep in (0, 5, 60, 128, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"test_ims\.npy: is (not whole|empty|no \.npy)"):
            mapped_npy(path)
        with pytest.raises(DataError, match="was changed since it was opened"):
            opened.select(["test/1"])
    path.write_bytes(whole + b"more")
    with pytest.raises(DataError, match=r"\(3, 3, 4\) should make 272 bytes, the file has 276"):
        mapped_npy(path)
    os.unlink(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        mapped_npy(path)
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"o\.npy: holds objects, expected floating numbers") as caught:
        mapped_npy(tmp_path / "o.npy")
    assert "pickle" not in str(caught.value)
    np.save(tmp_path / "f.npy", np.asfortranarray(features(2)))
    np.testing.assert_array_equal(mapped_npy(tmp_path / "f.npy"), features(2))
    assert mapped_npy(_saved(tmp_path / "e.npy", np.empty((0, 3, 4), np.float16))).shape == (0, 3, 4)


def _saved(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path
