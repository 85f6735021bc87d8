"""The folder of a comparison: metrics.json, one run and one resolved config a system, and the report page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from heritage_align.errors import DataError
from heritage_align.evaluation.comparison import SystemOutcome
from heritage_align.evaluation.results import metrics_of
from heritage_align.evaluation.systems import ranked_run
from heritage_align.protocols import Dataset
from heritage_align.report.assemble import assemble
from heritage_align.report.html import render
from heritage_align.runs import to_trec


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
