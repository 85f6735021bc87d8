"""Looking at a path: the table, its columns and splits, the features beside it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from heritage_align.data.discover import IMAGE_COLUMNS, SPLITS, TEXT_COLUMNS, Discovered, discover
from heritage_align.data.table import Columns, read_table
from heritage_align.errors import DataError, Note


def table(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_folder_with_a_table_its_splits_and_features(tmp_path: Path) -> None:
    rows = [{"image": "1.png", "texts": ["鹤"], "split": "train"}, {"image": "2.png", "texts": ["莲"], "split": "dev"}]
    path = table(tmp_path / "all.jsonl", *rows, {"image": "3.png", "texts": ["龙"], "split": "test"})
    features = tmp_path / "region_features.safetensors"
    features.touch()
    (tmp_path / "images").mkdir()
    (tmp_path / "notes.txt").touch()
    found = discover(tmp_path)
    splits = {"train": "train", "val": "dev", "test": "test"}
    assert found == Discovered(path, {"text": "texts"}, splits, features) == discover(path)
    assert found is not None
    assert found.settings("val", require_pictures=False) == {
        "file": str(path), "text": "texts", "split": "dev", "require_pictures": False,
    }  # fmt: skip
    assert found.settings() == {"file": str(path), "text": "texts"}


def test_without_splits_a_part_is_the_whole(tmp_path: Path) -> None:
    found = discover(table(tmp_path / "t.jsonl", {"image": "1.png", "text": "鹤"}))
    assert found is not None
    assert (found.columns, found.splits, found.features) == ({}, {}, None)
    assert found.settings("train") == found.settings()


@pytest.mark.parametrize("image", IMAGE_COLUMNS)
@pytest.mark.parametrize("text", TEXT_COLUMNS)
def test_columns_by_their_usual_names(tmp_path: Path, image: str, text: str) -> None:
    found = discover(table(tmp_path / "t.jsonl", {"id": 1, image: "1.png", text: "鹤"}))
    assert found is not None
    document = found.settings()
    assert (document.get("image", "image"), document.get("text", "text")) == (image, text)


@pytest.mark.parametrize(("part", "word"), [(part, word) for part, words in SPLITS.items() for word in words])
def test_splits_by_their_usual_words(tmp_path: Path, part: str, word: str) -> None:
    found = discover(table(tmp_path / "t.jsonl", {"image": "1.png", "text": "鹤", "split": word}))
    assert found is not None
    assert found.splits == {part: word}


@pytest.mark.parametrize("group", ["group", "artwork", "artwork_id", "object_id"])
def test_what_must_not_be_split_is_found(tmp_path: Path, group: str) -> None:
    found = discover(table(tmp_path / "t.jsonl", {"image": "1.png", "text": "鹤", group: 7}))
    assert found is not None
    assert found.columns == {"group": group}


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".tab", "\t")])
def test_tables_with_a_line_of_names(tmp_path: Path, suffix: str, separator: str) -> None:
    lines = [["picture", "caption", "split"], ["1.png", "鹤", "training"]]
    path = tmp_path / f"t{suffix}"
    path.write_text("﻿" + "\n".join(separator.join(line) for line in lines), encoding="utf-8")
    found = discover(tmp_path)
    assert found == Discovered(path, {"image": "picture", "text": "caption"}, {"train": "training"}, None)


def test_files_that_are_no_table_do_not_count(tmp_path: Path) -> None:
    wanted = table(tmp_path / "t.jsonl", {"image": "1.png", "text": "鹤"})
    table(tmp_path / "history.jsonl", {"epoch": 1, "loss": 0.5})
    (tmp_path / "bottom_up_features.tsv").write_text("1\t2\n")
    (tmp_path / "vocabulary.csv").write_text("word,count\nx,1\n")
    found = discover(tmp_path)
    assert found is not None
    assert (found.table, found.features) == (wanted, tmp_path / "bottom_up_features.tsv")
    (tmp_path / "more_features.npz").touch()
    found = discover(tmp_path)
    assert found is not None
    assert found.features is None  # two of them: --features says which


@pytest.mark.parametrize(
    ("image", "text", "split"),
    [("Image", "Text", "Split"), ("File name", "CAPTION", "SPLIT"), ("image-path", "Title", "split")],
)
def test_columns_and_splits_in_any_case(tmp_path: Path, image: str, text: str, split: str) -> None:
    rows = [f"{n}.png,vase {n},{word}" for n, word in enumerate(["Train", "TEST", "test ", "Valid"])]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"{image},{text},{split}", *rows]))
    found = discover(tmp_path)
    assert found is not None
    assert (found.columns["image"], found.columns["text"], found.columns.get("split", "split")) == (image, text, split)
    assert set(found.splits) == {"train", "val", "test"}
    columns = Columns(**found.columns)
    picked = read_table(path, columns=columns, split=found.splits["test"], require_pictures=False)
    assert picked.image_ids == ("1.png", "2.png")


def test_a_column_that_is_empty_at_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("picture,title,caption\n,,\n1.png,,\n2.png,,a vase\n")
    found = discover(tmp_path)
    assert found is not None
    assert found.columns == {"image": "picture", "text": "caption"}


def test_a_table_that_is_not_taken_says_why(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / "readme.txt").write_text("about these pictures")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert discover(tmp_path) is None
    (tmp_path / "objects.csv").write_text("Bild;Text\n1.png;Vase\n")
    (tmp_path / "objects.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.warns(Note) as said:
        assert discover(tmp_path) is None
    [note] = [str(each.message) for each in said]
    assert note.startswith(f"{tmp_path}: its pictures are taken without texts: objects.csv has no column of pictures")
    assert "only 'Bild', 'Text'; objects.xlsx: is a spreadsheet; save it as CSV" in note


def test_what_systems_keep_beside_a_table_is_no_table(tmp_path: Path) -> None:
    path = table(tmp_path / "t.jsonl", {"image": "1.png", "text": "鹤"})
    table(tmp_path / "._t.jsonl", {"image": "1.png", "text": "鹤"})
    for name in ("region_features.npz", "._region_features.npz", "~$objects.xlsx"):
        (tmp_path / name).touch()
    assert discover(tmp_path) == Discovered(path, features=tmp_path / "region_features.npz")
    path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert discover(tmp_path) is None


def test_splits_of_other_names_are_said(tmp_path: Path) -> None:
    path = table(tmp_path / "t.jsonl", *({"image": "1.png", "text": "鹤", "split": word} for word in ("训练", "测试")))
    with pytest.warns(Note, match=r"column 'split' has '测试', '训练', none of which is train, val or test: all rows"):
        assert discover(path) is not None


def test_plain_pictures(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    assert discover(tmp_path) is None


def test_what_is_not_there_or_may_be_two_things(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: there is no such file or folder"):
        discover(tmp_path / "none.jsonl")
    for name in ("b.csv", "a.jsonl"):
        table(tmp_path / name, {"image": "1.png", "text": "鹤"})
    (tmp_path / "b.csv").write_text("image,text\n1.png,x\n")
    with pytest.raises(DataError, match=r"holds several tables \(a\.jsonl, b\.csv\); name the one that is meant"):
        discover(tmp_path)


@pytest.mark.parametrize(
    "line", ['{"image": "1.png", "text"', "[1, 2]", "7", "null", "[" * 5000, '{"split": ["train"]}', '{"split": 3}', ""]
)
def test_rows_at_fault_are_the_reader_s_to_name(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f'{line}\n{{"image": "1.png", "caption": "鹤", "split": "train"}}\n')
    found = discover(path)
    assert found is not None
    assert found.splits == {"train": "train"}
