"""Tables of pictures and texts, and plain folders."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heritage_align.data.discover import discover
from heritage_align.data.folder import read_folder
from heritage_align.data.subset import hold_out
from heritage_align.data.table import Columns, _is_written_list, read_table
from heritage_align.errors import DataError, ImageError

SHARED = Path(__file__).parents[2].parent / "shared/data"
Draw = Callable[..., Path]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_jsonl_with_several_texts_per_image(tmp_path: Path, draw: Draw) -> None:
    for name in ("a.png", "sub/b.png"):
        draw(tmp_path / name)
    rows = [
        {"image": "a.png", "text": "first", "phrases": ["one", "two"], "language": "en"},
        {"image": "sub/./b.png", "text": ["second", "third"]},
        {"image": "a.png", "text": "fourth"},
        {"image": "a.png", "text": ["fifth", "sixth"], "id": 5},
        {"image": "a.png", "text": "seventh", "id": "t7"},
    ]
    table = read_table(write(tmp_path / "t.jsonl", rows), language="zh")
    assert table.image_ids == ("a.png", "sub/b.png")
    assert [(t.id, t.text, t.image_ids) for t in table.texts] == [
        ("a.png#0", "first", ("a.png",)),
        ("sub/b.png#0", "second", ("sub/b.png",)),
        ("sub/b.png#1", "third", ("sub/b.png",)),
        ("a.png#1", "fourth", ("a.png",)),
        ("5#0", "fifth", ("a.png",)),
        ("5#1", "sixth", ("a.png",)),
        ("t7", "seventh", ("a.png",)),
    ]
    assert table.texts[0].phrases == ("one", "two")
    assert [t.language for t in table.texts[:2]] == ["en", "zh"]
    assert table.load_image("sub/b.png").size == (3, 2)


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
def test_csv_with_renamed_columns(tmp_path: Path, draw: Draw, suffix: str, delimiter: str) -> None:
    draw(tmp_path / "pictures/1.png")
    lines = [["file", "标题", "motifs", "part"], ["1.png", '"两只鹤, ""对飞""\n第二行"', "鹤|团窠", "test"]]
    lines += [["1.png", "train row", "", "train"], ["", "", "", ""], ["1.png", "last", "", "test"]]
    path = tmp_path / f"t{suffix}"
    # As a spreadsheet saves it: byte order mark, CRLF, a quoted line break, an empty row.
    path.write_bytes(("\ufeff" + "\r\n".join(map(delimiter.join, lines))).encode())
    columns = Columns(image="file", text="标题", phrases="motifs", split="part")
    table = read_table(path, images=tmp_path / "pictures", columns=columns, split="test")
    assert [(t.id, t.text, t.phrases) for t in table.texts] == [
        ("1.png#0", '两只鹤, "对飞"\n第二行', ("鹤", "团窠")),
        ("1.png#1", "last", ()),
    ]
    assert table.name == "t/test"


def test_every_fault_is_in_one_error(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "text": "good", "id": 1},
        {"image": "a.png", "text": "again", "id": "1"},
        {"text": "no image"},
        {"image": "a.png", "text": ""},
        {"image": "../a.png", "text": "out"},
        {"image": "/a.png", "text": "absolute"},
        {"image": "a.png", "text": []},
        {"image": "a.png", "text": "x", "phrases": ["", "b"]},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(DataError) as error:
        read_table(path)
    message = str(error.value)
    assert message.startswith(f"{path}: 7 problems\n")
    for expected in [
        f"{path}:2: text id '1' was already used at {path}:1",
        f"{path}:3: has no 'image'",
        f"{path}:4: 'text' is empty",
        f"{path}:5: '../a.png' leads out of {tmp_path}",
        f"{path}:6: '/a.png' is an absolute path",
        f"{path}:7: 'text' is an empty list",
        f"{path}:8: 'phrases' entry 1 is empty",
    ]:
        assert expected in message


def test_a_row_of_several_pictures(tmp_path: Path, draw: Draw) -> None:
    for name in ("瓶/正.png", "瓶/背.png", "碗.png", "盘.png"):
        draw(tmp_path / name)
    rows = [
        {"images": ["瓶/正.png", "瓶/背.png", "瓶/./正.png"], "texts": ["青花瓶", "a blue and white vase"]},
        {"images": "碗.png", "texts": "a bowl"},
        {"images": ["瓶/背.png"], "texts": "the back of the vase"},
        {"images": ["盘.png", "碗.png"], "texts": "盘与碗", "id": 7},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    found = discover(tmp_path)
    assert found is not None
    assert found.columns == {"image": "images", "text": "texts"}
    table = read_table(path, columns=Columns(image="images", text="texts"))
    assert table.image_ids == ("瓶/正.png", "瓶/背.png", "碗.png", "盘.png")
    vase = ("瓶/正.png", "瓶/背.png")
    assert [(t.id, t.text, t.image_ids) for t in table.texts] == [
        ("瓶/正.png#0", "青花瓶", vase),
        ("瓶/正.png#1", "a blue and white vase", vase),
        ("碗.png#0", "a bowl", ("碗.png",)),
        ("瓶/背.png#0", "the back of the vase", ("瓶/背.png",)),
        ("7", "盘与碗", ("盘.png", "碗.png")),
    ]
    # Pictures that rows have together are one artwork: a part without one of them would lose the texts.
    groups = [table.artwork_of[image_id] for image_id in table.image_ids]
    assert groups[0] == groups[1] != groups[2] == groups[3]


def test_pictures_that_rows_join_one_after_the_other_are_one_artwork(tmp_path: Path, draw: Draw) -> None:
    names = [f"{number}.png" for number in range(12)]
    for name in names:
        draw(tmp_path / name)
    joined = [names[start : start + 2] for start in range(9)]  # 0-1, 1-2, ... 8-9; 10 and 11 stay alone
    rows = [{"image": pair, "text": f"{pair}"[1:-1]} for pair in [*joined[::2], *joined[1::2]]]
    rows += [{"image": name, "text": name} for name in names[10:]]
    table = read_table(write(tmp_path / "t.jsonl", rows))
    assert len(set(table.artwork_of.values())) == 3
    part, held = hold_out(table, 1 / 3)
    assert held is not None
    assert len(part.texts) + len(held.texts) == len(table.texts)


def test_a_group_holds_for_all_pictures_of_a_row(tmp_path: Path, draw: Draw) -> None:
    for name in ("a.png", "b.png"):
        draw(tmp_path / name)
    rows = [{"image": ["a.png", "b.png"], "text": "x", "work": 1}, {"image": "b.png", "text": "y", "work": 2}]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(DataError, match=r"t\.jsonl:2: picture 'b\.png' is of work '1' already"):
        read_table(path, columns=Columns(group="work"))
    table = read_table(write(path, rows[:1]), columns=Columns(group="work"))
    assert table.artwork_of == {"a.png": "1", "b.png": "1"}


@pytest.mark.parametrize(("separator", "cell"), [("|", " 瓶.png | b.png|"), (";", "瓶.png;b.png")])
def test_several_pictures_in_a_cell(tmp_path: Path, draw: Draw, separator: str, cell: str) -> None:
    for name in ("瓶.png", "b.png"):
        draw(tmp_path / name)
    path = tmp_path / "t.csv"
    path.write_text(f"image,text,phrases\n{cell},青花,a{separator}b\n", encoding="utf-8")
    (item,) = read_table(path, separator=separator).texts
    assert (item.image_ids, item.phrases) == (("瓶.png", "b.png"), ("a", "b"))


def test_lists_that_cannot_be_meant_are_named(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.png")
    good = {"image": "a.png", "text": "x"}
    faults = {
        "'image' is an empty list": {"image": []},
        "'image' entry 2 must be a string, got int 3": {"image": ["a.png", 3]},
        "'image' entry 1 must be a string, got list ['a.png']": {"image": [["a.png"]]},
        "'../a.png' leads out of": {"image": ["../a.png"]},
        "'image' is a list written as text, ['a.png']": {"image": "['a.png']"},
        "'text' is a list written as text, ['鹤', '莲']": {"text": "['鹤', '莲']"},
        "'phrases' is a list written as text": {"phrases": "['鹤']"},
        "'id' must be a string or an integer, got list": {"id": ["1"]},
        "'language' must be a string, got list": {"language": ["zh"]},
        "'phrases' entry 1 must be a string, got list": {"phrases": [["鹤"]]},
    }
    path = write(tmp_path / "t.jsonl", [{**good, **fault} for fault in faults.values()])
    with pytest.raises(DataError) as error:
        read_table(path)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{path}: {len(faults)} problems"
    for number, expected in enumerate(faults, start=1):
        assert lines[number].strip().startswith(f"{path}:{number}: {expected}"), lines[number]
    with pytest.raises(DataError, match=r"t\.jsonl:1: 'split' must be a string, got list"):
        read_table(write(path, [{**good, "split": ["test"]}]), split="test")


def test_lists_in_the_cells_of_a_spreadsheet(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.png")
    path = tmp_path / "t.csv"  # as pandas writes a column of lists
    path.write_text('image,text\n"[\'a.png\', \'b.png\']",x\na.png,"[\'one\', ""two\'s""]"\n|,y\n', encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_table(path)
    assert "3 problems" in str(error.value)
    assert "t.csv:2: 'image' is a list written as text, ['a.png', 'b.png']; use .jsonl" in str(error.value)
    assert "t.csv:3: 'text' is a list written as text, ['one', \"two's\"]" in str(error.value)
    assert "t.csv:4: 'image' names no picture" in str(error.value)
    path.write_text('image,text\na.png,"[""成化年制""]"\na.png,"[a, b]"\n', encoding="utf-8")
    assert [item.text for item in read_table(path).texts] == ['["成化年制"]', "[a, b]"], "an inscription, a remark"


def test_csv_faults_name_the_physical_line(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.png")
    path = tmp_path / "t.csv"
    path.write_bytes(b'image,text\na.png,"two\nlines"\na.png\n\xff,x\na.png,ok,extra\na.png,\n')
    with pytest.raises(DataError) as error:
        read_table(path)
    message = str(error.value)
    for expected in [
        "t.csv:4: has 1 fields",
        "t.csv:5: is not UTF-8",
        "t.csv:6: has 3 fields",
        "t.csv:7: 'text' is empty",
    ]:
        assert expected in message
    path.write_text('image,text\na.png,"never closed\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:2: a quote is opened here and not closed"):
        read_table(path)
    path.write_text("image,text,text\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:1: column 'text' occurs twice"):
        read_table(path)


def test_a_column_that_no_row_has_is_one_problem(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.png")
    path = write(tmp_path / "t.jsonl", [{"image": "a.png", "title": f"{i}"} for i in range(30)])
    for columns, column in [
        (Columns(), "text"),
        (Columns(text="titel"), "titel"),
        (Columns(text="title", id="nr"), "nr"),
    ]:
        with pytest.raises(DataError) as error:
            read_table(path, columns=columns)
        assert "1 problem\n" in str(error.value)
        assert f"column {column!r}" in str(error.value)
    with pytest.raises(DataError, match="Did you mean 'title'"):
        read_table(path, columns=Columns(text="titel"))
    with pytest.raises(DataError, match="column 'split' for split: is not there"):
        read_table(path, columns=Columns(text="title"), split="test")


def test_empty_tables_and_unknown_splits_say_so(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.png")
    path = write(tmp_path / "t.jsonl", [{"image": "a.png", "text": "x", "split": s} for s in ("train", "valid")])
    with pytest.raises(DataError, match="has no rows of split 'test'; splits: train, valid"):
        read_table(path, split="test")
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="has no rows"):
        read_table(path)
    with pytest.raises(DataError, match=r"t\.xlsx: is a spreadsheet; save it as CSV"):
        read_table(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "none.csv")


def test_missing_pictures_are_named_one_by_one_unless_all_are(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.png")
    path = write(tmp_path / "t.jsonl", [{"image": name, "text": "x"} for name in ("lost.png", "a.png")])
    table = read_table(path)
    assert table.load_image("a.png").size == (3, 2)
    with pytest.raises(ImageError, match=r"lost\.png: no such file"):
        table.load_image("lost.png")
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="none of the 2 pictures exists; the first would be .*--set data.images=FOLDER"):
        read_table(path)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared trial data is not beside the repository")
def test_real_collections_read_directly() -> None:
    dishes = read_table(
        SHARED / "howtocook/dishes.jsonl", columns=Columns(text="title", phrases="ingredients"), language="zh"
    )
    assert (len(dishes.image_ids), len(dishes.texts)) == (90, 90)
    assert dishes.texts[0].id == "f849af851d"
    assert dishes.texts[0].phrases[0] == "生鸡肝"
    assert dishes.load_image(dishes.image_ids[0]).mode == "RGB"
    mosaics = read_table(SHARED / "getty_mosaics/pairs.jsonl", language="en")
    assert (len(mosaics.image_ids), mosaics.texts[0].text) == (21, "Mosaic Floor with Head of Medusa")


def test_a_folder_has_pictures_and_no_texts(tmp_path: Path, draw: Draw) -> None:
    for name in ("b.png", "a/龙 纹.png"):
        draw(tmp_path / name)
    folder = read_folder(tmp_path)
    assert folder.image_ids == ("b.png", "a/龙 纹.png")
    assert folder.texts == ()
    assert folder.load_image("a/龙 纹.png").size == (3, 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: has no pictures"):
        read_folder(tmp_path / "empty")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_file_name_that_is_not_utf8_is_named(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "b.png")
    os.link(tmp_path / "b.png", os.fsencode(tmp_path) + "/龙.png".encode("gb18030"))
    with pytest.raises(DataError, match="has a name that is not UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "images", "texts"),
    [
        ("['a', 'b']", True, True),
        ("[ 'a' , \"b\" , ]", False, True),
        ("['a' , 'b',]", True, True),
        ('["成化年制"]', True, False),
        ('["a", b]', False, False),
        ("[a, 'b']", False, False),
        ("[']", False, False),
        ("['a', 'b'", False, False),
        ("['',']", True, False),
        ("['','']", True, True),
        ("[]", False, False),
        ("['" + "','" * 40_000 + "x]", False, False),  # quotes that a regular expression for it all tries in pairs
    ],
)
def test_lists_that_were_written_as_text(text: str, images: bool, texts: bool) -> None:
    assert _is_written_list(text, 1) == images
    assert _is_written_list(text, 2) == texts
