"""The benchmark's own parts: peers compute the right thing, wrong scores are not timed, goals are judged as written."""

import json
from pathlib import Path

import pytest
import torch

from heritage_align import ops
from heritage_align.bench import cases, goals, kernels, peers, run_benchmark
from heritage_align.bench.timing import time_in_turn
from heritage_align.ops import reference

TINY = cases.Sizes(images=3, captions=4, rerank=33, documents=64, batch=3)


def test_published_structure_equals_the_reference() -> None:
    collection = cases.Collection(TINY, torch.device("cpu"), dim=24, m=5)
    padded = collection.images.values.view(3, 5, 24)
    scan = reference.focal_attention_score(collection.images, collection.texts)
    torch.testing.assert_close(peers.scan_per_caption(padded, collection.texts), scan, atol=2e-6, rtol=2e-6)
    bfan = reference.focal_attention_score(collection.images, collection.texts, **cases.BFAN)
    torch.testing.assert_close(peers.bfan_per_caption(padded, collection.texts), bfan, atol=2e-6, rtol=2e-6)
    queries = ops.Ragged(padded.flatten(0, 1), collection.images.offsets)
    torch.testing.assert_close(peers.maxsim_padded(padded, padded), reference.maxsim_score(queries, queries))


def test_every_case_runs_and_writes_its_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cases, "CPU_SIZES", TINY)
    monkeypatch.setattr(kernels, "copy_bandwidth", lambda *_args, **_settings: 1e9)
    lines: list[str] = []
    result = run_benchmark(seconds=0.0, out=tmp_path, curve=False, say=lines.append)
    assert json.loads((tmp_path / "kernels-cpu.json").read_text())["rows"] == result["rows"]
    assert {goal["goal"] for goal in result["goals"]} == {goal.text for goal in goals.CPU_GOALS}
    assert all(row["p20"] <= row["p50"] <= row["p80"] for row in result["rows"])
    assert len(lines) > len(result["rows"])


def test_wrong_scores_are_not_timed() -> None:
    with pytest.raises(AssertionError, match=r"wrong by 1\.00e-02, allowed 1e-05: not timed"):
        cases._compare(torch.tensor([1.01], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64), 1e-5)


def test_goals_are_ratios_of_medians() -> None:
    goal = goals.Goal("twice", ("a", "float32", "ours"), ("a", "float32", "bare"), 2.0, 1.5)
    absent = goals.Goal("absent", ("b", "float32", "ours"), ("b", "float32", "bare"), 2.0, 1.5)
    verdicts = []
    for p50 in (1.4, 1.9, 2.1):
        rows = [
            {"case": "a", "dtype": "float32", "contender": "ours", "p50": p50},
            {"case": "a", "dtype": "float32", "contender": "bare", "p50": 1.0},
        ]
        (answer,) = goals.judged(rows, [goal, absent])
        verdicts.append(answer["verdict"])
    assert verdicts == ["stretch", "accept", "missed"]


def test_contenders_take_turns() -> None:
    order: list[str] = []
    work = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timings = time_in_turn(work, torch.device("cpu"), seconds=0.0)
    assert order == ["a", "b"] * 4, "one round to warm up, three that count"
    assert timings["a"].runs == 3
