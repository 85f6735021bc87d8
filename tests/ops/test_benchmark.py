"""The benchmark's own parts: contenders compute the right thing, wrong scores are not timed, goals are as written."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heritage_align.bench import case, cases, focal, goals, kernels, machine, peers, pooled, run_benchmark, training
from heritage_align.bench.case import Case, Contender, Setup
from heritage_align.bench.goals import CPU_GOALS, GPU_GOALS, Goal, judged, judged_value
from heritage_align.bench.timing import Timing, time_in_turn
from heritage_align.ops import reference

CPU = torch.device("cpu")
TINY = cases.Sizes(images=3, captions=4, store=33, documents=64, batch=3)
ROW_FIELDS = {
    "case", "shape", "dtype", "contender", "p20", "p50", "p80", "runs", "ratio_to_bare", "bytes_per_second",
    "share_of_copy", "flops_per_second",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectorised forms run uncompiled, and no second goes into rates."""
    monkeypatch.setattr(peers, "compiled", lambda function: function)
    monkeypatch.setattr(machine, "copy_bandwidth", lambda *_args, **_settings: 1e9)
    monkeypatch.setattr(machine, "matrix_rate", lambda **_settings: 1e12)


def test_published_and_vectorised_forms_equal_the_reference() -> None:
    images, texts = case.equal_items(3, 5, 24, CPU, 1), case.captions(4, 24, CPU, 2)
    padded = images.values.view(3, 5, 24)
    scan = reference.focal_attention_score(images, texts)
    torch.testing.assert_close(peers.scan_per_caption(padded, texts), scan, atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(peers.scan_padded(padded, *peers.padded_words(texts)), scan, atol=2e-6, rtol=2e-6)
    bfan = reference.focal_attention_score(images, texts, **focal.BFAN)
    torch.testing.assert_close(peers.bfan_per_caption(padded, texts), bfan, atol=2e-6, rtol=2e-6)
    maxsim = reference.maxsim_score(images, case.equal_items(2, 5, 24, CPU, 3)).T
    others = case.equal_items(2, 5, 24, CPU, 3).values.view(2, 5, 24)
    torch.testing.assert_close(peers.maxsim_padded(padded, others), maxsim)
    queries = case.unit_rows(2, 24, CPU, 4)
    pooled_scores = reference.patch_weighted_score(queries, images)
    torch.testing.assert_close(peers.patch_softmax_padded(queries, padded), pooled_scores, atol=1e-5, rtol=1e-5)


# What gpu_cases() measures, at sizes that take no time here.
SETUPS: dict[str, Callable[[], Setup]] = {
    **{
        f"{name}, {dtype}": partial(focal.all_pairs, 3, 4, CPU, dtype, settings, m=5, dim=64, in_float32=True)
        for name, settings in cases.FOCAL.items()
        for dtype in ("float16", "int8")
    },
    "SCAN, published": partial(focal.all_pairs, 3, 4, CPU, "float16", focal.SCAN, m=5, dim=64, published=True),
    "BFAN, published": partial(focal.all_pairs, 3, 4, CPU, "float16", focal.BFAN, m=5, dim=64, published=True),
    "SCAN, rerank": partial(focal.rerank, 2, 3, 7, CPU, "float16", focal.SCAN, m=5, dim=64),
    "BFAN, rerank": partial(focal.rerank, 2, 3, 7, CPU, "float16", focal.BFAN, m=5, dim=64),
    "patches, float16": partial(pooled.patch_all_pairs, 5, 4, CPU, "float16", m=7, dim=64),
    "patches, int8": partial(pooled.patch_all_pairs, 5, 4, CPU, "int8", m=7, dim=64),
    "patch rerank, float16": partial(pooled.patch_rerank, 8, 3, 9, CPU, "float16", m=7, dim=64),
    "patch rerank, int8": partial(pooled.patch_rerank, 8, 3, 9, CPU, "int8", m=7, dim=64),
    "fold, raw": partial(pooled.folding, 4, CPU, None, m=7, dim=64),
    "fold, softmax": partial(pooled.folding, 4, CPU, 0.01, m=7, dim=64),
    "MaxSim": partial(pooled.maxsim, 3, 5, 4, 6, 32, CPU),
    "training": partial(training.mined_pairs, 3, CPU, m=5, dim=32),
}


@pytest.mark.parametrize("name", SETUPS)
def test_every_contender_of_a_case_agrees_with_the_reference(name: str) -> None:
    setup = SETUPS[name]()
    assert setup.ours.check is not None
    for contender in (setup.ours, *setup.peers.values()):
        contender.work()
        if contender.check is not None:
            contender.check()
    if setup.agreement is not None:
        assert 0.5 < setup.agreement() <= 1.0


def test_floor_counts_each_candidate_image_once() -> None:
    setup = pooled.patch_rerank(50, 4, 6, CPU, "int8", m=7, dim=64)  # 50 lists of 4 of 6 images: all occur
    assert setup.bytes == 6 * 7 * 64
    assert setup.flops == 2 * 50 * 4 * 7 * 64
    focal_setup = focal.rerank(1, 3, 6, CPU, "float16", focal.SCAN, m=5, dim=64)
    assert focal_setup.bytes == 3 * (5 * 64 * 2 + 4 * 15)  # rows in float16, 5 * 6 / 2 numbers of the factor in float32


def test_wrong_scores_are_not_timed() -> None:
    right = torch.ones(100, dtype=torch.float64)
    with pytest.raises(AssertionError, match=r"wrong by 1\.00e-02, allowed 1e-05: not timed"):
        case.compare(1.01 * right, right, 1e-5)
    with pytest.raises(AssertionError, match="wrong by nan"):
        case.compare(torch.nan * right, right, 1e-5)
    one_off = right.clone()
    one_off[3] = 1.01
    assert case.compare(one_off, right, 1e-5, strays=0.01) == pytest.approx(0.01)
    with pytest.raises(AssertionError):
        case.compare(one_off, right, 1e-5, strays=0.009)


def test_every_case_of_the_cpu_runs_and_writes_its_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernels, "cpu_cases", lambda: cases.cpu_cases(TINY))
    monkeypatch.setenv("HERITAGE_ALIGN_COMMIT", "a1b2c3d")
    lines: list[str] = []
    result = run_benchmark(seconds=0.0, quick=True, out=tmp_path, say=lines.append)
    assert result["failed"] == []
    written = json.loads((tmp_path / "kernels-cpu.json").read_text())
    assert all(written[key] == result[key] for key in ("commit", "rows", "goals", "failed", "left_out"))
    assert written.keys() == {
        "commit", "settings", "machine", "copy_bytes_per_second", "rows", "goals", "failed", "left_out",
    }  # fmt: skip
    for row in written["rows"]:
        assert set(row) - {"max_error", "top10_agreement", "peak_memory"} == ROW_FIELDS
        assert row["p20"] <= row["p50"] <= row["p80"]
    assert [goal["goal"] for goal in written["goals"]] == [goal.text for goal in CPU_GOALS]
    assert all(goal["verdict"] != "not measured" and goal["commit"] == "a1b2c3d" for goal in written["goals"])
    assert {"case": "SCAN t2i", "dtype": "float32", "contender": "torch.compile", "reason": "not with --quick"} in (
        written["left_out"]
    )
    header = next(i for i, line in enumerate(lines) if line.startswith("milliseconds, p50"))
    assert [line[:58].strip() for line in lines[header + 1 :][: len(CPU_GOALS)]] == [goal.text for goal in CPU_GOALS]


