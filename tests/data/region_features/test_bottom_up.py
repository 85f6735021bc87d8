"""Bottom-up attention's TSV files: a real one, both orders of columns, lines that are at fault."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from heritage_align.data.region_features import feature_dim, read_region_features, write_region_features
from heritage_align.errors import DataError

BOXES = np.array([[0, 0, 50, 100], [20, 10, 200, 60]], dtype="<f4")
FEATURES = np.arange(6, dtype="<f4").reshape(2, 3)
CONFIDENCES = np.array([0.25, 0.75], dtype="<f4")


def encode(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def classic(image: str = "9", width: object = 200, height: object = 100, **change: object) -> str:
    cells = {"num_boxes": 2, "boxes": encode(BOXES), "features": encode(FEATURES), **change}
    return "\t".join(map(str, [image, width, height, *cells.values()])) + "\n"


def lxmert(image: str = "9", scores: str = encode(CONFIDENCES)) -> str:
    """Height comes before width here."""
    ids = encode(np.zeros(2, dtype="<i8"))
    return "\t".join([image, "100", "200", ids, scores, ids, scores, "2", encode(BOXES), encode(FEATURES)]) + "\n"


@pytest.mark.parametrize("line", [classic(), lxmert()], ids=["6 columns", "10 columns"])
def test_both_orders_of_columns(line: str, tmp_path: Path) -> None:
    path = tmp_path / "f.tsv"
    path.write_text("\n" + line + line.replace("9", "10", 1))
    features = read_region_features(path)
    assert features.ids == ("9", "10")
    assert features.offsets.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(features.values[:2], FEATURES)
    np.testing.assert_allclose(features.boxes[:2], [[0, 0, 0.25, 1], [0.1, 0.1, 1, 0.6]])
    assert features.global_features is None
    assert feature_dim(path) == 3
    if features.objectness is not None:
        assert features.objectness.tolist() == [0.25, 0.75] * 2
    assert (features.objectness is None) == (line == classic())


def test_a_picture_may_have_no_boxes(tmp_path: Path) -> None:
    path = tmp_path / "f.tsv"
    path.write_text(classic("1", num_boxes=0, boxes="", features="") + classic("2"))
    features = read_region_features(path)
    assert features.offsets.tolist() == [0, 0, 2]
    assert feature_dim(path) == features.dim == 3
    path.write_text(classic("1", num_boxes=0, boxes="", features=""))
    for read in (read_region_features, feature_dim):
        with pytest.raises(DataError, match=r"f\.tsv: has no regions"):
            read(path)


def test_a_real_file_by_hand(shared: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared("oracles/bua_train2014_obj36.tsv")
    features = read_region_features(path)
    assert (len(features), features.dim, feature_dim(path)) == (10, 2048, 2048)
    assert (features.counts == 36).all()
    cells = path.read_text().splitlines()[3].split("\t")
    assert cells[0] == features.ids[3]
    height, width = int(cells[1]), int(cells[2])
    confidences, boxes, values = (np.frombuffer(base64.b64decode(cells[i]), dtype="<f4") for i in (4, 8, 9))
    (found,) = features.select([str(int(cells[0].rpartition("_")[2]))], count=10).regions()
    assert found.scores is not None
    assert found.features is not None
    assert found.global_feature is not None
    order = np.argsort(-confidences, kind="stable")[:10]
    np.testing.assert_array_equal(found.scores, confidences[order])
    np.testing.assert_array_equal(found.features, values.reshape(36, 2048)[order])
    expected = boxes.reshape(36, 4)[order] / [width, height, width, height]
    np.testing.assert_allclose(found.boxes, expected, rtol=1e-6)
    np.testing.assert_allclose(found.global_feature, values.reshape(36, 2048).mean(0), rtol=1e-5, atol=1e-6)
    write_region_features(tmp_path / "f.safetensors", features, dtype="fp32")
    again = read_region_features(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(again.values, features.values)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a\tb\tc\n", "has 3 columns separated by tabs, expected 6 or 10"),
        (classic(width="wide"), "image_w is 'wide', expected a number"),
        (classic(height=-4), "image_h is '-4', expected a number"),
        (classic(width=0), "a picture of 0 x 100 pixels"),
        (classic(num_boxes="١"), "num_boxes is '١'"),
        (classic(num_boxes=3), "boxes has 32 bytes, 3 boxes need 48"),
        (classic(boxes="AAA"), "boxes is no base64"),
        (classic(boxes="A" * 8 + "*" * 4), "boxes is no base64"),
        (classic(boxes="é"), "boxes is no base64"),
        (classic(features=encode(FEATURES)[:-4]), "features has 21 bytes, 2 boxes need a multiple of 8"),
        (classic(features=""), "features has 0 bytes, 2 boxes need a multiple of 8"),
        (classic(num_boxes=0), "boxes has 32 bytes, 0 boxes need 0"),
        (classic(width=100, height=200), r"box \[20.0, 10.0, 200.0, 60.0\] reaches beyond its picture of 100 x 200"),
        (classic(features=encode(FEATURES[:, :2])), "features have 2 numbers a box, those before 3"),
        (lxmert(), "has 10 columns, the lines before 6"),
        (lxmert(scores="AAAA"), "objects_conf has 3 bytes, 2 boxes need 8"),
    ],
)
def test_lines_at_fault_are_named(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "f.tsv"
    path.write_text(classic("1") + line, encoding="utf-8")
    with pytest.raises(DataError, match=rf"f\.tsv: 1 problem\n  .*f\.tsv:2: {reason}"):
        read_region_features(path)


def test_an_id_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.tsv").write_text(classic("1") + classic("1"))
    with pytest.raises(DataError, match=r"f\.tsv: image id '1' occurs twice"):
        read_region_features(tmp_path / "f.tsv")


def test_the_width_of_a_broken_file_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "f.tsv").write_text("a\tb\n")
    with pytest.raises(DataError, match=r"f\.tsv:1: has 2 columns"):
        feature_dim(tmp_path / "f.tsv")
