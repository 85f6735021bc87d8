"""Systems at several seeds: what is drawn again, what is not, and the test of their means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from heritage_align.cli import cli
from heritage_align.config import Config, load_config
from heritage_align.evaluation.comparison import compare_systems
from heritage_align.evaluation.metrics import EvaluationResult, RetrievalResult
from heritage_align.evaluation.ranks import Ranks
from heritage_align.evaluation.repeats import RepeatedSystem, repeat_systems
from heritage_align.evaluation.significance import compare, compare_means
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.protocols import Dataset


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(1)
    rows = []
    for number in range(8):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        rows += [{"image": f"{number}.png", "text": f"第{number}号，{word}"} for word in ("白鹤", "牡丹")]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder / "rows.jsonl"


@pytest.fixture(scope="module")
def configs(laclip: Pipeline, table: Path) -> list[Config]:
    document = {**laclip.config.as_dict(), "data": {"name": "table", "file": str(table)}}
    document["runtime"]["seed"] = 3
    whole = {key: value for key, value in document.items() if key != "proposer"}
    return [
        load_config({**whole, "name": "whole", "similarity": {"name": "global"}}),
        load_config({**document, "name": "crops"}),
        load_config({**document, "name": "text", "similarity": {"name": "laclip", "conditioning": "text"}}),
    ]


@pytest.fixture(scope="module")
def dataset(configs: list[Config]) -> Dataset:
    return build_dataset(configs[0])


@pytest.fixture(scope="module")
def repeated(configs: list[Config], dataset: Dataset) -> list[RepeatedSystem]:
    return repeat_systems(configs, dataset, 3, ks=(1, 3))


def test_every_seed_is_what_that_seed_gives_alone(
    configs: list[Config], dataset: Dataset, repeated: list[RepeatedSystem]
) -> None:
    for system, config in zip(repeated, configs):
        assert system.seeds == (3, 4, 5)
        for seed, result in zip(system.seeds, system.results, strict=True):
            alone = load_config(config.as_dict(), [f"runtime.seed={seed}"])
            expected = compare_systems([alone], dataset, ks=(1, 3))[0].evaluation.result
            for name, direction in expected.directions.items():
                np.testing.assert_array_equal(result.directions[name].ranks.first, direction.ranks.first)


def test_what_draws_nothing_is_evaluated_twice_whatever_the_number(configs: list[Config], dataset: Dataset) -> None:
    begun: list[str] = []
    systems = repeat_systems(configs, dataset, 4, ks=(1,), started=lambda config: begun.append(config.name))
    assert [system.draws for system in systems] == [False, True, True]
    assert [begun.count(name) for name in ("whole", "crops", "text")] == [2, 4, 4]
    assert len({id(result) for result in systems[0].results}) == 1
    assert [system.encode_seconds is None for system in systems] == [False, False, True]


def test_models_are_shared_and_crops_are_not(laclip: Pipeline) -> None:
    other = laclip.at_seed(9)
    assert (other.encoder, other.text_encoder) == (laclip.encoder, laclip.text_encoder)
    assert (laclip.config.runtime.seed, other.config.runtime.seed) == (0, 9)
    picture = Image.new("RGB", (64, 48))
    assert laclip.proposer is not None
    assert other.proposer is not None
    drawn = [p.propose([picture], ["a"])[0].boxes for p in (laclip.proposer, other.proposer)]
    assert not np.array_equal(*drawn)


def _result(system: str, *hits: int, ids: str = "abcd") -> EvaluationResult:
    return EvaluationResult(system, RetrievalResult(Ranks(tuple(ids), np.where(hits, 1.0, 2.0)), (1,)))


def test_the_test_is_of_the_queries_means() -> None:
    # Shares of hits of b: (1, 1/2, 1, 1/2), of a: (0, 0, 1, 1/2). Differences 1, 1/2, 0, 0: mean 37.5 points; of the 4
    # sign patterns of the two that differ, +1 +1/2 and -1 -1/2 are as extreme as what was seen: p = 1/2.
    a = [_result("a", 0, 0, 1, 1), _result("a", 0, 0, 1, 0)]
    b = [_result("b", 1, 1, 1, 0), _result("b", 1, 0, 1, 1)]
    test = compare_means(a, b)["t2i"]["R@1"]
    assert (test.difference, test.p_value, test.n) == (37.5, 0.5, 4)
    # In groups {a, b} and {c, d} one difference is left: both of its signs are as extreme.
    grouped = compare_means(a, b, groups={"a": 1, "b": 1, "c": 2, "d": 2})["t2i"]["R@1"]
    assert (grouped.difference, grouped.p_value, grouped.n) == (37.5, 1.0, 2)


def test_repeats_of_one_are_the_plain_test_and_order_is_irrelevant() -> None:
    a, b = _result("a", 0, 1, 0, 1), _result("b", 1, 1, 1, 1)
    assert compare_means([a], [b]) == compare(a, b)
    assert compare_means([a, a], [b]) == compare(a, b)
    shuffled = _result("b", 1, 0, 0, 1, ids="dcba")
    assert compare_means([a], [shuffled])["t2i"]["R@1"].difference == 0.0  # d, c, b, a hit 1, 0, 0, 1; a misses a, c


def test_what_does_not_fit_is_refused(configs: list[Config], dataset: Dataset) -> None:
    a = _result("a", 1, 0, 0, 1)
    with pytest.raises(ValueError, match="at least one repeat"):
        compare_means([a], [])
    with pytest.raises(ValueError, match="same queries"):
        compare_means([a, _result("a", 1, 0, 0, 1, ids="abcx")], [a])
    with pytest.raises(ValueError, match="at least 2, got 1"):
        repeat_systems(configs, dataset, 1)


@pytest.fixture
def call(configs: list[Config], tmp_path: Path) -> Callable[..., Result]:
    files = []
    for config in configs[:2]:
        files.append(tmp_path / f"{config.name}.yaml")
        files[-1].write_text(config.to_yaml())
    return lambda *more: CliRunner().invoke(cli, ["evaluate", *map(str, files), *map(str, more)])


def test_command_prints_and_writes_means_and_spreads(call: Callable[..., Result], tmp_path: Path) -> None:
    result = call("--repeats", 2, "--ks", "1,5,10,20", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "R@20" in result.stdout
    assert "±0.0" in result.stdout
    assert "draws nothing: one evaluation" in result.stdout
    assert "seeds 3 to 4" in result.stdout
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"metrics.json", "whole.yaml", "crops.yaml"}
    whole, crops = record["systems"]
    assert (whole["repeats"], whole["seeds"], whole["draws"]) == (2, [3, 4], False)
    for direction in ("t2i", "i2t"):
        values = [one[direction]["R@1"] for one in crops["results"]]
        assert crops[direction]["R@1"]["mean"] == pytest.approx(np.mean(values))
        assert crops[direction]["R@1"]["std"] == pytest.approx(np.std(values, ddof=1))
        test = crops["tests_against_first"][direction]["R@1"]
        assert test["difference"] == pytest.approx(np.mean(values) - whole[direction]["R@1"]["mean"])
        assert test["units"] == 8  # two captions of an image are one unit
    assert json.loads(call("--repeats", 2, "--ks", "1,5,10,20", "--json").stdout)["systems"][1]["MR"] == crops["MR"]


def test_command_refuses_no_repeats(call: Callable[..., Result]) -> None:
    result = call("--repeats", 0)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'--repeats'" in result.stderr