def _constant(scores: Tensor, wrong: float = 0.0) -> Contender:
    return Contender(lambda: scores, lambda: case.compare(scores + wrong, scores, 1e-6))


def test_a_case_that_fails_loses_only_itself(tmp_path: Path) -> None:
    one = torch.ones(2, 2)

    def out_of_memory() -> Setup:
        raise MemoryError("no room for this case")

    good = Setup("2 x 2", _constant(one), {"bare": Contender(lambda: one), "wrong": _constant(one, 0.5)})
    chosen = [
        Case("set-up fails", "float32", out_of_memory),
        Case("scores are wrong", "float32", lambda: Setup("2 x 2", _constant(one, 1.0))),
        Case("good", "float32", lambda: good),
    ]
    lines: list[str] = []
    result = run_benchmark(seconds=0.0, out=tmp_path, cases=chosen, say=lines.append)
    assert {row["case"] for row in result["rows"]} == {"good"}
    assert [(row["contender"], row.get("max_error")) for row in result["rows"]] == [("ours", 0.0), ("bare", None)]
    assert [(failed["case"], failed["reason"]) for failed in result["failed"]] == [
        ("set-up fails", "MemoryError: no room for this case"),
        ("scores are wrong", "AssertionError: wrong by 1.00e+00, allowed 1e-06: not timed"),
    ]
    assert [one["contender"] for one in result["left_out"]] == ["wrong"]
    assert any(line.startswith("FAILED set-up fails, float32: MemoryError") for line in lines[-4:])
    late = run_benchmark(seconds=0.0, limit=-1.0, cases=chosen, say=lines.append)
    assert [failed["reason"][:20] for failed in late["failed"]] == ["TimeoutError: not be"] * 3


