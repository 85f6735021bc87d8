"""Artworks, their descriptions, regions and golden pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heritage_align.data.artwork_pairs import as_box, read_artwork_pairs
from heritage_align.data.collection import Collection
from heritage_align.data.pictures import FilePictures
from heritage_align.errors import DataError
from heritage_align.protocols import Dataset
from heritage_align.types import GoldenPair, TextItem

Draw = Callable[..., Path]
BOWL = {
    "id": 39844,
    "image": "pictures/39844.png",
    "text": "Porcelain bowl with underglaze blue",
    "regions": [
        {"box": [10, 20, 110, 95.5], "phrases": ["underglaze blue", "doucai"]},
        {"box": [0, 0, 5, 5], "phrases": ["bowl", "doucai"]},
    ],
    "language": "en",
    "split": "test",
}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_golden_pairs_and_default_phrases(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "pictures/39844.png")
    other = {"id": "b", "image": "pictures/39844.png", "text": "x", "split": "train"}
    data = read_artwork_pairs(write(tmp_path / "a.jsonl", [BOWL, other]), split="test")
    assert isinstance(data, Dataset)
    assert data.image_ids == ("39844",)
    assert data.texts == (TextItem("39844#0", BOWL["text"], ("39844",), ("underglaze blue", "doucai", "bowl"), "en"),)
    assert data.golden == (
        GoldenPair("39844", (10.0, 20.0, 110.0, 95.5), ("underglaze blue", "doucai")),
        GoldenPair("39844", (0.0, 0.0, 5.0, 5.0), ("bowl", "doucai")),
    )
    assert data.load_image("39844").size == (3, 2)


def test_several_texts_of_one_artwork(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.png")
    texts = [{"text": "青花碗", "phrases": ["青花"], "language": "zh"}, {"id": "en", "text": "Bowl"}]
    row = {"id": "a", "image": "a.png", "phrases": ["bowl"], "texts": texts}
    data = read_artwork_pairs(write(tmp_path / "a.jsonl", [row]), language="en")
    assert data.texts == (
        TextItem("a#0", "青花碗", ("a",), ("青花",), "zh"),
        TextItem("en", "Bowl", ("a",), ("bowl",), "en"),
    )


def test_every_fault_is_in_one_error(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "pictures/39844.png")

    def bowl(**changes: Any) -> dict[str, Any]:
        return {**BOWL, "id": "x", **changes}

    rows = [
        BOWL,
        BOWL,
        bowl(regions=[{"box": [10, 20, 10, 95], "phrases": ["a"]}]),
        bowl(regions=[{"box": [1, 2, 3], "phrases": ["a"]}]),
        bowl(regions=[{"box": [1, 2, 3, True], "phrases": ["a"]}]),
        bowl(regions=[{"box": [1, 2, 3, 4], "phrases": []}]),
        bowl(regions=[{"box": [1, 2, 3, 4]}]),
        bowl(texts=[]),
        bowl(regions={"box": [1, 2, 3, 4]}),
        bowl(regions=[3]),
    ]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError) as error:
        read_artwork_pairs(path)
    message = str(error.value)
    for expected in [
        f"{path}:2: artwork '39844' was already used at {path}:1",
        f"{path}:3: regions[0] 'box' must have 0 <= x0 < x1",
        f"{path}:4: regions[0] 'box' must be four numbers",
        f"{path}:5: regions[0] 'box' must be four numbers",
        f"{path}:6: regions[0] 'phrases' is an empty list",
        f"{path}:7: regions[0] has no 'phrases'",
        f"{path}:8: has both 'text' and 'texts'",
        f"{path}:9: 'regions' must be a list",
        f"{path}:10: regions[0] must be an object",
    ]:
        assert expected in message, message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1"])
def test_boxes_are_finite_and_not_negative(tmp_path: Path, draw: Draw, number: str) -> None:
    draw(tmp_path / "a.png")
    path = tmp_path / "a.jsonl"
    region = f'{{"box": [{number}, 0, 5, 5], "phrases": ["a"]}}'
    path.write_text(f'{{"id": "a", "image": "a.png", "text": "t", "regions": [{region}]}}\n', encoding="utf-8")
    with pytest.raises(DataError, match="must have 0 <= x0 < x1"):
        read_artwork_pairs(path)


def test_a_split_without_artworks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no artworks of split 'valid'"):
        read_artwork_pairs(write(tmp_path / "a.jsonl", [BOWL]), split="valid")


def test_a_collection_refuses_references_to_nothing(tmp_path: Path, draw: Draw) -> None:
    pictures = FilePictures({"a": draw(tmp_path / "a.png")})
    texts = [TextItem("t1", "x", ("a",)), TextItem("t2", "y", ("b",))]
    golden = [GoldenPair("c", (0, 0, 1, 1), ("phrase",))]
    with pytest.raises(DataError) as error:
        Collection("own", pictures, texts, golden)
    assert "own: 2 problems" in str(error.value)
    assert "text 't2': belongs to image 'b', which is not there" in str(error.value)
    assert "is of image 'c', which is not there" in str(error.value)


def test_a_box_that_is_nested_too_deeply_to_be_shown_is_refused() -> None:
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ValueError, match=r"must be four numbers .* got list \.\.\."):
        as_box(nested)


def test_a_box_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="must be four numbers of a picture's size, got list"):
        as_box([0, 0, 10**400, 1])
