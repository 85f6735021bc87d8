"""The losses: by hand, against the slow reference, and what they are for."""

from __future__ import annotations

import math

import pytest
import torch
from heritage_align_plugins.cl2cm import reference
from heritage_align_plugins.cl2cm.losses import (
    cosine_info_nce,
    hardest_triplet,
    relational_distillation,
    word_alignment,
)
from heritage_align_plugins.cl2cm.text import Encoded
from torch import Tensor
from torch.nn.functional import normalize


def rows(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def encoded(tokens: Tensor, lengths: list[int]) -> Encoded:
    mask = torch.arange(tokens.shape[1])[None] < torch.tensor(lengths)[:, None]
    return Encoded(normalize((tokens * mask[..., None]).sum(1), dim=-1), tokens, mask)


def test_info_nce_by_hand() -> None:
    a = torch.eye(2)
    # Cosines are the unit matrix; at temperature 1 each row's loss is log(1 + e^-1).
    assert cosine_info_nce(a, a, 1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    x, y = rows(5, 4), rows(5, 4, seed=1)
    assert cosine_info_nce(x, y, 0.1).item() == pytest.approx(
        reference.cosine_info_nce((x @ y.T).tolist(), 0.1), rel=1e-5
    )


def test_hardest_triplet_by_hand() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    b = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    # Cosines [[.6, .8], [.8, .6]]: each of four hinges is .2 + .8 - .6 = .4.
    assert hardest_triplet(a, b, 0.2).item() == pytest.approx(1.6)
    x, y = rows(6, 3), rows(6, 3, seed=1)
    assert hardest_triplet(x, y, 0.2).item() == pytest.approx(
        reference.hardest_triplet((x @ y.T).tolist(), 0.2), rel=1e-5
    )
    assert hardest_triplet(a, a, 0.2).item() == 0.0


def test_relational_distillation_by_hand() -> None:
    teacher, student = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2)
    p = 1 / (1 + math.exp(-1))
    wanted = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))  # of every row and column against (1/2, 1/2)
    assert relational_distillation(teacher, student, 1.0, 1.0).item() == pytest.approx(wanted)
    one, other = rows(4, 4), rows(4, 4, seed=1)
    assert relational_distillation(one, other, 0.05, 0.1).item() == pytest.approx(
        reference.relational_distillation(one.tolist(), other.tolist(), 0.05, 0.1), rel=1e-5
    )


def test_relational_distillation_is_least_at_the_teacher_and_teaches_only_the_student() -> None:
    teacher = rows(4, 4).requires_grad_()
    student = (rows(4, 4) + 0.3).requires_grad_()  # a shift of all cosines is no relation
    loss = relational_distillation(teacher, student, 0.1, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-5


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_word_alignment_against_the_reference(iterations: int) -> None:
    target, source = encoded(rows(3, 5, 8), [5, 3, 1]), encoded(rows(3, 6, 8, seed=1), [2, 6, 4])
    pairs = [
        (target.tokens[k, : int(target.mask[k].sum())] @ source.tokens[k, : int(source.mask[k].sum())].T).tolist()
        for k in range(3)
    ]
    wanted = reference.word_alignment(pairs, 0.1, iterations)
    assert word_alignment(target, source, 0.1, iterations).item() == pytest.approx(wanted, rel=1e-4)


def test_word_alignment_pulls_partners_together() -> None:
    """Words that begin near their partners, in another order: the loss brings each to its own."""
    meanings = rows(1, 4, 16)
    order = torch.tensor([2, 0, 3, 1])
    noise = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(2)) * 0.2
    words = (meanings[:, order] + noise).requires_grad_()
    before = (normalize(words, dim=-1) @ meanings.transpose(1, 2))[0, torch.arange(4), order].mean()
    optimizer = torch.optim.SGD([words], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        word_alignment(encoded(normalize(words, dim=-1), [4]), encoded(meanings, [4]), temperature=0.1).backward()
        optimizer.step()
    cosines = normalize(words, dim=-1) @ meanings.transpose(1, 2)
    assert cosines[0].argmax(1).tolist() == order.tolist()
    assert cosines[0, torch.arange(4), order].mean() > before