def test_every_goal_of_the_gpu_names_a_case_and_is_judged_in_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = {(one.name, one.dtype) for one in cases.gpu_cases()}
    assert len(known) == len(cases.gpu_cases())
    assert {(goal.case, goal.dtype) for goal in GPU_GOALS} <= known
    monkeypatch.setattr(machine, "machine_facts", lambda _: {"torch": "", "gpu": {"name": "Card", "path": "default"}})
    monkeypatch.setattr(machine, "nvidia_smi", dict)
    monkeypatch.setattr(machine, "label", lambda _: "card")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(kernels, "peak_memory", lambda *_: 0)
    monkeypatch.setattr(kernels, "capture", lambda work: type("Graph", (), {"replay": staticmethod(work)}))
    monkeypatch.setattr(kernels, "time_on_gpu", lambda calls, **_: {key: Timing(1, 2, 3, 3) for key in calls})
    one = torch.ones(2, 2)
    others = {"bare": Contender(lambda: one), "flash-maxsim": _constant(one)}
    chosen = [
        Case(name, dtype, lambda: Setup("2 x 2", _constant(one), others, flops=1e12, bytes=1e9, floor=True))
        for name, dtype in sorted({(goal.case, goal.dtype) for goal in GPU_GOALS})
    ]
    lines: list[str] = []
    result = run_benchmark("cuda", seconds=0.0, out=tmp_path, cases=chosen, say=lines.append)
    assert result["failed"] == []
    assert json.loads((tmp_path / "kernels-card.json").read_text()) == result
    assert [goal["goal"] for goal in result["goals"]] == [goal.text for goal in GPU_GOALS]
    values = {goal["goal"]: (goal["kind"], goal["value"]) for goal in result["goals"]}
    assert values["SCAN t2i against cuBLAS writing C"] == ("ratio", 1.0)
    # A floor of one second, by bytes as by the product, and two seconds taken.
    assert values["patch rerank, float16: share of copy bandwidth"] == ("speedup", 0.5)
    assert values["fold_patches, raw, against the byte floor"] == ("ratio", 2.0)
    assert values["patch rerank, 1 query: eager above graph"] == ("excess", 0.0)
    assert all(len(line) <= 150 for line in lines[-len(GPU_GOALS) :])


@pytest.mark.parametrize(
    ("value", "at_least", "reached"),
    [
        (2.0, True, "stretch"),
        (1.0, True, "accept"),
        (0.9, True, "missed"),
        (2.0, False, "accept"),
        (2.1, False, "missed"),
    ],
)
def test_a_value_is_judged_from_its_side(value: float, at_least: bool, reached: str) -> None:
    accept, stretch = (1.0, 2.0) if at_least else (2.0, 1.0)
    goal = judged_value("speed", value, accept, stretch, at_least=at_least, commit="a1b2c3d", ratio={"p50": value})
    assert goal["verdict"] == reached
    assert goal["kind"] == ("at least" if at_least else "at most")
    assert (goal["value"], goal["ratio"], goal["commit"]) == (value, {"p50": value}, "a1b2c3d")


