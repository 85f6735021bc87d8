"""Which texts of a batch are right for which picture, and which are held against it."""

from __future__ import annotations

import pytest
import torch
from heritage_align_plugins.contrastive.feeding import Batch
from heritage_align_plugins.contrastive.pairs import Pairs
from heritage_align_plugins.contrastive.relations import Relations

from heritage_align.types import TextItem

# Pictures 0 and 1 show a fish, in two languages; picture 2 is a whole picture with a caption.
PAIRS = Pairs(
    ("a", "b", "c"),
    tuple(TextItem(text, text) for text in ("红鱼", "red fish", "白地红鱼")),
    ((0, 1), (0, 1), (2,)),
    ("1", "2", "3"),
    (1, 1, 0),
)
BATCH = Batch(0, (0, 2, 1), (0, 2, 1))
CPU = torch.device("cpu")


def test_clip_needs_no_relations():
    assert Relations(PAIRS, "pair", "batch", CPU).of(BATCH) == (None, None)


def test_known_positives():
    positive, compared = Relations(PAIRS, "known", "batch", CPU).of(BATCH)
    assert compared is None
    assert positive.tolist() == [[True, False, True], [False, True, False], [True, False, True]]


@pytest.mark.parametrize("positives", ["pair", "known"])
def test_negatives_of_one_source(positives):
    positive, compared = Relations(PAIRS, positives, "source", CPU).of(BATCH)
    assert (positive is None) == (positives == "pair")
    assert compared.tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_a_text_of_two_sources_is_compared_where_it_is_right():
    pairs = Pairs(("a", "b"), (TextItem("t", "鱼"),), ((0,), (0,)), ("1", "2"), (0, 1))
    positive, compared = Relations(pairs, "known", "source", CPU).of(Batch(0, (0, 1), (0, 0)))
    assert positive.all()
    assert compared.all()
