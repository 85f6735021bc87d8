"""The order of captions in an epoch."""

from __future__ import annotations

import torch
from heritage_align_plugins.alignment.batches import epoch_batches
from hypothesis import given
from hypothesis import strategies as st

OWNERS = st.lists(st.integers(0, 8), min_size=1, max_size=40).map(torch.tensor)


@given(owners=OWNERS, size=st.integers(2, 12), seed=st.integers(0, 3), epoch=st.integers(0, 5))
def test_every_caption_once_and_no_picture_twice_in_a_batch(
    owners: torch.Tensor, size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(owners, size, seed, epoch)
    for batch in batches:
        assert 2 <= len(batch) <= size
        assert len(set(owners[batch].tolist())) == len(batch)
    rows = torch.cat([*batches, torch.empty(0, dtype=torch.int64)]).tolist()
    assert len(rows) == len(set(rows))
    # A round holds one caption of each picture that still has one; what is left over is a batch of one.
    rounds = torch.bincount(owners).max().item()
    assert len(owners) - len(rows) <= rounds


@given(owners=OWNERS, size=st.integers(2, 12), seed=st.integers(0, 3), epoch=st.integers(0, 5))
def test_it_depends_on_seed_and_epoch_alone(owners: torch.Tensor, size: int, seed: int, epoch: int) -> None:
    one = epoch_batches(owners, size, seed, epoch)
    torch.manual_seed(1)
    other = epoch_batches(owners, size, seed, epoch)
    assert all(torch.equal(a, b) for a, b in zip(one, other))
    counts = {len(epoch_batches(owners, size, seed, later)) for later in range(4)}
    assert counts == {len(one)}  # schedules count on it


def test_epochs_and_seeds_differ() -> None:
    owners = torch.arange(40)
    orders = {tuple(torch.cat(epoch_batches(owners, 8, seed, epoch)).tolist()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_five_captions_a_picture() -> None:
    batches = epoch_batches(torch.arange(8).repeat_interleave(5), 8, 0, 0)
    assert [len(batch) for batch in batches] == [8] * 5
