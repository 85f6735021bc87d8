"""TREC runs: what is written comes back, and what others wrote is read or refused by its line."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.errors import DataError
from heritage_align.runs import from_trec, to_trec
from heritage_align.types import Run

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
scores = st.floats(allow_nan=False)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    queries = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    answers = [draw(st.lists(ids, min_size=1, max_size=5, unique=True)) for _ in queries]
    values = [sorted((draw(scores) for _ in row), reverse=True) for row in answers]
    return Run(tuple(queries), answers, values, tag=draw(ids.filter(str.strip)))


@given(runs())
def test_a_run_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    path = tmp_path_factory.mktemp("run") / "run.trec"
    to_trec(run, path)
    assert from_trec(path) == run
    *lines, last = path.read_bytes().decode("utf-8").split("\n")
    assert all(len(line.split()) == 6 for line in lines)
    assert (len(lines), last) == (sum(map(len, run.ids)), "")


def test_the_form(tmp_path: Path) -> None:
    answers, values = [["images/龙 纹.jpg", "b%20"], ["c"]], [[0.1, 1e-30], [-float("inf")]]
    run = Run(("q 1", "q2"), answers, values, tag="my tag")
    to_trec(run, tmp_path / "run.trec")
    assert (tmp_path / "run.trec").read_text(encoding="utf-8") == (
        "q%201 Q0 images/龙%20纹.jpg 1 0.1 my%20tag\nq%201 Q0 b%2520 2 1e-30 my%20tag\nq2 Q0 c 1 -inf my%20tag\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.trec"]


def test_ir_measures_reads_our_runs(tmp_path: Path) -> None:
    run = Run(("q1",), [["b", "a"]], [[0.75, 0.5]])
    to_trec(run, tmp_path / "run.trec")
    read = [(s.query_id, s.doc_id, s.score) for s in ir_measures.read_trec_run(str(tmp_path / "run.trec"))]
    assert read == [("q1", "b", 0.75), ("q1", "a", 0.5)]


def test_other_systems_runs(tmp_path: Path) -> None:
    """Scores order, ranks break ties; percent codes that we would not have written stay; blank lines go."""
    path = tmp_path / "other.trec"
    path.write_bytes(
        b"\xef\xbb\xbfq Q0 low 0 1 bm25\r\n\nq Q0 second 2 5.0 bm25\n"
        b"q\tQ0\tfirst\t1\t5 bm25\nq 0 %E4%B8%AD 0 2e0 bm25\n"
    )
    run = from_trec(path)
    assert run == Run(("q",), [["first", "second", "%E4%B8%AD", "low"]], [[5.0, 5.0, 2.0, 1.0]], tag="bm25")


def test_equal_scores_keep_their_order(tmp_path: Path) -> None:
    run = Run(("q",), [["z", "a", "m"]], [[1.0, 1.0, 1.0]])
    to_trec(run, tmp_path / "run.trec")
    assert from_trec(tmp_path / "run.trec").ids == [["z", "a", "m"]]


def test_every_fault_is_in_one_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.trec"
    path.write_bytes(
        b"q Q0 a 1 0.5 t\nq Q0 a 2 0.4 t\nq Q0 b 2 0.4\nq Q0 c x 0.4 t\nq Q0 d 3 high t\nq Q0 e 4 nan t\n"
        b"q Q0 f 5 0.1 other\nq Q0 \xff 6 0.1 t\n"
    )
    with pytest.raises(DataError) as error:
        from_trec(path)
    message = str(error.value)
    assert message.startswith(f"{path}: 7 problems\n")
    for line, problem in [
        (2, "query 'q' has the answer 'a' on line 1 already"),
        (3, "expected 6 fields 'query Q0 id rank score tag', got 5"),
        (4, "rank 'x' is not an integer"),
        (5, "score 'high' is not a number"),
        (6, "score is NaN"),
        (7, "tag 'other' differs from 't' on line 1: two runs in one file"),
        (8, "is not UTF-8"),
    ]:
        assert f"{path}:{line}: {problem}" in message


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        from_trec(tmp_path / "none")
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(DataError, match="holds no run"):
        from_trec(tmp_path / "empty")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run(("q",), [["a", ""]], [[1.0, 0.5]]), "query 'q', rank 2: an empty id"),
        (Run(("",), [["a"]], [[1.0]]), "an empty id"),
        (Run(("q",), [["a"]], [[float("nan")]]), "query 'q', answer 'a': the score is NaN"),
        (Run(("q",), [["a"]], [[1.0]], tag=" "), "has no tag"),
    ],
)
def test_a_run_that_cannot_be_written_leaves_the_old_file(tmp_path: Path, run: Run, message: str) -> None:
    path = tmp_path / "run.trec"
    path.write_text("old")
    with pytest.raises(DataError, match=message):
        to_trec(run, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.trec"]


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none/run\.trec: cannot be written: No such file"):
        to_trec(Run(("q",), [["a"]], [[1.0]]), tmp_path / "none/run.trec")
