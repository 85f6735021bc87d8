"""What an encoder does not read of texts is told once, with the setting that reads more."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from heritage_align import Pipeline, TextItem
from heritage_align.cli import cli
from heritage_align.encoding.reading import told_together
from heritage_align.errors import Note
from heritage_align.recipes import read_document

LONG = "清乾隆蓝地粉彩缠枝莲纹双耳瓶" * 5


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_config(read_document("global")[1], ["runtime.device=cpu"])


def notes(pipeline: Pipeline, texts: Sequence[str]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline.encode_texts([TextItem(f"t{number}", text) for number, text in enumerate(texts)])
    return [str(warning.message) for warning in caught if issubclass(warning.category, Note)]


def test_short_texts_are_read_in_silence(pipeline: Pipeline) -> None:
    assert notes(pipeline, ["蓝地莲纹", "a vase"]) == []


def test_cut_texts_are_counted_once(pipeline: Pipeline) -> None:
    [said] = notes(pipeline, [LONG, "短", LONG + "花"])
    assert said.startswith("2 of 3 texts are longer than the 52 tokens that the encoder reads (the longest has 73)")
    assert "--set encoder.context_length=64 reads more, 64 is the most" in said
    [said] = notes(pipeline, [LONG])
    assert said.startswith("the text is longer than the 52 tokens")


def test_a_setting_that_reads_all_is_silent_and_tells_texts_apart() -> None:
    pipeline = Pipeline.from_config(read_document("global")[1], ["runtime.device=cpu", "encoder.context_length=64"])
    texts = [LONG[:50] + end for end in ("红凤", "绿水")]
    assert notes(pipeline, texts) == []


def test_a_million_characters_are_counted_quickly(pipeline: Pipeline) -> None:
    [said] = notes(pipeline, ["花" * 10**6])
    assert "the text is longer than the 52 tokens" in said


@pytest.mark.parametrize("text", ["🐉🐉", "\U0002b740\U0002b741", "ꀀꀁ"])
def test_a_text_of_unknown_tokens_is_named(pipeline: Pipeline, text: str) -> None:
    [said] = notes(pipeline, [text, "龙"])
    assert said.startswith(f"text 't0' ({text!r}): the encoder's vocabulary knows none of its")
    [said] = notes(pipeline, [text, text])
    assert said.startswith("2 texts, the first 't0'")


def test_calls_can_be_told_together(pipeline: Pipeline) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with told_together():
            for number in range(3):
                pipeline.encode_texts([TextItem(f"t{number}", LONG)])
            assert not caught
    assert [str(w.message)[:17] for w in caught] == ["3 of 3 texts are "]


def test_a_command_says_it_in_one_line(tmp_path: Path) -> None:
    from PIL import Image

    for name, colour in (("a.png", "navy"), ("b.png", "maroon")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / name)
    runner = CliRunner()
    built = runner.invoke(cli, ["index", "build", "global", "--data", str(tmp_path), "--out", str(tmp_path / "store")])
    assert built.exit_code == 0, built.output
    queries = "".join(f"{LONG}{number}\n" for number in range(300))  # more than are answered at once
    found = runner.invoke(
        cli,
        ["search", "global", "--store", str(tmp_path / "store"), "--queries", "-"],
        input=io.BytesIO(queries.encode()),
    )
    assert found.exit_code == 0, found.stderr
    assert len([json.loads(line) for line in found.stdout.splitlines()]) == 300
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith("note: 300 of 300 texts are longer")


def test_characters_are_searched_alike(pipeline: Pipeline) -> None:
    pytest.importorskip("opencc", reason="the optional extra 'chinese' is not installed")
    items = ["蓝地缠枝莲纹", "藍地纏枝蓮紋", "藍地纏枝\uf999紋", "蓝地缠枝莲纹\u200b"]
    rows = pipeline.encode_texts([TextItem(str(n), text) for n, text in enumerate(items)]).global_features
    assert (rows - rows[0]).abs().max() < 1e-6
    written = Pipeline.from_config(
        read_document("global")[1], ["runtime.device=cpu", "encoder.characters=as_written"]
    ).encode_texts([TextItem("t", items[1])])
    assert (written.global_features[0] - rows[0]).abs().max() > 1e-3
    assert (
        pipeline.encode_texts([TextItem("w", "ＡＢ　１２"), TextItem("p", "AB 12")])
        .global_features.diff(dim=0)
        .abs()
        .max()
        < 1e-6
    )
