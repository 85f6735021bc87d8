"""Means of the fragments of a group, by hand, and where texts are encoded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heritage_align.encoding import encode_texts
from heritage_align.fragment_groups import grouped, mean_of_groups
from heritage_align.ops import Ragged
from heritage_align.types import TextFeatures, TextItem

VALUES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [1.0, 1.0]])
FRAGMENTS = Ragged(VALUES, torch.tensor([0, 3, 3, 4]))
GROUPS = [[(0, 2), (1,)], [], [(0,)]]


def test_means_by_hand() -> None:
    means = mean_of_groups(FRAGMENTS, GROUPS)
    assert means.values.tolist() == [[2.0, 2.0], [0.0, 1.0], [1.0, 1.0]]
    assert means.offsets.tolist() == [0, 2, 2, 3]


@settings(deadline=None)
@given(st.lists(st.permutations(range(5)).flatmap(lambda p: st.tuples(st.just(p), st.integers(1, 4))), max_size=4))
def test_means_equal_a_loop(texts: list[tuple[list[int], int]]) -> None:
    groups = [[tuple(order[:cut]), tuple(order[cut:])] for order, cut in texts]
    values = torch.randn(5 * len(texts), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = mean_of_groups(Ragged(values, torch.arange(len(texts) + 1) * 5), groups)
    expected = [values[5 * t + torch.tensor(group)].mean(0) for t, split in enumerate(groups) for group in split]
    torch.testing.assert_close(means.values, torch.stack(expected) if expected else torch.empty(0, 3).double())


def test_gradients_are_shared_by_the_members() -> None:
    values = VALUES.clone().requires_grad_()
    mean_of_groups(Ragged(values, FRAGMENTS.offsets), GROUPS).values.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.5, 0.5], [1.0, 1.0], [0.5, 0.5], [1.0, 1.0]]


@pytest.mark.parametrize("groups", [[(0, 1)], [(0, 1), (1, 2)], [(0, 1, 3)], [(0, 1, 2), ()]])
def test_groups_that_are_no_partition(groups: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"groups\[0\]: expected every place below 3 once"):
        mean_of_groups(FRAGMENTS, [groups, *GROUPS[1:]])
    with pytest.raises(ValueError, match="expected those of 3 texts, got 1"):
        mean_of_groups(FRAGMENTS, [groups])


def test_a_group_has_a_unit_row_and_its_longest_phrase() -> None:
    phrases = (("bowl", "lid", "blue bowl"), (), ("lid",))
    found = grouped(TextFeatures(("a", "b", "c"), torch.eye(3), FRAGMENTS, phrases), GROUPS)
    assert found.fragments is not None
    torch.testing.assert_close(found.fragments.values, torch.tensor([[0.5**0.5] * 2, [0.0, 1.0], [0.5**0.5] * 2]))
    assert found.phrases == (("blue bowl", "lid"), (), ("lid",))


class Lengths:
    """An encoder whose rows show how many letters a text has."""

    dim = 2

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        angles = torch.tensor([float(len(text)) for text in texts])
        return torch.stack([angles.cos(), angles.sin()], dim=1)


class Words:
    def __init__(self, pairs: bool) -> None:
        self.pairs = pairs

    def split(self, item: TextItem) -> tuple[str, ...]:
        return tuple(item.text.split())

    def groups(self, phrases: Sequence[str]) -> list[tuple[int, ...]]:
        places = range(len(phrases))
        return [tuple(places[i : i + 2]) for i in places[::2]] if self.pairs else [(i,) for i in places]


def test_texts_are_encoded_with_their_groups() -> None:
    items = [TextItem("t", "a bb ccc")]
    apart = encode_texts(Lengths(), Words(False), items, batch_size=2)  # type: ignore[arg-type]
    together = encode_texts(Lengths(), Words(True), items, batch_size=2)  # type: ignore[arg-type]
    assert apart.fragments is not None
    assert together.fragments is not None
    assert apart.phrases == (("a", "bb", "ccc"),)
    assert together.phrases == (("bb", "ccc"),)
    # The mean of unit vectors at 1 and 2 radians points to 1.5.
    expected = torch.tensor([1.5, 3.0])
    torch.testing.assert_close(together.fragments.values, torch.stack([expected.cos(), expected.sin()], dim=1))
