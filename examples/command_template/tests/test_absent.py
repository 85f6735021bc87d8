"""The command on a store of the built-in motif collection: it must name what a search of all pictures shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from heritage_align.cli import cli

TEXT = "blue pine trees, purple daisy"
RECIPE = ["scan", "--set", "fragmenter.name=punctuation"]


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("built") / "store"
    done = call("index", "build", *RECIPE, "--set", "data.artworks=3", "--out", str(path))
    assert done.exit_code == 0, done.output
    return str(path)


def absent(store: str, below: float) -> dict[str, dict[str, float]]:
    done = call("absent", *RECIPE, TEXT, "--store", store, "--below", str(below), "--json")
    assert done.exit_code == 0, done.output
    return {picture["image"]: picture["phrases"] for picture in json.loads(done.stdout)["pictures"]}


def test_it_names_the_phrases_that_no_region_answers(store: str) -> None:
    found = call("search", *RECIPE, TEXT, "--store", store, "--top-k", "12", "--json")
    hits: list[dict[str, Any]] = json.loads(found.stdout)["hits"]
    assert len(hits) == 12
    best = {hit["id"]: {one["phrase"]: one["score"] for one in hit["regions"]} for hit in hits}
    scores = sorted(score for phrases in best.values() for score in phrases.values())
    assert len(scores) == 24, "two phrases a picture"
    below = scores[len(scores) // 2]
    expected = {i: {p: s for p, s in phrases.items() if s < below} for i, phrases in best.items()}
    found_absent = absent(store, below)
    assert set(found_absent) == {i for i, phrases in expected.items() if phrases}
    for image, phrases in found_absent.items():
        assert phrases == pytest.approx(expected[image], abs=1e-5)


def test_the_bound_decides(store: str) -> None:
    assert absent(store, -2.0) == {}
    everything = absent(store, 2.0)
    assert len(everything) == 12
    assert all(list(phrases) == ["blue pine trees", "purple daisy"] for phrases in everything.values())


def test_lines_are_for_people(store: str) -> None:
    done = call("absent", *RECIPE, TEXT, "--store", store, "--below", "2")
    lines = done.stdout.splitlines()
    assert len(lines) == 12
    assert all("blue pine trees " in line and "purple daisy " in line for line in lines)
    assert done.stderr.strip() == "12 of 12 pictures"


def test_a_similarity_without_regions_is_refused(tmp_path: Path) -> None:
    done = call("absent", "global", TEXT, "--store", str(tmp_path))
    assert done.exit_code == 2
    assert "'global' does not say which region answers a phrase" in done.stderr
