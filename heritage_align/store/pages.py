"""Which pages of a store's mapped files stay in memory: those that were used last, up to a budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from heritage_align.store.mapping import MappedTensors


class PageBudget:
    """Counts the parts of mapped files that were read, and gives those of longest ago back beyond a budget.

    A page that stays costs nothing when it is read again; one that was given back costs a fault, though its content is
    still in the system's cache. Parts that are in use when they are given back stay good. Safe in threads.

    Args:
        nbytes: the budget; the part that was used last stays whatever its size.
    """

    def __init__(self, nbytes: int) -> None:
        self._budget = nbytes
        self._used: OrderedDict[tuple[int, tuple[str, ...]], tuple[MappedTensors, int]] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def use(self, tensors: MappedTensors, names: Sequence[str]) -> None:
        """Say that tensors of a file are about to be read; they count whole."""
        key = (id(tensors), tuple(names))
        with self._lock:
            if key in self._used:
                self._used.move_to_end(key)
                return
            size = tensors.nbytes(names)
            self._used[key] = (tensors, size)
            self._total += size
            while self._total > self._budget and len(self._used) > 1:
                (_, given_back), (file, freed) = self._used.popitem(last=False)
                self._total -= freed
                file.release(given_back)

    def clear(self) -> None:
        """Give everything back."""
        with self._lock:
            for (_, names), (file, _size) in self._used.items():
                file.release(names)
            self._used.clear()
            self._total = 0
