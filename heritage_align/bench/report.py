"""What a run prints: a heading, a few lines a case while it runs, one table at the end; and the CPU's plot."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .goals import comparable

Result = dict[str, Any]


def heading(result: Result) -> Iterator[str]:
    """What the run is on, and its measured rates."""
    facts = result["machine"]
    card = f"{facts['gpu']['name']}, path {facts['gpu']['path']}" if "gpu" in facts else facts["processor"]
    yield f"{card}; torch {facts['torch']}; commit {result['commit']}"
    rates = f"copy bandwidth {result['copy_bytes_per_second'] / 1e9:.1f} GB/s (bytes read and written)"
    if "matrix_flops_per_second" in result:
        rates += f"; cuBLAS float16 {result['matrix_flops_per_second'] / 1e12:.0f} TFLOP/s"
    yield rates


def progress(rows: list[Result]) -> Iterator[str]:
    """The contenders of one case, their medians and percentiles."""
    first = rows[0]
    yield f"{first['case']}, {first['dtype']}: {first['shape']}; max error {first['max_error']:.1e}"
    for row in rows:
        mode = row.get("mode", "")
        if "," in mode or mode == "floor":  # idle, in a row: in the JSON
            continue
        ratio = "" if row["ratio_to_bare"] is None else f" {row['ratio_to_bare']:7.2f} x bare"
        yield (
            f"    {row['contender']:26} {mode:6} {row['p20'] * 1e3:9.3f} {row['p50'] * 1e3:9.3f} "
            f"{row['p80'] * 1e3:9.3f} ms {row['bytes_per_second'] / 1e9:7.1f} GB/s "
            f"{row['flops_per_second'] / 1e12:8.3f} TFLOP/s{ratio}"
        )


def table(result: Result) -> Iterator[str]:
    """Name, ours eager, ours graph, reference and its time, value, verdict: a line a goal, then the other cases."""
    times = _times(result["rows"])
    yield ""
    yield f"{'milliseconds, p50':58} {'eager':>8} {'graph':>8}  {'reference':24} {'':>8} {'value':>8}  verdict"
    for goal in result["goals"]:
        ours = times.get((goal["case"], goal["dtype"]), {}).get("ours", {})
        if goal["verdict"] == "not measured":
            yield _line(goal["goal"], ours, "", None, "", goal["verdict"])
            continue
        bounds = f"{goal['verdict']} ({_number(goal, 'accept')}, {_number(goal, 'stretch')})"
        yield _line(goal["goal"], ours, goal["against"], goal["reference"], _number(goal, "value"), bounds)
    with_goal = {(goal["case"], goal["dtype"]) for goal in result["goals"]}
    for (case, dtype), contenders in times.items():
        if (case, dtype) in with_goal:
            continue
        name = next((name for name in ("bare", "floor") if name in contenders), "")
        found = comparable(contenders["ours"], contenders.get(name, {}))
        value = "" if found is None else f"{found[1] / found[2]:.2f}x"
        yield _line(f"{case}, {dtype}", contenders["ours"], name, None if found is None else found[2], value, "")
    for failed in result["failed"]:
        yield f"FAILED {failed['case']}, {failed['dtype']}: {failed['reason'][:100]}"
    absent = sorted({f"{one['contender']} ({one['reason'][:60]})" for one in result["left_out"]})
    if absent:
        yield "left out: " + "; ".join(absent)


def _times(rows: list[Result]) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    times: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in rows:
        contenders = times.setdefault((row["case"], row["dtype"]), {})
        contenders.setdefault(row["contender"], {})[row.get("mode", "eager")] = row["p50"]
    return times


def _line(name: str, ours: dict[str, float], reference: str, theirs: float | None, value: str, verdict: str) -> str:
    def ms(seconds: float | None) -> str:
        return "-" if seconds is None else f"{seconds * 1e3:.3f}"

    return (
        f"{name:58} {ms(ours.get('eager')):>8} {ms(ours.get('graph')):>8}  {reference:24} {ms(theirs):>8} "
        f"{value:>8}  {verdict}"
    ).rstrip()


def _number(goal: Result, key: str) -> str:
    return f"{goal[key] * 1e6:.1f} us" if goal["kind"] == "excess" else f"{goal[key]:.2f}"


def plot(points: list[dict[str, float]], path: Path) -> None:
    """Draw cost against the number of images; without matplotlib, a warning that says how to get it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        message = f"{path.name} is not drawn without matplotlib: pip install 'heritage-align[plots]'"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, text in (("ours", "SCAN t2i, fused"), ("bare", "bare product")):
        axes.plot([p["images"] for p in points], [p[name] * 1e3 for p in points], marker="o", label=text)
    axes.set(xlabel="images", ylabel="milliseconds", xscale="log", yscale="log", title="Cost against images (cpu)")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
