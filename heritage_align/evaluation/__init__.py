"""Recall, its tests of significance, golden pairs and cross-validation.

>>> import numpy as np
>>> from heritage_align import TextItem
>>> from heritage_align.evaluation import evaluate_scores
>>> texts = [TextItem("t1", "a crane", ("a",)), TextItem("t2", "a carp", ("b",))]
>>> scores = np.array([[0.9, 0.8], [0.1, 0.3]])  # (n_images, n_texts)
>>> evaluate_scores(scores, ["a", "b"], texts, ks=(1,)).t2i.recall
{1: 50.0}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "BleuScores",
    "CrossValidationFold",
    "CrossValidationSummary",
    "EncodedGolden",
    "EvaluationResult",
    "FragmentEvaluation",
    "GoldenSet",
    "ModelComparison",
    "MtebModel",
    "PairedTest",
    "PaperTable",
    "RetrievalResult",
    "SystemOutcome",
    "annotation_bleu",
    "artwork_folds",
    "bleu_paper_table",
    "chance_recall",
    "compare_folds",
    "compare_models",
    "compare_systems",
    "encode_dataset",
    "encode_golden",
    "evaluate_fragments",
    "evaluate_golden",
    "evaluate_scores",
    "evaluate_system",
    "mteb_task",
    "p_value_paper_table",
    "paired_randomisation",
    "pool_folds",
    "pool_golden",
    "recall_paper_table",
    "summarise",
]

if TYPE_CHECKING:
    from heritage_align.evaluation.bleu import BleuScores, annotation_bleu
    from heritage_align.evaluation.chance import chance_recall
    from heritage_align.evaluation.comparison import SystemOutcome, compare_systems
    from heritage_align.evaluation.cross_validation import CrossValidationSummary, compare_folds, pool_folds, summarise
    from heritage_align.evaluation.folds import CrossValidationFold, artwork_folds
    from heritage_align.evaluation.fragments import FragmentEvaluation, evaluate_fragments
    from heritage_align.evaluation.golden import GoldenSet, pool_golden
    from heritage_align.evaluation.golden_encoding import EncodedGolden, encode_golden, evaluate_golden
    from heritage_align.evaluation.metrics import EvaluationResult, RetrievalResult, evaluate_scores
    from heritage_align.evaluation.model_comparison import ModelComparison, compare_models, p_value_paper_table
    from heritage_align.evaluation.model_of_mteb import MtebModel
    from heritage_align.evaluation.paper_tables import PaperTable, bleu_paper_table, recall_paper_table
    from heritage_align.evaluation.significance import PairedTest, paired_randomisation
    from heritage_align.evaluation.systems import encode_dataset, evaluate_system
    from heritage_align.evaluation.task_of_mteb import mteb_task

_PLACES = {
    "heritage_align.evaluation.bleu": ("BleuScores", "annotation_bleu"),
    "heritage_align.evaluation.chance": ("chance_recall",),
    "heritage_align.evaluation.comparison": ("SystemOutcome", "compare_systems"),
    "heritage_align.evaluation.cross_validation": (
        "CrossValidationSummary",
        "compare_folds",
        "pool_folds",
        "summarise",
    ),
    "heritage_align.evaluation.folds": ("CrossValidationFold", "artwork_folds"),
    "heritage_align.evaluation.fragments": ("FragmentEvaluation", "evaluate_fragments"),
    "heritage_align.evaluation.golden": ("GoldenSet", "pool_golden"),
    "heritage_align.evaluation.golden_encoding": ("EncodedGolden", "encode_golden", "evaluate_golden"),
    "heritage_align.evaluation.metrics": ("EvaluationResult", "RetrievalResult", "evaluate_scores"),
    "heritage_align.evaluation.model_comparison": ("ModelComparison", "compare_models", "p_value_paper_table"),
    "heritage_align.evaluation.model_of_mteb": ("MtebModel",),
    "heritage_align.evaluation.task_of_mteb": ("mteb_task",),
    "heritage_align.evaluation.paper_tables": ("PaperTable", "bleu_paper_table", "recall_paper_table"),
    "heritage_align.evaluation.significance": ("PairedTest", "paired_randomisation"),
    "heritage_align.evaluation.systems": ("encode_dataset", "evaluate_system"),
}


if not TYPE_CHECKING:  # a checker would take any name from a module with __getattr__

    def __getattr__(name: str) -> Any:
        from heritage_align.exports import look_up

        return look_up(__name__, name, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
