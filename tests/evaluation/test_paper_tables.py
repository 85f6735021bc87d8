"""Tables in the paper's form, with its own numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from heritage_align.errors import DataError
from heritage_align.evaluation.bleu import BleuScores
from heritage_align.evaluation.cross_validation import CrossValidationSummary
from heritage_align.evaluation.metrics import EvaluationResult, RetrievalResult
from heritage_align.evaluation.model_comparison import compare_models, p_value_paper_table
from heritage_align.evaluation.paper_tables import bleu_paper_table, recall_paper_table
from heritage_align.evaluation.ranks import Ranks

KS = (1, 5, 10)
CHANCE = {"t2i": {1: (0.4,), 5: (2.0,), 10: (3.9,)}, "i2t": {1: (0.5,), 5: (2.2,), 10: (4.3,)}}


def summary(system: str, annotation: list[float], search: list[float], **more: object) -> CrossValidationSummary:
    values = {"t2i": dict(zip(KS, ((v,) for v in search))), "i2t": dict(zip(KS, ((v,) for v in annotation)))}
    return CrossValidationSummary(system, 1, values, {"t2i": (9,), "i2t": (9,)}, **more)  # type: ignore[arg-type]


DEEPFRAG = summary("DeepFrag", [5.0, 23.1, 36.2], [6.0, 20.3, 34.0], chance=CHANCE)
BFAN_SF = summary("BFAN_SF (ens)", [9.1, 31.0, 47.8], [7.6, 27.8, 43.0], chance=CHANCE)


def test_table_4() -> None:
    table = recall_paper_table({"Chinese art": [DEEPFRAG, BFAN_SF]}, caption="Table 4")
    assert table.to_text().splitlines() == [
        "Table 4",
        "",
        "Chinese art",
        "              | Image annotation |   Image search",
        "model         |  R@1   R@5  R@10 | R@1   R@5  R@10",
        "DeepFrag      |  5.0  23.1  36.2 | 6.0  20.3  34.0",
        "BFAN_SF (ens) |  9.1  31.0  47.8 | 7.6  27.8  43.0",
        "chance        |  0.5   2.2   4.3 | 0.4   2.0   3.9",
    ]
    lines = table.to_markdown().splitlines()
    assert lines[:3] == ["**Table 4**", "", "**Chinese art**"]
    assert lines[4].startswith("| model | Image annotation R@1 |")
    assert lines[-1] == "| chance | 0.5 | 2.2 | 4.3 | 0.4 | 2.0 | 3.9 |"
    record = json.loads(table.to_json())
    row = record["sections"][0]["rows"][1]
    assert (record["caption"], row["system"]) == ("Table 4", "BFAN_SF (ens)")
    assert row["image search"]["R@10"] == {"mean": 43.0, "std": None}


def test_tables_6_to_9_differ_in_what_their_rows_are() -> None:
    """Two folds: 9 and 10 have mean 9.5 and standard deviation 0.7; without chance there is no such row."""
    folds = {"i2t": {1: (9.0, 10.0)}}
    table = recall_paper_table({"": [CrossValidationSummary("Phrases", 2, folds, {"i2t": (5, 5)})]}, label="variants")
    assert table.to_text().splitlines() == [
        "         | Image annotation",
        "variants |              R@1",
        "Phrases  |          9.5±0.7",
    ]
    assert table.to_markdown().splitlines()[0] == "| variants | Image annotation R@1 |"


def test_no_common_level_of_chance_no_row() -> None:
    other = summary("SCAN", [1, 2, 3], [1, 2, 3], chance={**CHANCE, "i2t": CHANCE["t2i"]})
    assert "chance" not in recall_paper_table({"": [DEEPFRAG, other]}).to_text()
    assert "chance" not in recall_paper_table({"": [DEEPFRAG, summary("SCAN", [1, 2, 3], [1, 2, 3])]}).to_text()


def test_table_10() -> None:
    one = BleuScores((40.1, 21.1, 12.9, 10.4), 9, 1.0, "x")
    two = BleuScores((42.1, 21.1, 12.9, 10.4), 9, 1.0, "x")
    lines = bleu_paper_table({"": {"BFAN_SF (ens)": [one], "BFAN": [one, two]}}).to_text().splitlines()
    assert lines[1:] == [
        "model         |   BLEU-1    BLEU-2    BLEU-3    BLEU-4",
        "BFAN_SF (ens) |     40.1      21.1      12.9      10.4",
        "BFAN          | 41.1±1.4  21.1±0.0  12.9±0.0  10.4±0.0",
    ]


def folds(system: str, hits: list[int]) -> list[EvaluationResult]:
    """Annotation results of ten queries a fold, of which so many are found first."""
    queries = tuple(f"q{n}" for n in range(10))
    ranks = [np.where(np.arange(10) < n, 1.0, 9.0) for n in hits]
    return [EvaluationResult(system, i2t=RetrievalResult(Ranks(queries, first), (1, 10))) for first in ranks]


def test_table_5_has_both_tests() -> None:
    """Variances of 1, 3, 1, 3 and 3, 4, 3, 4 of ten: 100·4/3 and 100/3, F(3, 3) = 4; 6 queries more of 40."""
    comparison = compare_models(folds("SCAN", [1, 3, 1, 3]), folds("SCAN_GB", [3, 4, 3, 4]))
    ratio = comparison.variance["i2t"][1]
    assert ratio is not None
    assert ratio.f == pytest.approx(4)
    assert comparison.variance["i2t"][10] is None
    assert comparison.paired["i2t"]["R@1"].p_value == pytest.approx(2 / 2**6)
    table = p_value_paper_table({"Chinese art": [comparison]}, caption="Table 5")
    assert table.to_text().splitlines()[2:] == [
        "Chinese art",
        "                                      | Image annotation",
        "comparison                            |       R@1   R@10",
        "SCAN vs. SCAN_GB: F-test of variances |     0.142      -",
        "SCAN vs. SCAN_GB: difference          |     +15.0   +0.0",
        "SCAN vs. SCAN_GB: paired p            |     0.031  1.000",
    ]
    rows = json.loads(table.to_json())["sections"][0]["rows"]
    assert rows[0]["image annotation"]["R@1"]["f"] == pytest.approx(4)
    assert rows[1]["image annotation"]["R@1"] == {"difference": pytest.approx(15)}
    assert rows[2]["image annotation"]["R@1"]["p_value"] == pytest.approx(2 / 2**6)


def test_one_fold_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="at least 2 folds"):
        compare_models(folds("a", [1]), folds("b", [2]))


def test_what_cannot_be_a_table_is_refused() -> None:
    with pytest.raises(DataError, match="section 'Chinese art': expected at least one row"):
        recall_paper_table({"Chinese art": []})
    with pytest.raises(DataError, match="'DeepFrag' occurs twice"):
        recall_paper_table({"": [DEEPFRAG, DEEPFRAG]})
    with pytest.raises(DataError, match="'BFAN': expected BLEU scores"):
        bleu_paper_table({"": {"BFAN": []}})
    with pytest.raises(DataError, match="at least one comparison"):
        p_value_paper_table({"": []})
