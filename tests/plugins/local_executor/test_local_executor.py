"""The executor of a config without one."""

from __future__ import annotations

from typing import Any

from heritage_align.pipeline import Pipeline
from heritage_align.testing import Case, parametrize_with_checks

SYSTEM = {
    "version": 1,
    "name": "kit",
    "encoder": {"name": "cn_clip", "model": "motif-small"},
    "proposer": {"name": "random_crops", "count": 2},
    "fragmenter": {"name": "punctuation"},
    "similarity": {"name": "scan"},
    "data": {"name": "motifs", "artworks": 3, "variants": 1, "size": 64},
    "runtime": {"device": "cpu", "batch_size": 2},
}


@parametrize_with_checks([Case("executor", "local", system=SYSTEM)])
def test_conformance(check: Any) -> None:
    check()


def test_it_is_that_of_a_config_without_one_and_changes_no_digest(scan: Pipeline) -> None:
    assert scan.config.executor.as_dict() == {"name": "local"}
    other = Pipeline.from_config({**scan.config.as_dict(), "executor": {"name": "ray", "cpus": 4}})
    assert other.config.as_dict()["executor"]["cpus"] == 4
    assert other.identity() == scan.identity()
