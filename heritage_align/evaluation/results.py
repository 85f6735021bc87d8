"""What a comparison says: lines to print, and records for metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heritage_align.evaluation.comparison import SystemOutcome
from heritage_align.evaluation.facts import run_facts
from heritage_align.evaluation.significance import PairedTest
from heritage_align.evaluation.table import recall_table
from heritage_align.protocols import Dataset


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
