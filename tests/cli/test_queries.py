"""Many queries in one start: ids, answers in both forms, a program that waits for each answer, bad input."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from heritage_align.cli import cli, queries
from heritage_align.cli.queries import batches_of_queries
from heritage_align.errors import DataError
from heritage_align.runs import from_trec
from heritage_align.types import Hit

Call = Callable[..., Result]
QUERIES = "蓝地，白鹤\r\nq-2\ta crane, a peony\n\n鹤"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "queries.txt"
    path.write_bytes(QUERIES.encode("utf-8-sig"))
    return path


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def near(expected: Any) -> Any:
    """Return JSON whose numbers may be another in their last bits, as they are for other batches (seen on a Xeon)."""
    if isinstance(expected, dict):
        return {key: near(value) for key, value in expected.items()}
    if isinstance(expected, list):
        return [near(value) for value in expected]
    return pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected


def test_every_query_gets_what_it_gets_alone(call: Call, scan_file: Path, scan_store: Path, file: Path) -> None:
    result = call("search", scan_file, "--store", scan_store, "--queries", file, "--top-k", "3")
    assert result.exit_code == 0, result.output
    found = records(result.stdout)
    assert [(record["id"], record["query"]) for record in found] == [
        ("1", "蓝地，白鹤"),
        ("q-2", "a crane, a peony"),
        ("4", "鹤"),
    ]
    for record in found:
        alone = call("search", scan_file, record["query"], "--store", scan_store, "--top-k", "3", "--json")
        assert record["hits"] == near(json.loads(alone.stdout)["hits"])
    assert found[0]["hits"][0]["regions"][0]["phrase"] == "蓝地"


def test_answers_go_to_a_file_of_either_form(
    call: Call, scan_file: Path, scan_store: Path, file: Path, tmp_path: Path
) -> None:
    asked = ("search", scan_file, "--store", scan_store, "--queries", file, "--candidates", "10", "--out")
    for name in ("answers.jsonl", "answers.trec"):
        assert call(*asked, tmp_path / name).stdout == f"wrote {tmp_path / name}: 3 queries\n"
    lines, run = records((tmp_path / "answers.jsonl").read_text("utf-8")), from_trec(tmp_path / "answers.trec")
    assert run.query_ids == tuple(record["id"] for record in lines)
    assert run.ids == [[hit["id"] for hit in record["hits"]] for record in lines]
    assert run.scores == [[hit["score"] for hit in record["hits"]] for record in lines]
    assert sorted(path.name for path in tmp_path.glob("*answers*")) == ["answers.jsonl", "answers.trec"]


def test_batches_change_nothing(
    call: Call, scan_file: Path, scan_store: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("search", scan_file, "--store", scan_store, "--queries", file)
    together = records(call(*asked).stdout)
    monkeypatch.setattr(queries, "BATCH", 1)
    monkeypatch.setattr(queries, "READ_BYTES", 5)  # lines, and characters, are cut by the reads
    assert records(call(*asked).stdout) == near(together)


def test_a_program_gets_an_answer_before_it_asks_again(scan_file: Path, scan_store: Path) -> None:
    command = [sys.executable, "-m", "heritage_align", "search", str(scan_file), "--store", str(scan_store)]
    with subprocess.Popen(
        [*command, "--queries", "-", "--top-k", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, query in enumerate(["白鹤", "a peony", "蓝地"], start=1):
            process.stdin.write(query + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())  # would wait for ever if answers waited for more queries
            assert (answer["id"], answer["query"]) == (str(number), query)
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "gb18030", "big5"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_files_of_any_encoding_and_line_ends(encoding: str, end: str, tmp_path: Path) -> None:
    texts = ["藍地纏枝蓮紋", "", "紅色的牡丹花", "白鶴"]
    (tmp_path / "q.txt").write_bytes(end.join([*texts, ""]).encode(encoding))
    items = [item for batch in batches_of_queries(str(tmp_path / "q.txt")) for item in batch]
    assert [(item.id, item.text) for item in items] == [("1", texts[0]), ("3", texts[2]), ("4", texts[3])]


def test_old_line_ends_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("鹤\r莲\r".encode())))
    with pytest.raises(DataError, match="standard input:1: holds carriage returns"):
        list(batches_of_queries("-"))


def test_a_text_that_is_no_unicode_is_named(call: Call, scan_file: Path, scan_store: Path) -> None:
    """A terminal of another encoding hands such texts over."""
    for asked in (["红\udc80"], ["鹤", "--phrase", "\udc80"]):
        result = call("search", scan_file, "--store", scan_store, *asked)
        assert result.exit_code == 2
        assert "text 'query' is no Unicode" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_text_besides_that_is_empty_is_called_a_text(call: Call, scan_file: Path, pictures: Path) -> None:
    for option, text in (("--text", "\u200b"), ("--text", ""), ("--phrase", " ")):
        result = call("search", scan_file, "--store", "none", "--image", pictures, option, text)
        assert result.exit_code == 2
        assert f"Invalid value for '{option}': is empty; give a text" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no query"),
        (b"\n  \n", "holds no query"),
        ("鹤".encode() * 9 + b"\n\xff\xfe\n", "queries.txt:2: is not UTF-8 (byte 1: 0xff cannot be read)"),
        (b"a\tcrane\nb\tpeony\na\tcloud\n", "queries.txt:3: query id 'a' occurs twice"),
        (b"\tcrane\n", "queries.txt:1: expected a text, or an id, a tab and a text"),
        (b"a\t \n", "queries.txt:1: expected a text, or an id, a tab and a text"),
        (b'{"id": 1, "text": "crane"}\n', "queries.txt:1: is JSON; expected a text, or an id, a tab and a text"),
        (b"crane " * 30 + b"\na\0b\n", "queries.txt:2: holds a NUL character; is this a text file?"),
        (b"PK\x03\x04" + bytes(30), "queries.txt: is a spreadsheet or another zip archive, whatever its name ends"),
        (b"<!doctype html><html>", "queries.txt: is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 1\n", "queries.txt: is a Git LFS pointer"),
    ],
)
@pytest.mark.parametrize("name", ["answers.jsonl", "answers.trec"])
def test_bad_queries_are_named_and_leave_no_file(
    call: Call, scan_file: Path, scan_store: Path, tmp_path: Path, content: bytes, message: str, name: str
) -> None:
    path = tmp_path / "queries.txt"
    path.write_bytes(content)
    result = call("search", scan_file, "--store", scan_store, "--queries", path, "--out", tmp_path / name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [found.name for found in tmp_path.iterdir()] == ["queries.txt"]


def test_bad_options_are_named(call: Call, scan_file: Path, scan_store: Path, file: Path, tmp_path: Path) -> None:
    asked = ("search", scan_file, "--store", scan_store)
    for more, message in (
        ((), "give a text, --image or --queries, one of the three"),
        (("鹤", "--queries", file), "give a text, --image or --queries, one of the three"),
        (("--queries", file, "--phrase", "鹤"), "--phrase is about the phrases of a text"),
        (("--queries", tmp_path / "none.txt"), "none.txt: cannot be read: No such file"),
        (("--queries", tmp_path), "cannot be read: Is a directory"),
        (("--queries", file, "--out", tmp_path / "x.csv"), "its name must end in .jsonl, .trec"),
        (("鹤", "--out", tmp_path / "x.trec"), "--out: is for the answers to --queries"),
        (("--queries", file, "--top-k", "0"), "top_k is 0, expected a whole number of at least 1"),
    ):
        result = call(*asked, *more)
        assert result.exit_code == 2, result.output
        assert message in result.stderr


def test_standard_input_is_named(scan_file: Path, scan_store: Path) -> None:
    arguments = ["search", str(scan_file), "--store", str(scan_store), "--queries", "-"]
    result = CliRunner().invoke(cli, arguments, input=b"")
    assert result.exit_code == 2
    assert "standard input: holds no query" in result.stderr


def test_a_file_that_is_none_is_named_before_anything_is_opened(call: Call, scan_file: Path, tmp_path: Path) -> None:
    result = call("search", scan_file, "--store", tmp_path / "nowhere", "--queries", tmp_path / "none.txt")
    assert "none.txt: cannot be read" in result.stderr
    blank = call("search", scan_file, "--store", tmp_path / "nowhere", "--queries", "")
    assert "is empty; name a file or folder" in blank.stderr


def test_a_line_without_an_end_is_refused(call: Call, scan_file: Path, scan_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.raw"
    path.write_bytes("鹤\n".encode() + bytes(3 * 2**20))
    result = call("search", scan_file, "--store", scan_store, "--queries", path)
    assert "picture.raw:2: is longer than 1,048,576 characters" in result.stderr


def test_a_terminal_without_chinese(scan_file: Path, scan_store: Path) -> None:
    command = [sys.executable, "-m", "heritage_align", "search", str(scan_file), "--store", str(scan_store)]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    for more in (["--queries", "-"], ["鹤", "--json"]):
        done = subprocess.run(
            [*command, *more], input="鹤\n".encode(), capture_output=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.decode("ascii"))["query"] == "鹤"


def test_a_hit_without_a_score_is_json() -> None:
    assert json.loads(json.dumps(Hit("a", -math.inf, 1).asdict(), allow_nan=False))["score"] is None
    assert Hit("a", 0.5, 1).asdict()["score"] == 0.5