def _rows(**times: float) -> list[dict[str, Any]]:
    """Rows of case "a": contender, "ours" with its mode after an underscore, and its p50."""
    rows = []
    for key, p50 in times.items():
        contender, _, mode = key.partition("_")
        rows.append({"case": "a", "dtype": "float16", "contender": contender, "mode": mode or "eager", "p50": p50})
    return rows


@pytest.mark.parametrize(
    ("kind", "times", "value", "verdict"),
    [
        ("ratio", {"ours": 1.4, "bare": 1.0}, 1.4, "stretch"),
        ("ratio", {"ours": 1.9, "bare": 1.0}, 1.9, "accept"),
        ("ratio", {"ours": 2.1, "bare": 1.0}, 2.1, "missed"),
        ("ratio", {"ours": 9.0, "ours_graph": 3.0, "bare": 1.0}, 9.0, "missed"),  # both eager: the other has no graph
        ("ratio", {"ours": 9.0, "ours_graph": 3.0, "bare": 1.0, "bare_graph": 2.0}, 1.5, "stretch"),
        ("ratio", {"ours": 3.0, "bare": 1.0, "other": 2.0}, 3.0, "missed"),  # the fastest reference counts
        ("ratio", {"bare": 1.0}, None, "not measured"),
        ("ratio", {"ours": 1.0}, None, "not measured"),
    ],
)
def test_ratios(kind: Any, times: dict[str, float], value: float | None, verdict: str) -> None:
    goal = Goal("twice", "a", "float16", ("bare", "other"), 2.0, 1.5, kind)
    (answer,) = judged(_rows(**times), [goal], "a1b2c3d")
    assert (answer.get("value"), answer["verdict"], answer["commit"]) == (value, verdict, "a1b2c3d")


def test_shares_of_a_floor_and_host_cost() -> None:
    floor = {"case": "a", "dtype": "float16", "contender": "floor", "mode": "floor", "p50": 0.045}
    share = Goal("share", "a", "float16", ("floor",), 0.88, 0.94, "speedup")
    for graph, verdict in ((0.0475, "stretch"), (0.05, "accept"), (0.0515, "missed")):
        (answer,) = judged([*_rows(ours=1.0, ours_graph=graph), floor], [share], "")
        assert answer["value"] == pytest.approx(0.045 / graph)
        assert (answer["verdict"], answer["mode"], answer["against"]) == (verdict, "graph", "floor")
    excess = Goal("eager above graph", "a", "float16", ("ours",), 15e-6, 8e-6, "excess")
    for eager, verdict in ((57e-6, "stretch"), (60e-6, "accept"), (70e-6, "missed")):
        (answer,) = judged(_rows(ours=eager, ours_graph=50e-6), [excess], "")
        assert answer["value"] == pytest.approx(eager - 50e-6)
        assert answer["verdict"] == verdict
    (answer,) = judged(_rows(ours=1.0), [excess], "")
    assert answer["verdict"] == "not measured"


def test_contenders_take_turns() -> None:
    order: list[str] = []
    work = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timings = time_in_turn(work, seconds=0.0)
    assert order == ["a", "b"] * 4, "one round to warm up, three that count"
    assert timings["a"].runs == 3


def test_libraries_that_are_not_installed_are_named() -> None:
    rows = torch.ones(2, 3, 4)
    found, missing = peers.maxsim_libraries(rows, rows)
    assert set(found) | set(missing) == {"PyLate", "sentence-transformers"}


RECORDED = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("kernels-*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_verdicts_follow_from_their_values(path: Path) -> None:
    recorded = json.loads(path.read_text())
    assert recorded["goals"]
    for goal in recorded["goals"]:
        if goal["verdict"] != "not measured":
            as_written = Goal(goal["goal"], "", "", (), goal["accept"], goal["stretch"], goal["kind"])
            assert goal["verdict"] == goals._verdict(as_written, goal["value"]), goal["goal"]
            assert goal["ratio"] == pytest.approx(goal["ours"] / goal["reference"], rel=1e-9), goal["goal"]
