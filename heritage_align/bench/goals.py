"""The project's goals, each about our time beside one other time of the same case in the same run.

A reference is a contender of the case, or "floor": ``max(bytes / copy bandwidth, flops / cuBLAS rate)`` with the rates
as measured in the run. Floor over time is the share of the copy bandwidth where bytes decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from .focal import PUBLISHED


class Goal(NamedTuple):
    """What the p50 times of ``case`` must be, at least to be accepted and better to reach the stretch.

    The reference is the fastest of ``references`` that was measured. With ``kind``

    - "ratio": our time over the reference's must be at most ``accept``;
    - "speedup": the reference's time over ours must be at least ``accept`` (a share, where it is a floor);
    - "excess": our eager time less that of our CUDA graph must be at most ``accept`` seconds.
    """

    text: str
    case: str
    dtype: str
    references: tuple[str, ...]
    accept: float
    stretch: float
    kind: Literal["ratio", "speedup", "excess"] = "ratio"


BARE, FLOOR = ("bare",), ("floor",)
LIBRARIES = ("late-interaction-kernels", "flash-maxsim", "sentence-transformers", "PyLate")
IMAGE_MAJOR, STEP = "patch rerank, image-major", "training step, mined pairs"
COLPALI, BATCHED = "MaxSim, 1 x 1000 x 1024 x 1024 x 128", "MaxSim, 64 x 1000 x 32 x 180 x 128"
ONE_QUERY = "MaxSim, 1 x 10000 x 32 x 300 x 128"
MANY_QUERIES, SHORT_LISTS = "patch rerank, 256 x 250", "patch rerank, 1000 x 100"
ONE_PATCH, ONE_CAPTION = "patch rerank, 1 x 1000", "SCAN t2i, rerank 1 x 1000"

# fmt: off
CPU_GOALS = [
    Goal("SCAN t2i against the bare product", "SCAN t2i", "float32", BARE, 1.15, 1.05),
    Goal("BFAN both against the bare product", "BFAN both", "float32", BARE, 1.5, 1.25),
    Goal("SCAN against the published structure", "SCAN t2i", "float32", (PUBLISHED,), 7.5, 8.5, "speedup"),
    Goal("BFAN against the published structure", "BFAN both", "float32", (PUBLISHED,), 12, 15, "speedup"),
    Goal("int8 against our float32", "SCAN t2i", "int8", ("ours in float32",), 1.8, 2.5, "speedup"),
    Goal("patch rerank, float16, against copying the bytes", "patch rerank, 1 query", "float16", BARE, 1.5, 1.2),
    Goal("patch rerank, int8, against copying the bytes", "patch rerank, 1 query", "int8", BARE, 1.5, 1.2),
    Goal("image-major rerank, float16, against the product", IMAGE_MAJOR, "float16", ("product alone",), 1.25, 1.1),
    Goal("image-major rerank, int8, against the product", IMAGE_MAJOR, "int8", ("product alone",), 1.25, 1.1),
    Goal("mined pairs against autograd through all", STEP, "float32", BARE, 10, 30, "speedup"),
]
# Reranking image by image has a goal where queries x candidates is eight times the number of images or more.
GPU_GOALS = [
    Goal("SCAN t2i against cuBLAS writing C", "SCAN t2i", "float16", BARE, 1.3, 1.0),
    Goal("BFAN both, equal, against one cuBLAS product", "BFAN both, equal", "float16", BARE, 2.2, 1.25),
    Goal("BFAN both, prob, against one cuBLAS product", "BFAN both, prob", "float16", BARE, 2.2, 1.25),
    Goal("patch softmax, all pairs, against cuBLAS writing C", "patch softmax, all pairs", "float16", BARE, 1.1, 1.0),
    Goal("MaxSim, ColPali's shape, against the best library", COLPALI, "float16", LIBRARIES, 0.75, 0.65),
    Goal("MaxSim, 64 x 1000 x 32 x 180, against the best library", BATCHED, "float16", LIBRARIES, 0.75, 0.6),
    Goal("MaxSim, 1 x 10000 x 32 x 300, against the best library", ONE_QUERY, "float16", LIBRARIES, 1.05, 0.95),
    Goal("patch rerank, float16: share of copy bandwidth", ONE_PATCH, "float16", FLOOR, 0.88, 0.94, "speedup"),
    Goal("patch rerank, int8: share of copy bandwidth", ONE_PATCH, "int8", FLOOR, 0.80, 0.90, "speedup"),
    Goal("patch rerank, 256 x 250, float16, against the floor", MANY_QUERIES, "float16", FLOOR, 1.3, 1.1),
    Goal("patch rerank, 256 x 250, int8, against the floor", MANY_QUERIES, "int8", FLOOR, 1.3, 1.1),
    Goal("patch rerank, 1000 x 100, float16, against the floor", SHORT_LISTS, "float16", FLOOR, 1.3, 1.1),
    Goal("patch rerank, 1000 x 100, int8, against the floor", SHORT_LISTS, "int8", FLOOR, 1.3, 1.1),
    Goal("SCAN rerank, 1 caption: share of copy bandwidth", ONE_CAPTION, "float16", FLOOR, 0.5, 0.75, "speedup"),
    Goal("fold_patches, raw, against the byte floor", "fold_patches, raw", "float16", FLOOR, 1.25, 1.1),
    Goal("fold_patches, softmax, against the byte floor", "fold_patches, softmax", "float16", FLOOR, 1.35, 1.1),
    Goal("patch rerank, 1 query: eager above graph", ONE_PATCH, "float16", ("ours",), 15e-6, 8e-6, "excess"),
    Goal("SCAN rerank, 1 caption: eager above graph", ONE_CAPTION, "float16", ("ours",), 15e-6, 8e-6, "excess"),
    Goal("mined pairs against autograd through all", STEP, "float32", BARE, 10, 30, "speedup"),
]
# fmt: on

Times = dict[str, dict[str, float]]  # p50 by contender and mode


def judged(rows: Iterable[dict[str, Any]], goals: Iterable[Goal], commit: str) -> list[dict[str, Any]]:
    """Each goal with ``value``, ``verdict`` ("stretch", "accept", "missed" or "not measured") and what it rests on.

    Both times are of CUDA graphs where both contenders could be captured, else both are eager.
    """
    cases: dict[tuple[str, str], Times] = {}
    for row in rows:
        contenders = cases.setdefault((row["case"], row["dtype"]), {})
        contenders.setdefault(row["contender"], {})[row.get("mode", "eager")] = row["p50"]
    return [_answer(goal, cases.get((goal.case, goal.dtype), {}), commit) for goal in goals]


def _answer(goal: Goal, times: Times, commit: str) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "goal": goal.text,
        "case": goal.case,
        "dtype": goal.dtype,
        "kind": goal.kind,
        "accept": goal.accept,
        "stretch": goal.stretch,
        "commit": commit,
        "verdict": "not measured",
    }
    found = _excess(times) if goal.kind == "excess" else _against_fastest(times, goal.references)
    if found is None:
        return answer
    reference, mode, ours, theirs = found
    value = {"ratio": ours / theirs, "speedup": theirs / ours, "excess": ours - theirs}[goal.kind]
    return answer | {
        "against": reference,
        "mode": mode,
        "ours": ours,
        "reference": theirs,
        "ratio": ours / theirs,
        "value": value,
        "verdict": _verdict(goal, value),
    }


def _against_fastest(times: Times, references: tuple[str, ...]) -> tuple[str, str, float, float] | None:
    """The fastest reference beside us: its name, the mode that both have, our time, its time."""
    found = [
        (name, *pair)
        for name in references
        if (pair := comparable(times.get("ours", {}), times.get(name, {}))) is not None
    ]
    return min(found, key=lambda pair: pair[3] / pair[2], default=None)


def comparable(ours: dict[str, float], theirs: dict[str, float]) -> tuple[str, float, float] | None:
    """A mode that both were timed in, the graph's before the eager one; a floor has no mode and stands for both."""
    for mode in ("graph", "eager"):
        reference = theirs.get("floor", theirs.get(mode))
        if mode in ours and reference is not None:
            return mode, ours[mode], reference
    return None


