"""What one case of the benchmark is, and the random features that the cases score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from heritage_align import ops

from .timing import Work


@dataclass(frozen=True)
class Contender:
    """One way of doing a case's work.

    Attributes:
        work: the call that is timed.
        check: raises AssertionError unless the result is right, else returns its largest error; None for a contender
            that does not compute the scores, such as a bare matrix product.
        graph: whether it may be captured in a CUDA graph; autograd and loops over captions may not.
    """

    work: Work
    check: Callable[[], float] | None = None
    graph: bool = True


@dataclass(frozen=True)
class Setup:
    """The features of a case, ready to be scored.

    Attributes:
        shape: the sizes in words.
        ours: the fused kernel.
        peers: contenders by name; "bare" is the one that ratios are to.
        flops: of one call, at least.
        bytes: of the stored features and factors that one call must read.
        floor: whether ``max(bytes / copy bandwidth, flops / cuBLAS rate)``, both as measured in the run, is listed
            beside the contenders. A copy's bandwidth counts the bytes that it reads and those that it writes.
        agreement: share of equal top-10 images against float32 features, where that makes sense.
        missing: contenders that are not installed here.
    """

    shape: str
    ours: Contender
    peers: dict[str, Contender] = field(default_factory=dict)
    flops: float = 0.0
    bytes: float = 0.0
    floor: bool = False
    agreement: Callable[[], float] | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One row of the benchmark: a name, how the features are stored, and the function that makes them.

    Features are made when the case's turn comes, so that a case that fails, in its set-up too, loses only itself.
    """

    name: str
    dtype: str
    prepare: Callable[[], Setup]


def unit_rows(rows: int, dim: int, device: torch.device, seed: int) -> Tensor:
    """Random rows ``(rows, dim)`` float32 of unit length that share a direction, as features of one model do."""
    shared = torch.randn(dim, generator=torch.Generator().manual_seed(0)).to(device)
    values = torch.randn(rows, dim, device=device, generator=torch.Generator(device).manual_seed(seed))
    return normalize(values.add_(shared, alpha=0.3), dim=1)


def equal_items(n: int, length: int, dim: int, device: torch.device, seed: int) -> ops.Ragged:
    """``n`` items of ``length`` rows."""
    return ops.Ragged(unit_rows(n * length, dim, device, seed), torch.arange(n + 1) * length)


def captions(n: int, dim: int, device: torch.device, seed: int) -> ops.Ragged:
    """``n`` captions of 5 to 21 words."""
    lengths = torch.randint(5, 22, (n,), generator=torch.Generator().manual_seed(seed))
    return ops.Ragged(unit_rows(int(lengths.sum()), dim, device, seed), pad(lengths.cumsum(0), (1, 0)))


def picks(n_queries: int, k: int, n_items: int, device: torch.device, seed: int) -> Tensor:
    """Random candidates ``(n_queries, k)``, each item at most once a query."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.rand(n_queries, n_items, device=device, generator=generator).argsort(dim=1)[:, :k].contiguous()


def stored(ragged: ops.Ragged, dtype: str) -> ops.Ragged:
    """The items as ``dtype`` keeps them: "int8" with a scale a row, or a floating dtype by its name."""
    return ops.quantise(ragged) if dtype == "int8" else ragged.to(dtype=getattr(torch, dtype))


def wide(ragged: ops.Ragged) -> ops.Ragged:
    """The rows, rounded as they are stored, in float64: what the reference scores."""
    return ops.Ragged(ragged.dequantised().double(), ragged.offsets)


def size(ragged: ops.Ragged) -> int:
    """Bytes of the rows."""
    return ragged.values.numel() * ragged.values.element_size()


def candidate_size(ragged: ops.Ragged, candidates: Tensor) -> float:
    """Bytes of the rows of the items that occur among the candidates; items of one length."""
    return size(ragged) * len(candidates.unique()) / len(ragged)


def compare(found: Tensor, expected: Tensor, tolerance: float, *, strays: float = 0.0) -> float:
    """Return the largest difference.

    Raises:
        AssertionError: if more than the share ``strays`` differ by more than ``tolerance``, or are NaN: what computes
            wrong scores is not timed.
    """
    errors = (found.double() - expected.double()).abs()
    worst = float(errors.max())
    if float((~(errors <= tolerance)).double().mean()) > strays:
        raise AssertionError(f"wrong by {worst:.2e}, allowed {tolerance:.0e}: not timed")
    return worst


def top10_agreement(scores: Tensor, expected: Tensor) -> float:
    """Share of the ten best images of each text, columns of ``(n_images, n_texts)``, that both scores have."""
    k = min(10, len(scores))
    ours, theirs = scores.topk(k, dim=0).indices, expected.topk(k, dim=0).indices
    return float((ours.T[:, :, None] == theirs.T[:, None, :]).any(dim=2).float().mean())
