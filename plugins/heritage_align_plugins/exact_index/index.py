"""Exact search over memory-mapped vectors without an images x queries matrix."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from heritage_align.plugin import BuildContext, DataError
from heritage_align_plugins.exact_index.config import ExactIndexConfig

# fp32 copy of a piece of stored vectors, small enough to stay in the second-level cache between its conversion and its
# product. One query, 1M x 512 fp16, 2 cores: 80 ms at 0.5 MiB, 51 ms at 2 MiB, 62 ms at 8 MiB.
TILE_BYTES = 2 * 2**20
GPU_TILE_BYTES = 32 * 2**20
GPU_PIECE_BYTES = 2**29  # of resident vectors in fp32 with their scores; the time of a call or two beside its product
MANY_NUMBERS = 2**24  # of resident fp16 vectors, from which it pays not to copy them to fp32
CUT_ROWS = 2**14
_PLACE_BITS = 40  # of an int64: 8 million blocks of 10^12 rows


class ExactIndex:
    """Dot products with every vector, then the k best; equal scores by ascending row.

    Tiles are filled across block borders and multiplied whole, so that a score does not depend, to the last bit, on how
    the matrix is cut into blocks.
    """

    def __init__(self, config: ExactIndexConfig, context: BuildContext) -> None:
        self._budget = config.block_mib * 2**20
        self._device = torch.device(context.device)

    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return int64 rows and fp32 scores, both ``(n_queries, min(k, n))``, best first.

        Args:
            blocks: row-wise parts ``(n_i, dim)`` of one matrix, fp32, fp16 or bf16; each is asked for once for every
                batch of queries that fits the budget, from several threads, and let go after its use.
            queries: ``(n_queries, dim)``.
            k: answers a query.

        Raises:
            ValueError: k below 1, queries that are no matrix, or widths that differ.
            DataError: queries are not finite.
        """
        if k < 1:
            raise ValueError(f"k: expected at least 1, got {k}")
        if queries.ndim != 2:
            raise ValueError(f"queries: expected (n_queries, dim), got {tuple(queries.shape)}")
        if queries.numel() and not math.isfinite(float(queries.abs().amax())):
            raise DataError("queries: hold NaN or infinity, which would make any order of the answers")
        queries = queries.to(self._device, torch.float32)
        if self._device.type != "cpu" and len(blocks) == 1 and blocks[0].device == self._device:
            return search_resident(blocks[0], queries, k, GPU_PIECE_BYTES)
        if isinstance(blocks, (list, tuple)):  # in memory already: cut, so that threads can share a large block
            blocks = [part for block in blocks for part in (block.split(CUT_ROWS) if block.ndim == 2 else [block])]
        threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        budget = self._budget // threads
        tile_bytes = min(TILE_BYTES if self._device.type == "cpu" else GPU_TILE_BYTES, budget // 2)
        tile = max(1, tile_bytes // (4 * max(1, queries.shape[1])))
        # A panel of rows takes its scores twice, once transposed for top-k, the int64 names of the rows, and 16 bytes a
        # row that torch's top-k sorts.
        room = (budget - tile_bytes) // 8
        batch = max(1, room // tile - 3)
        found = [
            self._batch(blocks, part, k, threads, tile, max(1, room // (tile * (len(part) + 3))))
            for part in queries.split(batch)
            if len(part)
        ]
        if not found:
            width = min(k, sum(len(block) for block in blocks))
            return queries.new_empty(0, width, dtype=torch.int64), queries.new_empty(0, width)
        return torch.cat([rows for rows, _ in found]), torch.cat([values for _, values in found])

    def _batch(
        self, blocks: Sequence[Tensor], queries: Tensor, k: int, threads: int, tile: int, tiles: int
    ) -> tuple[Tensor, Tensor]:
        shared = _Blocks(blocks, queries.shape[1])
        columns = queries.T.contiguous()
        if threads == 1:
            names, scores = _scan(shared, columns, k, tile, tiles)
        else:
            # Threads of ours with one of torch's each: a tile is too small to be shared by torch's threads, whose
            # barriers made one query over 1M x 512 take 17 times as long on two busy cores (median of 9).
            try:
                torch.set_num_threads(1)
                with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                    jobs = [pool.submit(_scan, shared, columns, k, tile, tiles) for _ in range(threads)]
                    names, scores = _merged([job.result() for job in jobs], k)
            finally:
                torch.set_num_threads(threads)
        return shared.rows(names), scores


def search_resident(vectors: Tensor, queries: Tensor, k: int, nbytes: int) -> tuple[Tensor, Tensor]:
    """Search one matrix that lies where the queries are: a product and a top-k for every piece of `nbytes`.

    Args:
        vectors: ``(n, dim)``, any floating type.
        queries: ``(n_queries, dim)`` fp32.
        k: answers a query.
        nbytes: of the fp32 copy of a piece, its scores and the keys that these are ordered by.

    Returns:
        Rows and scores as `ExactIndex.search`.

    Raises:
        ValueError: the widths differ.
    """
    count, dim = queries.shape
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"blocks[0]: expected (n, {dim}) as the queries, got {tuple(vectors.shape)}")
    parts: list[tuple[Tensor, Tensor]] = []
    start = 0
    for piece in vectors.split(max(1, nbytes // (4 * (dim + 6 * max(1, count))))):
        rows, scores = _best_in_order(products(queries, piece), k)
        parts.append((rows + start if start else rows, scores))
        if len(parts) > 1:
            parts = [_merged(parts, k)]
        start += len(piece)
    return parts[0]


def products(queries: Tensor, vectors: Tensor) -> Tensor:
    """Return fp32 ``(n_queries, n)`` dot products of fp32 queries with vectors of any floating type.

    On a GPU many fp16 vectors are multiplied as they are, with what rounds each query to fp16 and, times 2048, what
    that leaves: 22 bits of it, while a number of the query is below 65,504. An fp32 copy would be written and read
    again: 0.53 ms instead of 2.3 for one query and a million vectors of 512 numbers, and 0.14 instead of 0.04 for 3,000
    (H100).
    """
    if not (vectors.is_cuda and vectors.dtype == torch.float16 and vectors.numel() >= MANY_NUMBERS):
        return queries @ vectors.float().T
    rounded = queries.half()
    rest = ((queries - rounded) * 2048).half()
    both = torch.mm(torch.cat([rounded, rest]), vectors.T, out_dtype=torch.float32)
    return torch.add(both[: len(queries)], both[len(queries) :], alpha=1 / 2048)


def _best_in_order(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return places and values ``(n_queries, min(k, n))`` of the k highest, best first, equal ones by ascending place.

    `topk` leaves open which of equal scores it takes, and in which order. Where none are equal, and none is not a
    number, nothing is open: on a GPU that takes 0.1 ms, most of it the launches, and the keys below 0.25.
    """
    n = scores.shape[1]
    values, places = scores.topk(min(k + 1, n), dim=1)
    if bool((values[:, :-1] > values[:, 1:]).all()):
        return places[:, :k], values[:, :k]
    # Keys: a score's bits above those of its place. NaN goes first, so that the caller sees it; adding 0 makes -0 a 0.
    bits = (torch.where(scores.isnan(), torch.inf, scores) + 0.0).view(torch.int32).long()
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)) << 32  # ascending as the scores: negative ones count backwards
    keys |= torch.arange(n - 1, -1, -1, device=scores.device)
    places = (n - 1) - (keys.topk(min(k, n), dim=1).values & 0xFFFFFFFF)
    return places, scores.gather(1, places)


class _Blocks:
    """Hands out blocks, each once, to whichever thread asks; the thread itself reads what it was given.

    Until all lengths are known a row is named by its block's number, shifted, and its place in the block: finding out
    how long a block is may take reading it. Names are in the order of the rows.
    """

    def __init__(self, blocks: Sequence[Tensor], dim: int) -> None:
        self._blocks = blocks
        self._dim = dim
        self._lock = threading.Lock()
        self._numbers = iter(range(len(blocks)))
        self._lengths = [0] * len(blocks)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the name of the first row, and the rows."""
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            block = self._blocks[number]
            if block.ndim != 2 or block.shape[1] != self._dim:
                raise ValueError(
                    f"blocks[{number}]: expected (n, {self._dim}) as the queries, got {tuple(block.shape)}"
                )
            self._lengths[number] = len(block)
            yield number << _PLACE_BITS, block

    def rows(self, names: Tensor) -> Tensor:
        """Return the numbers of rows, counted over all blocks."""
        starts = torch.tensor([0, *self._lengths]).cumsum(0).to(names.device)
        return starts[names >> _PLACE_BITS] + (names & ((1 << _PLACE_BITS) - 1))


def _scan(blocks: _Blocks, queries: Tensor, k: int, tile_rows: int, tiles: int) -> tuple[Tensor, Tensor]:
    """Score blocks until there are none and return names of rows and scores; `queries` is ``(dim, n_queries)``."""
    device, count = queries.device, queries.shape[1]
    # Zeros: rows of the last tile that are never filled are multiplied too.
    tile = torch.zeros(tile_rows, queries.shape[0], device=device)
    panel = torch.empty(tiles * tile_rows, count, device=device)
    transposed = torch.empty(count, len(panel), device=device)
    names = torch.empty(len(panel), dtype=torch.int64, device=device)
    best = (torch.empty(count, 0, dtype=torch.int64, device=device), torch.empty(count, 0, device=device))
    filled = 0  # rows of the panel that have a name; those of the tile under way have no score yet

    def multiply() -> None:
        start = (filled - 1) // tile_rows * tile_rows
        torch.mm(tile, queries, out=panel[start : start + tile_rows])

    def rank() -> tuple[Tensor, Tensor]:
        transposed[:, :filled].copy_(panel[:filled].T)
        places, values = _best(transposed[:, :filled], k)
        return _merged([best, (names[places], values)], k)

    for name, block in blocks:
        done = 0
        while done < len(block):
            at = filled % tile_rows
            n = min(tile_rows - at, len(block) - done)
            tile[at : at + n].copy_(block[done : done + n])
            torch.arange(name + done, name + done + n, out=names[filled : filled + n])
            done, filled = done + n, filled + n
            if at + n == tile_rows:
                multiply()
            if filled == len(panel):
                best, filled = rank(), 0
    if filled % tile_rows:
        multiply()
    return rank() if filled else best


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return places and values ``(n_queries, min(k, n))`` of the k highest; of equal ones at the border the first."""
    values, places = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if values.shape[1] <= k:
        return places, values
    # `topk` picks among equal scores as it likes; one more than k shows for which queries it had to pick.
    tied = (values[:, k] == values[:, k - 1]).nonzero().flatten().tolist()
    values, places = values[:, :k], places[:, :k]
    for query in tied:
        contenders = (scores[query] >= values[query, -1]).nonzero().flatten()
        ordered, order = scores[query, contenders].sort(dim=0, descending=True, stable=True)
        values[query], places[query] = ordered[:k], contenders[order[:k]]
    return places, values


def _merged(parts: Sequence[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """Return the k best rows and scores of several answers, equal scores by ascending row."""
    rows, order = torch.cat([rows for rows, _ in parts], 1).sort(dim=1)
    scores = torch.cat([scores for _, scores in parts], 1).gather(1, order)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return rows.gather(1, order)[:, :k], scores[:, :k]
