"""The table in the papers' form."""

from __future__ import annotations

import json

import numpy as np
import pytest

from heritage_align.evaluation.metrics import EvaluationResult, RetrievalResult
from heritage_align.evaluation.ranks import Ranks
from heritage_align.evaluation.table import recall_table


def direction(*ranks: float, ks: tuple[int, ...] = (1, 5, 10)) -> RetrievalResult:
    return RetrievalResult(Ranks(tuple(str(i) for i in range(len(ranks))), np.array(ranks)), ks)


BOTH = EvaluationResult("全局 CN-CLIP", direction(1, 1, 6, 20), direction(1, 5, 5, 5))
ONE = EvaluationResult("t2i|only", direction(1, 1, 1, 11))


def test_text_is_aligned() -> None:
    assert recall_table([BOTH, ONE]).to_text().splitlines() == [
        "             |       T2I        |        I2T         |",
        "system       |  R@1   R@5  R@10 |  R@1    R@5   R@10 |   MR   rsum",
        "全局 CN-CLIP | 50.0  50.0  75.0 | 25.0  100.0  100.0 | 66.7  400.0",
        "t2i|only     | 75.0  75.0  75.0 |    -      -      - | 75.0      -",
    ]


def test_markdown() -> None:
    assert recall_table([BOTH, ONE]).to_markdown().splitlines() == [
        "| system | T2I R@1 | T2I R@5 | T2I R@10 | I2T R@1 | I2T R@5 | I2T R@10 | MR | rsum |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        "| 全局 CN-CLIP | 50.0 | 50.0 | 75.0 | 25.0 | 100.0 | 100.0 | 66.7 | 400.0 |",
        "| t2i\\|only | 75.0 | 75.0 | 75.0 |  |  |  | 75.0 |  |",
    ]


def test_one_direction_has_no_rsum() -> None:
    assert recall_table([ONE]).to_text().splitlines()[1] == "system   |  R@1   R@5  R@10 |   MR"


def test_repeats_become_mean_and_standard_deviation() -> None:
    repeats = [EvaluationResult("laclip", direction(*[1] * hit, *[99] * (10 - hit))) for hit in (4, 5, 9)]
    table = recall_table([*repeats, EvaluationResult("global", direction(1, 99))])
    # 40, 50, 90: mean 60, deviations -20, -10, 30, variance 1400 / 2, standard deviation 26.46
    assert "60.0±26.5" in table.to_markdown().splitlines()[2]
    assert "±" not in table.to_markdown().splitlines()[3]
    record = json.loads(table.to_json())
    assert record[0]["repeats"] == 3
    assert record[0]["t2i"]["R@1"] == {"mean": pytest.approx(60), "std": pytest.approx(np.sqrt(700))}
    assert record[1]["MR"] == {"mean": 50, "std": None}


def test_json_keeps_every_digit_and_says_null() -> None:
    record = json.loads(recall_table([BOTH, ONE]).to_json())
    assert record[0]["MR"]["mean"] == pytest.approx(400 / 6, abs=1e-9)
    assert record[0]["i2t"]["R@5"]["mean"] == 100
    assert record[1]["i2t"]["R@1"] is None
    assert record[1]["rsum"] is None


def test_other_cut_offs_are_columns_of_their_own() -> None:
    table = recall_table([EvaluationResult("a", direction(1, 3, ks=(1, 3))), EvaluationResult("b", direction(1, 2))])
    assert table.groups[0] == ("T2I", ("R@1", "R@3", "R@5", "R@10"))
    assert [None if cell is None else cell.mean for cell in table.rows[0][2]] == [50, 100, None, None, 75]


def test_what_cannot_be_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        recall_table([])
    with pytest.raises(ValueError, match="its repeats have different directions"):
        recall_table([BOTH, EvaluationResult(BOTH.system, direction(1))])
