"""Recipes of the library's models: they fit together as they are, and run on tiny stand-ins for the weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from heritage_align import Pipeline, build_index, dataset_sources, load_recipe
from heritage_align.cli import cli
from heritage_align.search import Searcher
from heritage_align.types import TextItem

SMALL = ["data.artworks=3", "data.variants=1", "data.size=64", "runtime.device=cpu", "runtime.workers=1"]
STAND_INS: dict[str, Callable[[object], list[str]]] = {
    "colqwen-late": lambda root: [f"encoder.model={root}/colqwen"],
    "qwen3-vl-global": lambda root: [f"encoder.model={root}/embedding"],
    "cross-encoder-last": lambda root: [
        f"encoder.model={root}/embedding",
        f"search.last.model={root}/reranker",
        "search.last.candidates=2",
    ],
}


@pytest.mark.parametrize("name", STAND_INS)
def test_a_recipe_fits_together_and_says_how_to_get_its_model(name):
    found = CliRunner().invoke(cli, ["config", "check", name])
    assert found.exit_code == 0, found.output
    assert "fits together (" in found.stdout
    missing = CliRunner().invoke(cli, ["evaluate", name])
    assert missing.exit_code == 2
    assert "fetch it once: hf download " in missing.stderr
    assert len(missing.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", STAND_INS)
def test_a_recipe_runs_on_a_stand_in(models, name, tmp_path):
    overrides = [*STAND_INS[name](models), *SMALL]
    pipeline = Pipeline(load_recipe(name, overrides))
    build_index(pipeline, dataset_sources(pipeline.dataset()), tmp_path / "store")
    with Searcher.open(pipeline, tmp_path / "store") as searcher:
        [hits] = searcher.hits([TextItem("q", "red ground, 牡丹")])
    assert len(hits) == 3
    assert [hit.last is None for hit in hits] == [False, False, True] if name == "cross-encoder-last" else [True] * 3
    assert bool(hits[0].regions) == (name == "colqwen-late")
    settings = [f"--set={setting}" for setting in overrides]
    found = CliRunner().invoke(cli, ["evaluate", name, *settings])
    assert found.exit_code == 0, found.output
    assert name in found.stdout
