"""The project's goals, each a ratio of two contenders of one case in one run."""

from __future__ import annotations

from typing import Any, NamedTuple


class Goal(NamedTuple):
    """``numerator / denominator`` of the p50 times of a case must be at most ``accept``, better ``stretch``.

    A contender is ``(case, dtype, contender)``.
    """

    text: str
    numerator: tuple[str, str, str]
    denominator: tuple[str, str, str]
    accept: float
    stretch: float


def _faster(text: str, slow: tuple[str, str, str], fast: tuple[str, str, str], accept: float, stretch: float) -> Goal:
    return Goal(text, fast, slow, 1 / accept, 1 / stretch)


PUBLISHED = "per caption (published)"
CPU_GOALS = [
    Goal(
        "SCAN t2i against the bare product",
        ("SCAN t2i", "float32", "ours"),
        ("SCAN t2i", "float32", "bare"),
        1.15,
        1.05,
    ),
    Goal(
        "BFAN both against the bare product",
        ("BFAN both", "float32", "ours"),
        ("BFAN both", "float32", "bare"),
        1.5,
        1.25,
    ),
    _faster(
        "SCAN against the published structure",
        ("SCAN t2i", "float32", PUBLISHED),
        ("SCAN t2i", "float32", "ours"),
        7.5,
        8.5,
    ),
    _faster(
        "BFAN against the published structure",
        ("BFAN both", "float32", PUBLISHED),
        ("BFAN both", "float32", "ours"),
        12,
        15,
    ),
    _faster(
        "int8 against our float32", ("SCAN t2i", "int8", "ours in float32"), ("SCAN t2i", "int8", "ours"), 1.8, 2.5
    ),
    *(
        Goal(
            f"patch rerank, {dtype}, against copying the bytes",
            ("patch rerank, 1 query", dtype, "ours"),
            ("patch rerank, 1 query", dtype, "bare"),
            1.5,
            1.2,
        )
        for dtype in ("float16", "int8")
    ),
    _faster(
        "mined pairs against autograd through all",
        ("training step, mined pairs", "float32", "bare"),
        ("training step, mined pairs", "float32", "ours"),
        10,
        30,
    ),
]
GPU_GOALS = [
    Goal(
        "SCAN t2i against cuBLAS writing C", ("SCAN t2i", "float16", "ours"), ("SCAN t2i", "float16", "bare"), 1.2, 1.0
    ),
    Goal(
        "BFAN both against one cuBLAS product",
        ("BFAN both", "float16", "ours"),
        ("BFAN both", "float16", "bare"),
        1.5,
        1.25,
    ),
    # A copy reads and writes: at copy bandwidth, reading alone takes half its time.
    Goal(
        "patch rerank, 1 query, share of copy bandwidth",
        ("patch rerank, 1 query", "float16", "ours"),
        ("patch rerank, 1 query", "float16", "bare"),
        0.5 / 0.8,
        0.5 / 0.9,
    ),
    _faster(
        "mined pairs against autograd through all",
        ("training step, mined pairs", "float32", "bare"),
        ("training step, mined pairs", "float32", "ours"),
        10,
        30,
    ),
]


def judged(rows: list[dict[str, Any]], goals: list[Goal]) -> list[dict[str, Any]]:
    """Each goal that the rows can answer, with its ratio and "stretch", "accept" or "missed"."""
    times = {(row["case"], row["dtype"], row["contender"]): row["p50"] for row in rows}
    answers = []
    for goal in goals:
        if goal.numerator not in times or goal.denominator not in times:
            continue
        ratio = times[goal.numerator] / times[goal.denominator]
        verdict = "stretch" if ratio <= goal.stretch else "accept" if ratio <= goal.accept else "missed"
        answers.append(
            {"goal": goal.text, "ratio": ratio, "accept": goal.accept, "stretch": goal.stretch, "verdict": verdict}
        )
    return answers
