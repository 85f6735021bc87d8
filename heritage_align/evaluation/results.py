"""Print and store a comparison: table, metrics.json, one run and one resolved config a system, report page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heritage_align.errors import DataError
from heritage_align.evaluation.comparison import SystemOutcome
from heritage_align.evaluation.significance import PairedTest
from heritage_align.evaluation.systems import ranked_run
from heritage_align.evaluation.table import recall_table
from heritage_align.protocols import Dataset
from heritage_align.report.assemble import assemble, run_facts
from heritage_align.report.html import render
from heritage_align.runs import to_trec


def print_comparison(outcomes: Sequence[SystemOutcome]) -> str:
    """Return the recall table in the papers' form, times, and the paired tests against the first system."""
    lines = [recall_table([o.evaluation.result for o in outcomes]).to_text(), ""]
    for outcome in outcomes:
        encode = "shared" if outcome.encode_seconds is None else f"{outcome.encode_seconds:.1f} s"
        name = outcome.evaluation.result.system
        lines.append(f"{name:<18} encode {encode:>8}, score {outcome.evaluation.seconds:.2f} s{tested(outcome.tests)}")
    if len(outcomes) > 1:
        first = outcomes[0].evaluation.result.system
        lines.append(f"mean recall against {first}, percentage points; p: paired randomisation, two-sided")
    return "\n".join(lines)


def tested(directions: Mapping[str, Mapping[str, PairedTest]]) -> str:
    """Return the tests of the mean recalls for the end of a line; empty without tests."""
    parts = []
    for direction, tests in directions.items():
        test = tests["mean_recall"]
        # Adding 0 turns the -0.0 of a tiny negative difference into 0.0.
        parts.append(f"{direction} {round(test.difference, 1) + 0.0:+.1f} (p {_p(test.p_value)})")
    return "; " + ", ".join(parts) if parts else ""


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def metrics_of(outcomes: Sequence[SystemOutcome], dataset: Dataset) -> dict[str, Any]:
    """Return everything measured, JSON-ready."""
    return {
        "dataset": dataset.name,
        "images": len(outcomes[0].encoded.images),
        "texts": len(outcomes[0].encoded.items),
        "skipped": [{"image_id": i, "reason": reason} for i, reason in outcomes[0].encoded.skipped],
        "systems": [
            {
                **outcome.evaluation.result.asdict(),
                "encode_seconds": outcome.encode_seconds,
                "score_seconds": outcome.evaluation.seconds,
                "tests_against_first": {
                    direction: {key: paired_record(test) for key, test in tests.items()}
                    for direction, tests in outcome.tests.items()
                },
            }
            for outcome in outcomes
        ],
        "facts": run_facts(outcomes[0].pipeline.config.runtime.seed),
    }


def paired_record(test: PairedTest) -> dict[str, Any]:
    """Return a paired test, JSON-ready; `units` are what was flipped, images where captions share one."""
    return {"difference": test.difference, "p_value": test.p_value, "units": test.n, "method": test.method}


def write_results(
    outcomes: Sequence[SystemOutcome],
    dataset: Dataset,
    folder: Path,
    *,
    command: str,
    title: str = "",
    summary: str = "",
) -> Path:
    """Write metrics.json, ``<system>.trec``, ``<system>.yaml`` and report.html; return the page's path.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        metrics = json.dumps(metrics_of(outcomes, dataset), ensure_ascii=False, indent=2)
        (folder / "metrics.json").write_text(metrics + "\n", encoding="utf-8")
        for outcome in outcomes:
            name = outcome.evaluation.result.system
            (folder / f"{name}.yaml").write_text(outcome.pipeline.config.to_yaml(), encoding="utf-8")
            to_trec(ranked_run(outcome.evaluation, outcome.encoded), folder / f"{name}.trec")
        data = assemble(outcomes, dataset, title=title or dataset.name, command=command, summary=summary)
        page = folder / "report.html"
        page.write_text(render(data), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return page
