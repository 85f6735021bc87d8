"""Exact search over memory-mapped vectors without an images x queries matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from heritage_align.protocols import BuildContext
from heritage_align_plugins.exact_index.config import ExactIndexConfig

# fp32 copy of a piece of stored vectors. It has to stay in the second-level cache between its conversion and its
# product: 1 to 4 MiB measured alike on two cores, 16 MiB was 1.3 times slower.
PIECE_BYTES = 2 * 2**20


class ExactIndex:
    """Dot products with every vector, then the k best; equal scores by ascending row."""

    def __init__(self, config: ExactIndexConfig, context: BuildContext) -> None:
        self._block_bytes = config.block_mib * 2**20
        self._device = context.device

    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return int64 rows and fp32 scores, both ``(n_queries, min(k, n))``, best first.

        Args:
            blocks: row-wise parts ``(n_i, dim)`` of one matrix, fp32, fp16 or bf16.
            queries: ``(n_queries, dim)``.
            k: answers a query.

        Raises:
            ValueError: k below 1, or widths that differ.
        """
        if k < 1:
            raise ValueError(f"k: expected at least 1, got {k}")
        for i, block in enumerate(blocks):
            if block.ndim != 2 or block.shape[1] != queries.shape[1]:
                raise ValueError(
                    f"blocks[{i}]: expected (n, {queries.shape[1]}) as the queries, got {tuple(block.shape)}"
                )
        queries = queries.to(self._device, torch.float32)
        start = 0 if len(queries) else min(k, sum(len(block) for block in blocks))
        rows = torch.empty(len(queries), start, dtype=torch.int64, device=queries.device)
        scores = torch.empty(len(queries), start, device=queries.device)
        for first, part in self._scored(blocks, queries):
            found, values = best(part, k)
            scores = torch.cat([scores, values], 1)
            rows = torch.cat([rows, found + first], 1)
            # The rows found before are smaller, and a stable sort keeps them in front.
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            scores, rows = scores[:, :k], rows.gather(1, order)[:, :k]
        return rows, scores

    def _scored(self, blocks: Sequence[Tensor], queries: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the first row and the scores ``(n_queries, n)`` of runs of rows within the budget."""
        if not len(queries):
            return
        dim = queries.shape[1]
        piece = max(1, PIECE_BYTES // (4 * max(dim, 1))) if queries.device.type == "cpu" else 2**16
        capacity = max(piece, self._block_bytes // (4 * len(queries)))
        total = sum(len(block) for block in blocks)
        buffer = torch.empty(len(queries), min(capacity, total), device=queries.device)
        filled, first = 0, 0
        for block in blocks:
            for start in range(0, len(block), piece):
                part = block[start : start + piece].to(queries.device, torch.float32)
                if filled + len(part) > buffer.shape[1]:
                    yield first, buffer[:, :filled]
                    first, filled = first + filled, 0
                torch.mm(queries, part.T, out=buffer[:, filled : filled + len(part)])
                filled += len(part)
        if filled:
            yield first, buffer[:, :filled]


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return columns and values ``(n_queries, min(k, n))`` of the k highest scores, ties by ascending column.

    `torch.topk` picks among equal scores as it likes; only queries with a tie at the border are sorted in full.
    """
    k = min(k, scores.shape[1])
    values, columns = scores.topk(k, 1)
    tied = (scores >= values[:, -1:]).sum(1) > k
    for query in tied.nonzero().flatten().tolist():
        values[query], columns[query] = (part[:k] for part in scores[query].sort(descending=True, stable=True))
    columns, order = columns.sort(1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return columns.gather(1, order), values
