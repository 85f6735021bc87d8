"""One vector for the phrases of a cluster: the mean of theirs (Sheng et al. 2021, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from heritage_align.ops import Ragged
from heritage_align.text import longest
from heritage_align.types import TextFeatures

Groups = Sequence[Sequence[int]]
"""Of one text: places of its fragments, each in exactly one group (`FragmentGrouper.groups`)."""


def mean_of_groups(fragments: Ragged, groups: Sequence[Groups]) -> Ragged:
    """Average the rows of every group, of the length that comes out; gradients pass.

    Args:
        fragments: ``values (total, dim)``, one run of rows a text.
        groups: of every text.

    Returns:
        ``values (total_groups, dim)``, one run of rows a text, groups in their order.

    Raises:
        ValueError: the groups of a text are not a partition of its fragments.
    """
    lengths = fragments.lengths.tolist()
    if len(groups) != len(lengths):
        raise ValueError(f"groups: expected those of {len(lengths)} texts, got {len(groups)}")
    members, sizes, counts, start = [], [], [0], 0
    for text, (length, split) in enumerate(zip(lengths, groups)):
        places = [place for group in split for place in group]
        if sorted(places) != list(range(length)) or not all(split):
            raise ValueError(f"groups[{text}]: expected every place below {length} once, got {[*map(list, split)]}")
        members += [start + place for place in places]
        sizes += [len(group) for group in split]
        counts.append(len(split))
        start += length
    device = fragments.values.device
    size = torch.tensor(sizes, dtype=torch.int64, device=device)
    rows = fragments.values[torch.tensor(members, dtype=torch.int64, device=device)]
    owner = torch.repeat_interleave(torch.arange(len(sizes), device=device), size)
    sums = rows.new_zeros(len(sizes), rows.shape[1]).index_add(0, owner, rows)
    return Ragged(sums / size[:, None], torch.tensor(counts).cumsum(0))


def grouped(features: TextFeatures, groups: Sequence[Groups]) -> TextFeatures:
    """Give every group of fragments one row, its unit mean, and the name of its longest phrase.

    Raises:
        ValueError: see `mean_of_groups`.
    """
    assert features.fragments is not None
    means = mean_of_groups(features.fragments, groups)
    values = torch.nn.functional.normalize(means.values, dim=1)
    phrases = tuple(
        tuple(split[longest(split, group)] for group in of_text) for split, of_text in zip(features.phrases, groups)
    )
    return TextFeatures(features.ids, features.global_features, Ragged(values, means.offsets), phrases)
