"""Prediction files against cn_clip's own scorer, which is installed: its rules, and its recalls beside ours."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from cn_clip.eval import evaluation, evaluation_tr, transform_ir_annotation_to_tr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heritage_align.cli import cli
from heritage_align.errors import DataError
from heritage_align.evaluation.predictions import write_predictions
from heritage_align.pipeline import Pipeline

IMAGES = 12


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Chinese-CLIP's form, two texts an image, the last text of two images."""
    folder = tmp_path_factory.mktemp("MUGE")
    (folder / "images").mkdir()
    rng = np.random.default_rng(2)
    rows: list[dict[str, Any]] = []
    for number in range(IMAGES):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(
            folder / "images" / f"{900 + number}.png"
        )
        for word in ("连衣裙", "青花瓷"):
            rows.append({"text_id": 10 + len(rows), "text": f"{word}{number}", "image_ids": [900 + number]})
    rows[-1]["image_ids"].append(900)
    _write(folder / "valid_texts.jsonl", rows)
    _write(folder / "test_texts.jsonl", [{"text_id": row["text_id"], "text": row["text"]} for row in rows])
    return folder


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def call(laclip: Pipeline, valid: Path, tmp_path: Path) -> Callable[..., Result]:
    file = tmp_path / "config.yaml"
    file.write_text(laclip.config.to_yaml())

    def evaluate(split: str, *more: str) -> Result:
        data = f"data={{name: chinese_clip, folder: {valid}, split: {split}, images: {valid / 'images'}}}"
        return CliRunner().invoke(cli, ["evaluate", str(file), "--set", data, *more])

    return evaluate


def test_the_scorer_accepts_both_files_and_counts_as_we_do(
    call: Callable[..., Result], valid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    result = call("valid", "--out", str(out), "--predictions")
    assert result.exit_code == 0, result.output
    metrics = json.loads((out / "metrics.json").read_text())["systems"][0]
    files = out / "predictions" / "tiny"
    t2i = evaluation.compute_score(valid / "valid_texts.jsonl", files / "valid_predictions.jsonl")
    assert t2i == pytest.approx([metrics["t2i"][key] for key in ("mean_recall", "R@1", "R@5", "R@10")])

    reference = tmp_path / "valid_texts.jsonl"
    reference.write_bytes((valid / "valid_texts.jsonl").read_bytes())
    monkeypatch.setattr(sys, "argv", ["transform", "--input", str(reference)])
    runpy.run_path(transform_ir_annotation_to_tr.__file__, run_name="__main__")
    i2t = evaluation_tr.compute_score(tmp_path / "valid_texts.tr.jsonl", files / "valid_tr_predictions.jsonl")
    assert i2t == pytest.approx([metrics["i2t"][key] for key in ("mean_recall", "R@1", "R@5", "R@10")])
    assert 0 < i2t[1] < 100  # else both could be wrong together


def test_a_test_set_without_answers_gets_its_files_and_no_recall(call: Callable[..., Result], tmp_path: Path) -> None:
    result = call("test", "--out", str(tmp_path / "out"), "--predictions")
    assert result.exit_code == 0, result.output
    assert "nothing to evaluate" in result.stdout
    rows = _lines(tmp_path / "out" / "predictions" / "tiny" / "test_predictions.jsonl")
    assert [row["text_id"] for row in rows] == list(range(10, 10 + 2 * IMAGES))
    assert all(len(set(row["image_ids"])) == 10 and set(row["image_ids"]) <= set(range(900, 912)) for row in rows)
    shown = call("test", "--out", str(tmp_path / "out"), "--predictions", "--json").stdout
    assert json.loads(shown)["systems"] == ["tiny"]


def test_what_cannot_be_predicted_is_said_before_the_work(call: Callable[..., Result], tmp_path: Path) -> None:
    for arguments, said in (
        (("valid", "--predictions"), "needs --out"),
        (("valid", "--predictions", "--repeats", "2", "--out", str(tmp_path / "out")), "no --repeats"),
        (("test",), "nothing to evaluate"),
    ):
        result = call(*arguments)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert said in result.stderr
        assert result.stderr.lower().count("error:") == 1


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@given(st.integers(0, 2**32 - 1), st.integers(10, 30), st.integers(10, 30), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_order_is_that_of_chinese_clips_script(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_images: int, n_texts: int, levels: int
) -> None:
    # Few levels, so that ties abound: make_topk_predictions.py sorts with Python's stable sort.
    scores = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (n_images, n_texts))).float()
    images, texts = [str(7 * i) for i in range(n_images)], [str(i) for i in range(n_texts)]
    to_images, to_texts = write_predictions(scores, images, texts, tmp_path_factory.mktemp("p"), "test")
    for row, line in enumerate(_lines(to_images)):
        ranked = sorted(range(n_images), key=lambda image: scores[image, row].item(), reverse=True)
        assert line == {"text_id": row, "image_ids": [7 * image for image in ranked[:10]]}
    for row, line in enumerate(_lines(to_texts)):
        ranked = sorted(range(n_texts), key=lambda text: scores[row, text].item(), reverse=True)
        assert line == {"image_id": 7 * row, "text_ids": ranked[:10]}


@pytest.mark.parametrize("odd", ["a.png", "007", "+7", "-0", "7.0", "１２", " 7", "1_0"])
def test_ids_stay_strings_unless_all_are_integers(tmp_path: Path, odd: str) -> None:
    ids = [odd, *map(str, range(100, 109))]
    to_images, to_texts = write_predictions(torch.eye(10), ids, [str(i) for i in range(10)], tmp_path, "test")
    assert _lines(to_images)[0] == {"text_id": 0, "image_ids": ids}
    assert _lines(to_texts)[0] == {"image_id": odd, "text_ids": list(range(10))}


def test_too_few_candidates_and_bad_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="10 answers a query, and there are 9 images and 40 texts"):
        write_predictions(torch.zeros(9, 40), ["x"] * 9, ["y"] * 40, tmp_path, "test")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_predictions(torch.eye(10), ["x"] * 10, ["y"] * 10, tmp_path / "file", "test")
