"""The first stage of a search: a store's images by one vector each, through the index of the pipeline.

An index that looks at every vector is asked with the vectors themselves, and its answer is exact. One that is kept
(`protocols.KeptIndex`: approximate, or a database) is opened beside the store and gives candidates: answers are in the
order of dot products with the stored vectors, or of the full similarity.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from heritage_align.errors import ConfigError
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import KeptIndex, KeptSearch
from heritage_align.search.resident import ResidentVectors
from heritage_align.search.scoring import Holders, vector_scores
from heritage_align.store import Store
from heritage_align.store.kept import Keeper


def keeper_of(pipeline: Pipeline) -> Keeper | None:
    """Return what keeps the pipeline's index, None for one that needs no keeping."""
    index = pipeline.index
    return Keeper(pipeline.config.index.spec.name, index) if isinstance(index, KeptIndex) else None


def answers_exactly(pipeline: Pipeline, store: Store) -> bool:
    """Whether the first stage is the exact answer: the similarity folds, and the index looks at every vector."""
    return store.exact_first_stage and not isinstance(pipeline.index, KeptIndex)


class FirstStage:
    """Searches a store's vectors; safe in threads.

    Args:
        pipeline: whose index.
        store: whose vectors.
        vectors: where they are, for an index that looks at all of them.
        ready: whether an index that is kept is opened now, and built where there is none, or by the first search.
    """

    def __init__(self, pipeline: Pipeline, store: Store, vectors: ResidentVectors, *, ready: bool) -> None:
        self._index, self._store, self._vectors = pipeline.index, store, vectors
        self._keeper = keeper_of(pipeline)
        self._opened: dict[str, _Opened] = {}
        self._lock = threading.Lock()
        if ready and self._keeper is not None and len(store):
            with self._kept(self._keeper, store.first_stage_name):
                pass

    def candidates(self, name: str, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return int64 rows and fp32 scores ``(n_queries, min(k, n))`` of the index, best first by its own scores.

        Args:
            name: ``global`` or ``folded``.
            queries: ``(n_queries, dim)``.
            k: how many.

        Raises:
            StoreError: the store was changed since it was opened, or the index that is kept is not to be had.
        """
        if self._keeper is None:
            return self._index.search(self._vectors.blocks(name), queries, k)
        self._store.check()
        with self._kept(self._keeper, name) as kept:
            rows, scores = kept.search(queries.float().cpu(), k)
        return rows.to(queries.device), scores.to(queries.device)

    def best(self, name: str, queries: Tensor, k: int, depth: int) -> tuple[Tensor, Tensor]:
        """Return rows and scores ``(n_queries, min(k, n))`` by dot products with the stored vectors, best first.

        Equal scores go by ascending row.

        Args:
            name, queries, k: as of `candidates`.
            depth: candidates that an index that is kept is asked for, at least k.
        """
        if self._keeper is None:
            return self.candidates(name, queries, k)
        rows = self.candidates(name, queries, max(k, depth))[0].cpu().sort(dim=1).values
        scores, order = vector_scores(self._store, name, queries.float(), rows).sort(
            dim=1, descending=True, stable=True
        )
        return rows.gather(1, order)[:, :k], scores[:, :k]

    def close(self) -> None:
        """Close what is kept, each index when no search asks it any more; the next search opens it again."""
        with self._lock:
            opened = list(self._opened.values())
            self._opened.clear()
            for each in opened:
                each.closing = True
            idle = [each for each in opened if not each.searches]
        for each in idle:
            each.kept.close()

    @contextmanager
    def _kept(self, keeper: Keeper, name: str) -> Iterator[KeptSearch]:
        """Open what is kept; `close` leaves it open while the block runs."""
        with self._lock:
            opened = self._opened.get(name)
            if opened is None:
                opened = self._opened[name] = _Opened(keeper.open(self._store, name))
            opened.searches += 1
        try:
            yield opened.kept
        finally:
            with self._lock:
                opened.searches -= 1
                left = opened.closing and not opened.searches
            if left:
                opened.kept.close()


@dataclass
class _Opened:
    """An index that is open.

    Attributes:
        kept: the index.
        searches: that ask it now.
        closing: whether the last of them closes it.
    """

    kept: KeptSearch
    searches: int = 0
    closing: bool = False


class HeldFirstStage:
    """Looks for vectors where others hold the store, each holder by an index that looks at all of its part.

    Raises:
        ConfigError: the pipeline's index is kept beside a whole store, which holders of parts cannot share out.
    """

    def __init__(self, pipeline: Pipeline, store: Store, holders: Holders) -> None:
        if isinstance(pipeline.index, KeptIndex):
            name = pipeline.config.index.spec.name
            fault = f"index: {name!r} is kept beside a whole store, and workers hold parts of it; take index.name=exact"
            raise ConfigError([fault], pipeline.config.name)
        self._store, self._holders = store, holders

    def candidates(self, name: str, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return rows and scores on the CPU, as `FirstStage.candidates`."""
        self._store.check()
        return self._holders.nearest(name, queries, k)

    def best(self, name: str, queries: Tensor, k: int, depth: int) -> tuple[Tensor, Tensor]:
        """Return what `candidates` does, as it is in the order of dot products; an exact search needs no `depth`."""
        return self.candidates(name, queries, k)

    def close(self) -> None:
        """Do nothing: the holders are closed by who opened them."""
