"""Tables as programs export them: encodings, separators, line ends, JSON lists, and what is no table at all."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.data.artwork_pairs import read_artwork_pairs
from heritage_align.data.captions import read_captions
from heritage_align.data.chinese_clip import read_chinese_clip
from heritage_align.data.discover import discover
from heritage_align.data.encodings import encoding_of
from heritage_align.data.karpathy import read_karpathy
from heritage_align.data.parallel_captions import read_parallel_captions
from heritage_align.data.problems import Problems
from heritage_align.data.table import Columns, read_table
from heritage_align.data.table_rows import table_rows
from heritage_align.data.translated_captions import read_translated_captions
from heritage_align.data.vatex import read_vatex
from heritage_align.errors import DataError, Note
from heritage_align.plugins import Registry

SIMPLIFIED = ["宝相花纹锦", "黄地龙凤呈祥", "青花缠枝莲纹瓶", "一件清代的缂丝袍料", "灵芝与蝙蝠"]
TRADITIONAL = ["寶相花紋錦", "黃地龍鳳呈祥", "青花纏枝蓮紋瓶", "一件清代的緙絲袍料", "靈芝與蝙蝠"]
GERMAN = ["Blauer Drache über Wellen, größer", "Gefäß mit Henkel", "Zwei Kraniche am Ufer, Köln"]
MARKS = 'image,text;\t|"\r\n\0{}[]:.1龙\ufeff='
JAPANESE = ["唐草文様の皿", "鶴と亀の屏風", "江戸時代の着物です"]


@pytest.fixture
def folder(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    for number in range(5):
        draw(tmp_path / f"{number}.png")
    return tmp_path


def table(texts: list[str], delimiter: str = ",", ending: str = "\r\n") -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([["image", "text"], *([f"{number}.png", text] for number, text in enumerate(texts))])
    return stream.getvalue()


def texts_of(path: Path, **settings: str) -> list[str]:
    return [item.text for item in read_table(path, **settings).texts]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "encoding", "said"),
    [
        (SIMPLIFIED, "utf-8", None),
        (SIMPLIFIED, "utf-8-sig", None),
        (SIMPLIFIED, "utf-16", None),
        (TRADITIONAL, "utf-32", None),
        (SIMPLIFIED, "utf-16-le", "UTF-16-LE"),
        (TRADITIONAL, "utf-16-be", "UTF-16-BE"),
        (SIMPLIFIED, "gb18030", "GB18030 (GBK)"),
        (TRADITIONAL, "gbk", "GB18030 (GBK)"),
        (TRADITIONAL, "cp950", "Big5"),
        (GERMAN, "cp1252", "Windows-1252"),
        (JAPANESE, "cp932", "Shift JIS"),
    ],
)
@pytest.mark.parametrize("form", ["table.csv", "table.jsonl"])
def test_encodings_are_found_out_and_a_guess_is_said(
    texts: list[str], encoding: str, said: str | None, form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / form
    rows = [json.dumps({"image": f"{n}.png", "text": text}, ensure_ascii=False) for n, text in enumerate(texts)]
    path.write_bytes((table(texts) if form.endswith("csv") else "\n".join(rows)).encode(encoding))
    assert texts_of(path) == texts
    shown = capsys.readouterr().err
    if said is None:
        assert shown == ""
    else:
        assert f"{path}: is read as {said}, which is a guess; the setting `encoding` names another" in shown
    assert texts_of(path, encoding=encoding) == texts
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("texts", "encoding", "name"),
    [
        (SIMPLIFIED, "gb18030", "gb18030"),
        (TRADITIONAL, "gb18030", "gb18030"),
        (TRADITIONAL, "cp950", "big5hkscs"),
        (GERMAN, "cp1252", "cp1252"),
        (JAPANESE, "cp932", "cp932"),
    ],
)
def test_tables_of_two_short_rows_are_told_apart(texts: list[str], encoding: str, name: str, tmp_path: Path) -> None:
    for seed in range(40):
        chosen = random.Random(seed).choices(texts, k=2)
        (tmp_path / "t.csv").write_bytes(table(chosen).encode(encoding))
        assert encoding_of(tmp_path / "t.csv").name == name, chosen


def test_a_broken_character_among_many_is_a_fault_of_its_line_and_no_other_encoding(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_bytes(table(SIMPLIFIED).encode().replace("灵芝".encode(), "灵芝".encode()[:-1]))
    with pytest.raises(DataError, match=r"t\.csv:6: is not UTF-8 \(byte 13: 0xe8 cannot be read\)"):
        read_table(path)
    path.write_bytes(table(SIMPLIFIED).encode("utf-16")[:-3])
    with pytest.raises(DataError, match=r"t\.csv:\d+: is not UTF-16 \(character \d+: 0x"):
        read_table(path)
    with pytest.raises(DataError, match=r"t\.csv: encoding: there is no 'gb2319'; known are utf-8"):
        read_table(path, encoding="gb2319")
    for name in ("idna", "undefined"):
        with pytest.raises(DataError, match=rf"t\.csv: encoding: '{name}' is not one in which files are written"):
            read_table(path, encoding=name)
    path.write_bytes(bytes(range(128, 256)) * 40)
    with pytest.raises(DataError, match=r"t\.csv:1: is not UTF-8"):
        read_table(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
def test_separators_and_line_ends_are_found_out(delimiter: str, ending: str, name: str, folder: Path) -> None:
    texts = ["two lines,\nof text; here", 'said "so", twice', "a|b", " tabs\tinside ", "plain"]
    (folder / name).write_bytes(table(texts, delimiter, ending).encode())
    assert texts_of(folder / name) == [text.strip() for text in texts]
    found = discover(folder)
    assert found is not None
    assert found.table == folder / name


def test_a_first_line_of_excel_names_the_separator(folder: Path) -> None:
    for first in ("sep=^\r\n", "SEP=^\n", '"sep=^"\r\n'):
        (folder / "t.csv").write_text(first + table(SIMPLIFIED, "^"), encoding="utf-8-sig", newline="")
        assert texts_of(folder / "t.csv") == SIMPLIFIED
    (folder / "t.csv").write_text("image^text\n0.png^a\n", encoding="utf-8")
    assert texts_of(folder / "t.csv", delimiter="^") == ["a"]
    with pytest.raises(DataError, match=r"column 'image' for image: is not there, only 'image\^text'"):
        read_table(folder / "t.csv")


def test_commas_of_texts_do_not_hide_the_separator(folder: Path) -> None:
    lines = ["image;text;size, cm", "0.png;a, b, c;3, 4", "1.png;d, e, f;5, 6"]
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    assert texts_of(folder / "t.csv") == ["a, b, c", "d, e, f"]


def test_columns_that_a_spreadsheet_leaves_empty_do_not_count(folder: Path) -> None:
    lines = ["image,text,,", "0.png,a,,", ",,,", "1.png,b,,", "2.png,c", ""]
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    assert texts_of(folder / "t.csv") == ["a", "b", "c"]
    (folder / "t.csv").write_text(",image,,text\n0,0.png,x,a\n1,1.png,,b\n", encoding="utf-8")
    assert texts_of(folder / "t.csv") == ["a", "b"]
    (folder / "t.csv").write_text("image,text,\n0.png,a,\n1.png,b,over\n2.png\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_table(folder / "t.csv")
    assert "t.csv:3: has 3 fields, the header has 2" in str(caught.value)
    assert "t.csv:4: has 1 fields, the header has 2" in str(caught.value)


def test_quotes_are_explained_at_the_line_where_they_begin(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_text('image,text\n0.png,a\n1.png,"never\nclosed\n2.png,c\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:3: a quote is opened here and not closed .*; the rest is not read"):
        read_table(path)
    path.write_text('image,text\n0.png,"a "b" c"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:2: holds a quote inside a quoted cell, which must be written twice"):
        read_table(path)
    path.write_text('image,text\n0.png,"' + "x" * 200_000, encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:2: has a cell of more than 131072 characters: is a quote"):
        read_table(path)


def test_nul_characters_are_named(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_bytes(table(SIMPLIFIED[:2]).encode() + bytes(60))
    with pytest.raises(DataError, match=r"t\.csv:4: holds NUL characters, as a file that was not written to its end"):
        read_table(path)


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_list_is_read_as_lines_are(name: str, indent: int | None, folder: Path) -> None:
    rows = [{"image": f"{n}.png", "title": [text, text + "。"]} for n, text in enumerate(SIMPLIFIED)]
    (folder / name).write_text("\n" + json.dumps(rows, indent=indent), encoding="utf-8-sig")
    assert len(read_table(folder / name, columns=Columns(text="title")).texts) == 10
    found = discover(folder)
    assert found is not None
    assert found.columns == {"text": "title"}
    (folder / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert len(read_table(folder / name, columns=Columns(text="title")).texts) == 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", '{\n "rows": []\n}', "is one JSON object over several lines; expected a list of rows"),
        ("t.json", '[{"image": "0.png"}', r"t\.json:1: is not a JSON array"),
        ("t.json", '[{"image": "0.png"},\n{]', r"t\.json:2: is not a JSON array"),
        ("t.json", '[{"image": "0.png", "text": "a"}, 3]', r"t\.json, entry 2: expected an object"),
        ("t.json", '{"image": "0.png", "text": "a", "text": "b"}', "'text' occurs twice in an object"),
        ("t.json", "[" * 9999, "is nested too deeply"),
        ("t.json", "[]", "has no rows"),
        ("t.json", '{"image": ["0.png", "1.png"], "text": ["a", "b"]}', "is one object whose values are columns"),
        ("t.json", '{"image": {"0": "0.png"}, "text": {"0": "a"}}', "is one object whose values are columns"),
        ("t.csv", "image,text\n", "has no rows"),
        ("t.csv", "\n\n", "has no rows"),
        ("t.csv", "image,text,image\n0.png,a,1.png\n", "column 'image' occurs twice"),
        ("t.csv", "<!DOCTYPE html><html>", "is a web page"),
        ("t.csv", "version https://git-lfs.github.com/spec/v1\nsize 9\n", "is a Git LFS pointer"),
        (
            "t.csv",
            "PK\x03\x04...",
            "is a spreadsheet or another zip archive, whatever its name ends with",
        ),
        ("t.ods", "", "is a spreadsheet; save it as CSV"),
        ("t.md", "", r"is not \.csv, \.tsv, \.tab, \.txt, \.jsonl, \.ndjson or \.json"),
    ],
)
def test_what_is_no_table_is_named(name: str, content: str, message: str, folder: Path) -> None:
    (folder / name).write_text(content, encoding="utf-8", newline="")
    with pytest.raises(DataError, match=message):
        read_table(folder / name)


@given(
    data=st.binary(max_size=200) | st.text(st.sampled_from(MARKS), max_size=80).map(str.encode),
    ending=st.sampled_from([".csv", ".tsv", ".txt", ".jsonl", ".json"]),
)
def test_any_bytes_are_rows_or_named(data: bytes, ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{ending}"
    path.write_bytes(data)
    problems = Problems(path)
    said = ""
    rows = []
    try:
        rows = list(table_rows(path, problems, quiet=True))
    except DataError as error:
        said = str(error)
    assert str(path) in said or (said == "" and all(isinstance(name, str) for row in rows for name in row.fields))


def test_other_text_files_are_decoded_alike(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.txt").write_bytes("0#zhm#0 一只青花瓶\n1#zhm#0 两只仙鹤\n".encode("gbk"))
    assert [item.text for item in read_captions(folder / "c.txt", folder).texts] == ["一只青花瓶", "两只仙鹤"]
    assert "c.txt: is read as GB18030 (GBK), which is a guess" in capsys.readouterr().err
    documents = [{"text_id": n, "text": text, "image_ids": [n]} for n, text in enumerate(TRADITIONAL)]
    rows = [json.dumps(document, ensure_ascii=False) for document in documents]
    (folder / "test_texts.jsonl").write_bytes("\n".join(rows).encode("cp950"))
    for encoding in (None, "big5hkscs"):
        found = read_chinese_clip(folder, "test", images=folder, encoding=encoding)
        assert [item.text for item in found.texts] == TRADITIONAL


LATIN = "Vase à décor bleu, début du siècle"


def encoded(path: Path, *lines: str, encoding: str = "mac_roman") -> Path:
    """Write lines in an encoding that no one would guess."""
    path.write_bytes("".join(line + "\n" for line in lines).encode(encoding))
    return path


@pytest.mark.parametrize("form", ["parallel", "translated", "karpathy", "artwork pairs", "vatex"])
def test_every_text_file_is_decoded_as_it_is_told(folder: Path, tmp_path: Path, form: str) -> None:
    how: dict[str, Any] = {"encoding": "mac_roman"}
    english = encoded(tmp_path / "en.txt", "0#enc#0 a vase")
    french = encoded(tmp_path / "fr.txt", f"0#enc2fr#0 {LATIN}")
    if form == "parallel":
        names, texts = encoded(tmp_path / "list.txt", "0.png"), encoded(tmp_path / "train.fr", LATIN)
        found: Any = read_parallel_captions(names, folder, {"fr": [texts]}, require_pictures=False, **how)
    elif form == "translated":
        languages = {"source_language": "en", "target_language": "fr"}
        found = read_translated_captions(english, french, folder, require_pictures=False, **languages, **how)
    elif form == "karpathy":
        split = tmp_path / "split.json"
        split.write_text(json.dumps({"images": [{"split": "test", "filename": "0.png", "sentences": []}]}))
        plain = encoded(tmp_path / "plain.txt", f"0#0\t{LATIN}")
        found = read_karpathy(split, folder, captions=plain, language="fr", **how)
    elif form == "artwork pairs":
        row = {"id": "0", "image": "0.png", "text": LATIN}
        found = read_artwork_pairs(encoded(folder / "a.jsonl", json.dumps(row, ensure_ascii=False)), **how)
    else:
        video = tmp_path / "vatex.json"
        video.write_text(json.dumps([{"videoID": "0", "enCap": ["a vase"]}]))
        found = read_vatex(video, translations=french, **how)
    assert LATIN in [item.text for item in found.texts]


def test_whatever_may_be_told_to_name_an_encoding_can(ha_registry: Registry) -> None:
    without = {"folder", "iiif", "fold", "union", "details", "cropped"}  # no text file of their own that is decoded
    for spec in ha_registry.components("dataset"):
        config = ha_registry.config_model(spec)
        if spec.name not in without and "heritage_align_plugins.datasets" in config.__module__:
            assert "encoding" in config.model_fields, spec.name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_files_that_were_joined_keep_their_marks_to_themselves(folder: Path, encoding: str) -> None:
    halves = ["image,text\n0.png,a\n", "1.png,b\n"]
    (folder / "t.csv").write_bytes("".join("\ufeff" + half for half in halves).encode(encoding))
    assert [item.image_ids for item in read_table(folder / "t.csv").texts] == [("0.png",), ("1.png",)]
    rows = [json.dumps({"image": f"{n}.png", "text": "a"}) for n in range(2)]
    (folder / "t.jsonl").write_bytes("\n".join("\ufeff" + row for row in rows).encode(encoding))
    assert len(read_table(folder / "t.jsonl").texts) == 2


def test_an_encoding_that_is_not_found_out_is_said_once_how_to_name(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_bytes("image,text\n0.png,Голубая ваза с драконом\n1.png,Тарелка\n".encode("cp1251"))
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value).count("the setting `encoding` names another encoding") == 1
    assert texts_of(path, encoding="cp1251") == ["Голубая ваза с драконом", "Тарелка"]


def test_a_row_that_is_alone_may_have_lists(folder: Path) -> None:
    row = '{"image": ["0.png", "1.png"], "text": ["a", "b"]}'
    for name, content in (("t.json", f"[{row}]"), ("t.jsonl", row), ("u.json", row[:-1] + ', "id": "x"}')):
        (folder / name).write_text(content)
        assert [item.image_ids for item in read_table(folder / name).texts] == [("0.png", "1.png")] * 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX systems")
def test_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "t.csv")
    with pytest.raises(DataError, match=r"t\.csv: is a pipe or a device, not a file"):
        read_table(folder / "t.csv")
    with pytest.warns(Note, match=r"its pictures are taken without texts: t\.csv: is a pipe"):
        assert discover(folder) is None
    (folder / "u.csv").mkdir()
    with pytest.raises(DataError, match=r"u\.csv: is a folder, not a file"):
        read_table(folder / "u.csv")


def test_of_an_empty_file_nothing_is_guessed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "t.csv").write_bytes(b"")
    with pytest.raises(DataError, match="has no rows"):
        read_table(folder / "t.csv")
    assert capsys.readouterr().err == ""
