"""Lines, fields, paths and collected problems: the ground on which every reader stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from heritage_align.data.fields import UniqueIds, as_id, as_list, as_text, as_texts, optional, required
from heritage_align.data.lines import jsonl_rows, numbered_lines, read_json
from heritage_align.data.pictures import path_below, walk_pictures
from heritage_align.data.problems import SHOWN, Problems
from heritage_align.errors import DataError


def test_problems_show_the_first_and_count_all() -> None:
    problems = Problems("captions.txt")
    problems.raise_if_any()
    for line in range(SHOWN + 7):
        problems.add(f"captions.txt:{line + 1}", "is empty")
    with pytest.raises(DataError) as error:
        problems.raise_if_any()
    lines = str(error.value).splitlines()
    assert lines[0] == f"captions.txt: {SHOWN + 7} problems"
    assert lines[1] == "  captions.txt:1: is empty"
    assert lines[-1] == "  ... and 7 more"
    assert len(lines) == 1 + SHOWN + 1


def test_a_line_that_is_not_utf8_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff一\n".encode() + "龙纹\n".encode("gb18030") + "三\n".encode())
    problems = Problems(path)
    assert list(numbered_lines(path, problems)) == [(1, "一\n"), (3, "三\n")]
    with pytest.raises(DataError, match=rf"{path}:2: is not UTF-8 \(byte 1"):
        problems.raise_if_any()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read: No such file"):
        list(jsonl_rows(tmp_path / "none.jsonl", Problems("x")))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1', "is not JSON"),
        ("[1, 2]", "expected an object {...}, got list"),
        ("[" * 200_000, "nested too deeply"),
        ("9" * 5000, "is not JSON"),
    ],
)
def test_a_broken_json_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"ok": 1}}\n\n{line}\n{{"ok": 2}}\n', encoding="utf-8")
    problems = Problems(path)
    assert [row.place for row in jsonl_rows(path, problems)] == [f"{path}:1", f"{path}:4"]
    with pytest.raises(DataError) as error:
        problems.raise_if_any()
    assert f"{path}:3: " in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]".encode("utf-16"), r"is not UTF-8 \(byte 1"),
        (b"[", r"is not a list of songs: .* \(column 2\)"),
        (b"[" * 100_000, "is not a list of songs: is nested too deeply"),
        (b"{}", "is not a list of songs: must be a list, got dict"),
    ],
)
def test_a_broken_json_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes("\ufeff[1]".encode())
    assert read_json(path, "a list of songs", as_list) == [1]
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read_json(path, "a list of songs", as_list)
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read: Is a directory"):
        read_json(tmp_path, "a list of songs", as_list)


def test_what_a_reader_says_of_a_json_file_is_said_with_the_file(tmp_path: Path) -> None:
    def refuse(document: object) -> None:
        raise DataError(f"has {document}")

    path = tmp_path / "a.json"
    path.write_text("3")
    with pytest.raises(DataError, match=f"^{path}: has 3$"):
        read_json(path, "a list of songs", refuse)


@pytest.mark.parametrize(("value", "expected"), [(7, "7"), (-1, "-1"), ("a b", "a b"), (10**30, "1" + "0" * 30)])
def test_ids_are_integers_or_strings(value: object, expected: str) -> None:
    assert as_id(value) == expected


@pytest.mark.parametrize("value", [True, 1.0, None, "", "  ", [1], {"a": 1}, "\ud800"])
def test_nothing_else_is_an_id(value: object) -> None:
    with pytest.raises(ValueError, match=r"must be a string or an integer|is empty|surrogate"):
        as_id(value)


@pytest.mark.parametrize("value", ["", " \u3000\n", 3, None, ["text"], "a\udcffb"])
def test_a_text_is_a_string_that_says_something(value: object) -> None:
    with pytest.raises(ValueError, match=r"is empty|must be a string|surrogate"):
        as_text(value)


def test_fields_say_their_name_and_what_is_there_instead() -> None:
    assert required({"text": " a "}, "text", as_text) == "a"
    assert optional({"phrases": None}, "phrases", as_texts, ("x",)) == ("x",)
    with pytest.raises(ValueError, match=r"has no 'text' \(it has: 'txt'\)"):
        required({"txt": "a"}, "text", as_text)
    with pytest.raises(ValueError, match="'text' is empty"):
        required({"text": None}, "text", as_text)
    with pytest.raises(ValueError, match="'phrases' entry 2 must be a string, got int 3"):
        optional({"phrases": ["a", 3]}, "phrases", as_texts, ())


def test_a_repeated_id_names_both_places_even_on_one_line() -> None:
    problems = Problems("x")
    unique = UniqueIds("text id", problems)
    place = "x:1"
    assert unique.add("a", place)
    assert not unique.add("a", place)
    assert not unique.add("a", "x:9")
    with pytest.raises(DataError, match=r"x:9: text id 'a' was already used at x:1"):
        problems.raise_if_any()
    assert problems.count == 2


@pytest.mark.parametrize(
    ("relative", "normal"),
    [("a/b.jpg", "a/b.jpg"), ("a//./b.jpg", "a/b.jpg"), ("a\\b.jpg", "a/b.jpg"), ("a/../b", "b")],
)
def test_paths_are_joined_in_their_normal_form(tmp_path: Path, relative: str, normal: str) -> None:
    assert path_below(tmp_path, relative) == (normal, tmp_path / normal)


@pytest.mark.parametrize("relative", ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "C:\\a.jpg", "..", ".", "a\0b"])
def test_paths_do_not_leave_their_folder(tmp_path: Path, relative: str) -> None:
    with pytest.raises(ValueError, match=r"leads out of|absolute path|names no file|NUL"):
        path_below(tmp_path, relative)


def test_pictures_are_listed_by_name_with_their_subfolders(tmp_path: Path) -> None:
    for name in ["b.JPG", "a/2.png", "a/10.png", "._b.jpg", "note.txt", ".cache/x.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [relative for relative, _ in walk_pictures(tmp_path)] == ["b.JPG", "a/10.png", "a/2.png"]
    with pytest.raises(DataError, match="no such folder"):
        list(walk_pictures(tmp_path / "none"))
    with pytest.raises(DataError, match="is not a folder"):
        list(walk_pictures(tmp_path / "note.txt"))


def test_what_is_nested_too_deeply_to_be_shown_is_refused_all_the_same() -> None:
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ValueError, match=r"must be a string, got list \.\.\."):
        as_text(nested)
