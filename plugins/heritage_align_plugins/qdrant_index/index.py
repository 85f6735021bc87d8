"""First-stage search by inner product in a collection of Qdrant, whose points are the rows of the store.

The same client speaks to a server or searches by itself. By itself it keeps everything in memory and looks at every
vector; its own files on disk take one transaction a point (190 points a second where this was written), so what is kept
is one array, from which an embedded collection is filled when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException
from torch import Tensor

from heritage_align.plugin import BuildContext, StoreError, settled_answers
from heritage_align_plugins.qdrant_index.config import QdrantIndexConfig

COLLECTION, VECTORS = "collection.json", "vectors.npy"
EMBEDDED = "embedded"
COPIED_ROWS = 2**16
BATCH = 256
"""Points of one request: 512 dimensions as JSON are some 2.5 MB of the 32 that a server takes by default."""


class QdrantIndex:
    """An index that is built once (`KeptIndex`); blocks that are searched as they come are searched in memory."""

    def __init__(self, config: QdrantIndexConfig, context: BuildContext) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """Return the server and the settings of its graph; see `KeptIndex`."""
        config = self._config
        if config.url is None:
            return f"qdrant/{EMBEDDED}"
        return f"qdrant/{config.url}/{json.dumps({'m': config.m, 'ef_construct': config.ef_construct})}"

    def build(self, blocks: Sequence[Tensor], folder: Path) -> None:
        """Upload to a collection of the server, or write the array; see `KeptIndex`.

        Raises:
            StoreError: the server does not answer or refuses, or the array cannot be written.
        """
        count, dim = sum(len(block) for block in blocks), blocks[0].shape[1]
        name = _name_of(folder)
        if self._config.url is None:
            with (folder / VECTORS).open("wb") as stream:  # not mapped: a full disk would end the process (SIGBUS)
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
                np.lib.format.write_array_header_1_0(stream, header)
                for block in blocks:
                    stream.write(np.ascontiguousarray(block.float().cpu().numpy(), "<f4").data)
        else:
            with self._answering():
                client = self._client()
                client.delete_collection(name)  # of a build that was killed
                self._fill(client, name, blocks, dim)
                client.close()
        document = {"collection": name, "points": count, "dim": dim}
        (folder / COLLECTION).write_text(json.dumps(document), encoding="utf-8")

    def open(self, folder: Path) -> QdrantSearch:
        """Return the collection; raises StoreError where the server lacks it or some of its points, or is away."""
        name, count, dim = _collection(folder)
        if self._config.url is None:
            try:
                array = np.load(folder / VECTORS, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise StoreError(f"{folder / VECTORS}: cannot be read: {error}") from error
            client = QdrantClient(":memory:")
            parts = (array[start : start + COPIED_ROWS] for start in range(0, count, COPIED_ROWS))
            self._fill(client, name, (torch.from_numpy(np.array(part)) for part in parts), dim)
            return QdrantSearch(self._config, client, name, count)
        with self._answering():
            client = self._client()
            there = client.count(name, exact=True).count if client.collection_exists(name) else None
        if there != count:
            client.close()
            found = "is not there" if there is None else f"has {there} points, expected {count}"
            raise StoreError(f"{self._config.url}: collection {name} {found}")
        return QdrantSearch(self._config, client, name, count)

    def drop(self, folder: Path) -> None:
        """Delete the server's collection."""
        if self._config.url is not None:
            name, _, _ = _collection(folder)
            with self._answering():
                client = self._client()
                client.delete_collection(name)
                client.close()

    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Search blocks in memory for this one call; see `Index`.

        Raises:
            ValueError: k below 1, queries that are no matrix or not finite, or widths that differ.
        """
        dim = queries.shape[1] if queries.ndim == 2 else 0
        for number, block in enumerate(blocks):
            if block.ndim != 2 or block.shape[1] != dim:
                raise ValueError(f"blocks[{number}]: expected (n, {dim}) as the queries, got {tuple(block.shape)}")
        client, count = QdrantClient(":memory:"), sum(len(block) for block in blocks)
        self._fill(client, "blocks", blocks, dim)
        embedded = QdrantSearch(self._config.model_copy(update={"url": None}), client, "blocks", count)
        rows, scores = embedded.search(queries.float().cpu(), k)
        return rows.to(queries.device), scores.to(queries.device)

    def _client(self) -> QdrantClient:
        config = self._config
        key = os.environ.get(config.api_key_variable)
        return QdrantClient(url=config.url, api_key=key, timeout=config.timeout, check_compatibility=False)

    def _answering(self) -> Any:
        return answering(self._config.url)

    def _fill(self, client: QdrantClient, name: str, blocks: Iterable[Tensor], dim: int) -> None:
        graph = models.HnswConfigDiff(m=self._config.m, ef_construct=self._config.ef_construct)
        size = models.VectorParams(size=dim, distance=models.Distance.DOT)
        client.create_collection(name, vectors_config=size, hnsw_config=graph)
        with warnings.catch_warnings():  # the client advises a server beyond 20,000 points: the docs have the times
            warnings.filterwarnings("ignore", "Local mode is not recommended", UserWarning)
            start = 0
            for block in blocks:
                if len(block):
                    ids = range(start, start + len(block))
                    client.upload_collection(name, block.float().cpu().numpy(), ids=ids, batch_size=BATCH, wait=True)
                start += len(block)


class QdrantSearch:
    """A collection that is open."""

    def __init__(self, config: QdrantIndexConfig, client: QdrantClient, name: str, count: int) -> None:
        self._config, self._client, self._name, self._count = config, client, name, count
        # A client that searches by itself is not made for threads; one of a server is.
        self._lock: Any = threading.Lock() if config.url is None else nullcontext()

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return rows and inner products; see `KeptSearch`.

        Raises:
            ValueError: queries that are no matrix or not finite.
            StoreError: the server does not answer, or refuses.
        """
        return settled_answers(self._ask, queries, k, self._count)

    def close(self) -> None:
        """Close the connection, or give the memory back."""
        self._client.close()

    def _ask(self, queries: Tensor, k: int, effort: int) -> tuple[Tensor, Tensor]:
        parameters = None
        if self._config.url is not None:  # a server that found too few looks at every vector
            parameters = models.SearchParams(hnsw_ef=max(self._config.ef, k), exact=effort > 1)
        requests = [models.QueryRequest(query=query, limit=k, params=parameters) for query in queries.tolist()]
        with self._lock, answering(self._config.url):
            answers = self._client.query_batch_points(self._name, requests)
        rows = torch.full((len(queries), k), -1, dtype=torch.int64)
        scores = torch.full((len(queries), k), -torch.inf)
        for line, answer in enumerate(answers):
            points = answer.points
            rows[line, : len(points)] = torch.tensor([int(point.id) for point in points], dtype=torch.int64)
            scores[line, : len(points)] = torch.tensor([point.score for point in points])
        return rows, scores


@contextmanager
def answering(url: str | None) -> Iterator[None]:
    """Turn what the client raises of a server into StoreError that names it."""
    try:
        yield
    except ApiException as error:
        reason = " ".join(str(error).split())[:300]
        raise StoreError(f"{url}: the Qdrant server does not answer as it should: {reason}") from error


def _collection(folder: Path) -> tuple[str, int, int]:
    """Return the collection's name, its number of points and their width."""
    path = folder / COLLECTION
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return str(kept["collection"]), int(kept["points"]), int(kept["dim"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise StoreError(f"{path}: is damaged: {error!r}") from error


def _name_of(folder: Path) -> str:
    """Return a name that a build of the same index over the same store finds again after a kill."""
    place = f"{socket.gethostname()}:{folder.resolve()}"
    return f"heritage_align_{hashlib.sha256(place.encode()).hexdigest()[:24]}"
