"""What a report page says, as plain data; `html.render` turns it into the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

    from heritage_align.evaluation.metrics import EvaluationResult
    from heritage_align.evaluation.significance import PairedTest
    from heritage_align.report.explain import Explanation
    from heritage_align.types import Hit

DIRECTIONS = {"t2i": "Text to image", "i2t": "Image to text"}


@dataclass(frozen=True)
class SystemRow:
    """One system of the table.

    Attributes:
        name: of the system, unique in the table.
        recall: direction (``"t2i"``, ``"i2t"``) -> K -> recall in percent; a direction may be missing.
        summary: one line of what it is.
        encode_seconds: time to encode the collection, None where it was not measured.
        score_seconds: time to score all pairs.
        tests: direction -> ``"R@K"`` -> paired test of this system minus the baseline
            (`significance.compare`); empty for the baseline itself.
    """

    name: str
    recall: Mapping[str, Mapping[int, float]]
    summary: str = ""
    encode_seconds: float | None = None
    score_seconds: float | None = None
    tests: Mapping[str, Mapping[str, PairedTest]] = field(default_factory=dict)

    @classmethod
    def from_result(
        cls,
        result: EvaluationResult,
        *,
        summary: str = "",
        encode_seconds: float | None = None,
        score_seconds: float | None = None,
        tests: Mapping[str, Mapping[str, PairedTest]] | None = None,
    ) -> SystemRow:
        """Take the numbers of an evaluation."""
        recall = {name: direction.recall for name, direction in result.directions.items()}
        return cls(result.system, recall, summary, encode_seconds, score_seconds, tests or {})

    @property
    def mean_recall(self) -> float:
        """Mean of all recalls, in percent (MR in the papers' tables)."""
        return float(np.mean([value for recall in self.recall.values() for value in recall.values()]))

    @property
    def rsum(self) -> float | None:
        """Sum of the recalls of both directions, in percent; None where one is missing."""
        if len(self.recall) < 2:
            return None
        return float(sum(value for recall in self.recall.values() for value in recall.values()))

    @property
    def seconds(self) -> float | None:
        """Time to encode and score, as far as it was measured; None where nothing was."""
        parts = [part for part in (self.encode_seconds, self.score_seconds) if part is not None]
        return sum(parts) if parts else None


@dataclass(frozen=True)
class SystemAnswers:
    """What one system answered to a query.

    Attributes:
        system: its name.
        hits: best first, as many as are to be shown.
        right_rank: rank of the first right answer among all, from 1; None where there is none.
    """

    system: str
    hits: Sequence[Hit]
    right_rank: int | None = None


@dataclass(frozen=True)
class QueryExample:
    """A text query and the answers of several systems.

    Attributes:
        query_id: of the text.
        text: the query.
        right: ids of the right images.
        answers: one a system.
        language: of `text`, ``"zh"`` or ``"en"``, None where unknown.
        translation: the same in another language, or empty.
    """

    query_id: str
    text: str
    right: frozenset[str]
    answers: Sequence[SystemAnswers]
    language: str | None = None
    translation: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything on the page.

    Attributes:
        title: heading.
        created: when the run was made.
        systems: rows of the table, in its order.
        summary: a sentence or two below the heading.
        dataset: what was searched, for example ``"motifs, test split: 500 pictures, 1000 texts"``.
        baseline: name of the system that the tests compare with, or empty.
        examples: queries with their answers.
        pictures: image id -> picture, for every id in the examples that can be shown.
        explanations: which region answered which phrase.
        facts: versions, hardware, seed and the like, name -> value.
        configs: name -> resolved configuration as YAML.
        notes: sentences for the end: skipped pictures, caveats.
        command: the command line that makes this page again.
    """

    title: str
    created: datetime
    systems: Sequence[SystemRow]
    summary: str = ""
    dataset: str = ""
    baseline: str = ""
    examples: Sequence[QueryExample] = ()
    pictures: Mapping[str, Image] = field(default_factory=dict)
    explanations: Sequence[Explanation] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    command: str = ""