def _excess(times: Times) -> tuple[str, str, float, float] | None:
    ours = times.get("ours", {})
    return ("ours, graph", "eager", ours["eager"], ours["graph"]) if {"eager", "graph"} <= ours.keys() else None


def _verdict(goal: Goal, value: float) -> str:
    return verdict(value, goal.accept, goal.stretch, at_least=goal.kind == "speedup")


def verdict(value: float, accept: float, stretch: float, *, at_least: bool) -> str:
    """Return which bound a value reaches: "stretch", "accept", or "missed"."""
    for name, bound in (("stretch", stretch), ("accept", accept)):
        if value >= bound if at_least else value <= bound:
            return name
    return "missed"


def judged_value(
    text: str, value: float, accept: float, stretch: float, *, at_least: bool, commit: str, **beside: Any
) -> dict[str, Any]:
    """Return the entry of a result's ``goals`` for a number that was measured.

    Args:
        text: what was measured, and against what.
        value: the number.
        accept: the bound for "accept".
        stretch: the bound for "stretch".
        at_least: whether the bounds are to be reached or not to be exceeded.
        commit: it was measured at.
        beside: more about the number, for example the spread of a ratio.
    """
    return {
        "goal": text,
        "kind": "at least" if at_least else "at most",
        "accept": accept,
        "stretch": stretch,
        "commit": commit,
        "value": value,
        **beside,
        "verdict": verdict(value, accept, stretch, at_least=at_least),
    }
