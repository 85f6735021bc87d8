"""First-stage search with faiss (Douze et al. 2024) by inner product, over vectors of any length."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import torch
from torch import Tensor

from heritage_align.plugin import BuildContext, ConfigError, StoreError, settled_answers
from heritage_align_plugins.faiss_index.config import FaissIndexConfig

ENGINE: Any = faiss  # its stubs lack classes, and what constructors take by name
FILE = "vectors.faiss"
TRAINED_ON = 64
"""Vectors a list, and a value of a byte, that k-means sees; faiss asks for 39 at least and takes up to 256."""
LEAST_A_LIST = 39
PQ_BITS = 8
CUT_ROWS = 2**16
"""Vectors in fp32 that are handed over at once: 128 MiB of 512 dimensions."""


class FaissIndex:
    """An index that is built once (`KeptIndex`); blocks that are searched as they come are indexed for that call."""

    def __init__(self, config: FaissIndexConfig, context: BuildContext) -> None:
        self._config, self._seed = config, context.seed

    def fingerprint(self) -> str:
        """Return kind, settings of the building, and the seed where something is drawn; see `KeptIndex`."""
        config = self._config
        shaping: dict[str, tuple[str, ...]] = {
            "flat": (),
            "ivf": ("nlist",),
            "hnsw": ("hnsw_m", "ef_construction"),
            "pq": ("nlist", "pq_bytes"),
        }
        settings = {name: getattr(config, name) for name in shaping[config.kind]}
        seed = {"seed": self._seed} if config.kind in ("ivf", "pq") else {}
        return f"faiss/{config.kind}/{json.dumps({**settings, **seed})}"

    def build(self, blocks: Sequence[Tensor], folder: Path) -> None:
        """Build and write; see `KeptIndex`.

        Raises:
            ConfigError: `pq_bytes` does not divide the dimensions.
            StoreError: the file cannot be written.
        """
        index = self._made(blocks)
        try:
            faiss.write_index(index, str(folder / FILE))
        except RuntimeError as error:  # of C++: a full disk, a folder that is read-only
            raise StoreError(f"{folder / FILE}: cannot be written: {_first_line(error)}") from error

    def open(self, folder: Path) -> FaissSearch:
        """Map what was built; raises StoreError where faiss cannot read it."""
        path = folder / FILE
        try:
            # Mapped: several processes share its pages, and what is not looked at is not read.
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise StoreError(f"{path}: faiss {faiss.__version__} cannot read it: {_first_line(error)}") from error
        return FaissSearch(index, self._config)

    def drop(self, folder: Path) -> None:
        """Do nothing: all that is kept is in the folder."""

    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Index blocks for this one call and search them; see `Index`.

        Raises:
            ValueError: k below 1, queries that are no matrix or not finite, or widths that differ.
        """
        dim = queries.shape[1] if queries.ndim == 2 else 0
        for number, block in enumerate(blocks):
            if block.ndim != 2 or block.shape[1] != dim:
                raise ValueError(f"blocks[{number}]: expected (n, {dim}) as the queries, got {tuple(block.shape)}")
        rows, scores = FaissSearch(self._made(blocks), self._config).search(queries.float().cpu(), k)
        return rows.to(queries.device), scores.to(queries.device)

    def _made(self, blocks: Sequence[Tensor]) -> Any:
        lengths = [len(block) for block in blocks]
        count, dim = sum(lengths), blocks[0].shape[1] if len(blocks) else 1
        index = self._empty(count, dim)
        if count and not index.is_trained:
            wanted = min(count, max(TRAINED_ON * index.nlist, TRAINED_ON * 2**PQ_BITS))
            draw = torch.Generator().manual_seed(self._seed)
            rows = torch.randperm(count, generator=draw)[:wanted].sort().values
            index.train(_picked(blocks, lengths, rows).numpy())
        for block in blocks:
            for piece in block.split(CUT_ROWS):
                index.add(piece.float().contiguous().cpu().numpy())
        return index

    def _empty(self, count: int, dim: int) -> Any:
        config, metric = self._config, faiss.METRIC_INNER_PRODUCT
        if config.kind == "flat" or not count:
            return faiss.IndexFlatIP(dim)
        if config.kind == "hnsw":
            index = ENGINE.IndexHNSWFlat(dim, config.hnsw_m, metric)
            index.hnsw.efConstruction = config.ef_construction
            return index
        nlist = config.nlist or min(round(4 * math.sqrt(count)), count // LEAST_A_LIST)
        nlist = max(1, min(nlist, count))
        if config.kind == "ivf":
            index = ENGINE.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, nlist, metric)
        else:
            if dim % config.pq_bytes:
                fault = f"index.pq_bytes: {config.pq_bytes} does not divide the {dim} dimensions of the vectors"
                raise ConfigError([fault], "faiss")
            bits = min(PQ_BITS, int(math.log2(count)))  # a code book of no more entries than there are vectors
            index = ENGINE.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, nlist, config.pq_bytes, max(1, bits), metric)
            index.pq.cp.seed, index.pq.cp.min_points_per_centroid = self._seed, 1
            index.pq.cp.max_points_per_centroid = TRAINED_ON
        index.cp.seed, index.cp.min_points_per_centroid = self._seed, 1  # faiss prints a warning below 39
        return index


class FaissSearch:
    """An index of faiss that is open."""

    def __init__(self, index: Any, config: FaissIndexConfig) -> None:
        self._index, self._config = index, config

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return rows and inner products; see `KeptSearch`.

        Raises:
            ValueError: queries that are no matrix of the index's width, or not finite.
        """
        count = int(self._index.ntotal)
        if count and queries.shape[-1] != self._index.d:
            raise ValueError(f"queries: expected (n_queries, {self._index.d}), got {tuple(queries.shape)}")
        return settled_answers(self._ask, queries, k, count)

    def close(self) -> None:
        """Let the index go, and the pages of its file."""
        self._index = None

    def _ask(self, queries: Tensor, k: int, effort: int) -> tuple[Tensor, Tensor]:
        """Return rows, -1 for none, and scores, looking `effort` times as far as the settings say."""
        index, config, parameters = self._index, self._config, None
        if config.kind in ("ivf", "pq") and hasattr(index, "nlist"):
            parameters = ENGINE.SearchParametersIVF(nprobe=min(config.nprobe * effort, index.nlist))
        elif config.kind == "hnsw" and hasattr(index, "hnsw"):
            sight = max(config.ef, k) * effort
            if sight >= 2 * index.ntotal:  # a graph that falls apart, as one of many equal vectors may
                index = faiss.downcast_index(index.storage)
            else:
                parameters = ENGINE.SearchParametersHNSW(efSearch=sight)
        scores, rows = index.search(queries.contiguous().numpy(), k, params=parameters)
        return torch.from_numpy(rows), torch.from_numpy(scores)


def _picked(blocks: Sequence[Tensor], lengths: Sequence[int], rows: Tensor) -> Tensor:
    """Return chosen ascending rows of all blocks as fp32; each block is asked for once."""

    def parts() -> Iterator[Tensor]:
        start = 0
        for block, length in zip(blocks, lengths):
            here = rows[(rows >= start) & (rows < start + length)] - start
            yield block[here].float().cpu()
            start += length

    return torch.cat(list(parts()))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
