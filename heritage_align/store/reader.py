"""Read a finished store: blocks for the first stage, shards in place, gathered features."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from heritage_align.errors import StoreError
from heritage_align.features import concat_images, moved
from heritage_align.memory import amount_in_bytes, checked_amount, physical_memory
from heritage_align.repeated import first_repeated
from heritage_align.store.layout import MANIFEST, Manifest, read_manifest, refuse_identity
from heritage_align.store.pages import PageBudget
from heritage_align.store.shard import Shard, factors_at, read_shard
from heritage_align.types import ImageFeatures

HOST_MEMORY = 0.5
"""Share of the machine's memory that pages of a store may take, which the system takes back where others need it."""

CHECK_SECONDS = 1.0
"""How often all files are looked at, whatever is asked of the store: 2,000 shards take 3 ms. A file that is read is
looked at each time."""


class Store:
    """A folder of memory-mapped features; opening reads headers and ids, not features. Safe to read in threads.

    Attributes:
        path: the folder.
        manifest: what it holds and what made it.
        ids: image ids, in the order of the rows.
        starts: ``(n_shards + 1,)`` int64, the first row of every shard that holds images, and the number of rows.
    """

    def __init__(
        self, path: Path, manifest: Manifest, shards: Sequence[Shard], host_memory: float | str = HOST_MEMORY
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._shards = [shard for shard in shards if len(shard)]
        self.skipped = tuple(skipped for shard in shards for skipped in shard.skipped)
        self.ids: tuple[str, ...] = tuple(image_id for shard in self._shards for image_id in shard.ids)
        self.starts = torch.tensor([0, *(len(shard) for shard in self._shards)]).cumsum(0)
        self._pages = PageBudget(amount_in_bytes(checked_amount(host_memory), physical_memory()))
        self._features: dict[int, ImageFeatures] = {}
        self._checked = time.monotonic()
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | Path,
        expect: Mapping[str, str] | None = None,
        *,
        host_memory: float | str = HOST_MEMORY,
        part: tuple[int, int] | None = None,
    ) -> Store:
        """Open a store.

        Args:
            path: the folder.
            expect: a pipeline's identity; a store that another encoder or other image settings made is refused.
            host_memory: pages of its files that stay mapped, a share of the machine's memory or a size ("8GiB").
            part: open the shards from the first number on, up to the second, as the manifest lists them; all by
                default.

        Raises:
            StoreError: it is missing, half built, damaged, or made by another encoder; the message says which.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        if expect is not None:
            refuse_identity(manifest.build.identity, dict(expect), folder)
        if part is not None:
            manifest = replace(manifest, shards=manifest.shards[slice(*part)])
        shards = []
        for entry in manifest.shards:
            shard = read_shard(folder / entry.file)
            if len(shard) != entry.images:
                raise StoreError(f"{shard.path}: holds {len(shard)} images, the manifest says {entry.images}")
            shards.append(shard)
        store = cls(folder, manifest, shards, host_memory)
        twice = first_repeated(store.ids)
        if twice is not None:
            raise StoreError(f"{folder}: image id {twice!r} occurs twice")
        return store

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.ids)}

    def row(self, image_id: str) -> int:
        """Return an image's row; raises StoreError for an unknown id."""
        try:
            return self._rows[image_id]
        except KeyError:
            raise StoreError(f"{self.path}: holds no image {image_id!r}") from None

    @property
    def has_regions(self) -> bool:
        """Whether it was built with a proposer: in all shards or in none."""
        return bool(self._shards) and "regions.values" in self._shards[0].tensors

    @property
    def has_factors(self) -> bool:
        """Whether every shard has triangular factors of its regions; merged stores may have some that do."""
        return all("factor" in shard.tensors for shard in self._shards)

    @property
    def exact_first_stage(self) -> bool:
        """Whether the dot product of `first_stage` with a text's global vector already is the score."""
        return self.manifest.folded != "none"

    @property
    def first_stage_name(self) -> str:
        """Which vectors are searched first: ``folded`` where a similarity's fold is stored, else ``global``."""
        return "folded" if self.manifest.folded == "stored" else "global"

    def first_stage(self) -> Blocks:
        """Return the vectors to search first, row-wise parts ``(n_i, dim)``; see `first_stage_name`."""
        return self.blocks(self.first_stage_name)

    def blocks(self, name: str) -> Blocks:
        """Return the ``global`` or ``folded`` vectors as memory-mapped parts ``(n_i, dim)``, one a shard."""
        self.check()
        return Blocks(self._shards, name, self._pages)

    def check(self) -> None:
        """Raise StoreError if a file was replaced, cut or deleted since the store was opened; looks once a second."""
        now = time.monotonic()
        if now - self._checked < CHECK_SECONDS:
            return
        if not (self.path / MANIFEST).exists():
            raise StoreError(f"{self.path}: is gone, or is being built again, since it was opened")
        for shard in self._shards:
            shard.tensors.refuse_changed()
        self._checked = now

    def shard_features(self, number: int, *, global_features: bool = True) -> ImageFeatures:
        """Return the features of all images of a shard where they lie, without a copy.

        Args:
            number: of the shard among those that hold images.
            global_features: whether they are used; int8 ones are converted at every call, and empty without.

        Raises:
            StoreError: the file was changed since the store was opened, or its offsets are damaged.
        """
        shard = self._shards[number]
        shard.tensors.refuse_changed()
        self._pages.use(shard.tensors, [name for name in _OF_REGIONS if name in shard.tensors])
        if global_features:
            self._pages.use(shard.tensors, ["global"])
        with self._lock:
            found = self._features.get(number)
            if found is None:
                found = self._features[number] = _mapped(shard)
        if global_features and len(found.global_features) != len(found):
            return replace(found, global_features=shard.vectors("global"))
        return found

    def shard_path(self, row: int) -> Path:
        """Return the file that holds a row."""
        return self._shards[int(torch.searchsorted(self.starts, row, right=True)) - 1].path

    def vectors(self, name: str, rows: Tensor) -> Tensor:
        """Return ``(n_rows, dim)`` fp32 ``global`` or ``folded`` vectors of chosen rows, in any order."""
        rows = rows.to("cpu", torch.int64)
        numbers = torch.searchsorted(self.starts, rows, right=True) - 1
        vectors = torch.empty(len(rows), self.manifest.dim)
        for number in numbers.unique().tolist():
            shard = self._shards[number]
            shard.tensors.refuse_changed()
            self._pages.use(shard.tensors, [name])
            at = (numbers == number).nonzero().flatten()
            vectors[at] = shard.rows(name, rows[at] - self.starts[number])
        return vectors

    def gather(self, rows: Tensor, device: torch.device | str = "cpu") -> ImageFeatures:
        """Return a copy of the features of chosen images; only their rows are read.

        Args:
            rows: int64, ascending and without repeats.
            device: where the features are wanted: scores need images and texts on one device.

        Raises:
            ValueError: rows out of order or out of range.
        """
        rows = rows.to("cpu", torch.int64)
        if len(rows) and (bool((rows[1:] <= rows[:-1]).any()) or int(rows[0]) < 0 or int(rows[-1]) >= len(self)):
            raise ValueError(f"rows: expected ascending rows of 0..{len(self) - 1} without repeats")
        parts = []
        numbers = torch.searchsorted(self.starts, rows, right=True) - 1
        for number in numbers.unique().tolist():
            parts.append(self._picked(number, rows[numbers == number] - self.starts[number]))
        if not parts:
            return ImageFeatures((), torch.empty(0, self.manifest.dim, device=device))
        return moved(concat_images(parts), torch.device(device))

    def region_bytes(self, rows: Tensor) -> Tensor:
        """Return ``(n_rows,)`` int64: what the regions of each row take in their storage type, 0 without regions."""
        sizes = torch.zeros(len(rows), dtype=torch.int64)
        numbers = torch.searchsorted(self.starts, rows, right=True) - 1
        for number in numbers.unique().tolist():
            regions = self.shard_features(number, global_features=False).regions
            if regions is not None:
                here = numbers == number
                sizes[here] = regions.lengths[rows[here] - self.starts[number]] * regions.dim * regions.dtype.itemsize
        return sizes

    def close(self) -> None:
        """Give the pages of its files back; the store stays usable."""
        self._pages.clear()
        with self._lock:
            self._features.clear()

    def _picked(self, number: int, rows: Tensor) -> ImageFeatures:
        shard, mapped = self._shards[number], self.shard_features(number, global_features=False)
        self._pages.use(shard.tensors, ["global"])
        whole = shard.rows("global", rows)
        vectors = {"none": None, "global": whole}.get(self.manifest.folded)
        if self.manifest.folded == "stored":
            self._pages.use(shard.tensors, ["folded"])
            vectors = shard.rows("folded", rows)
        picked = ImageFeatures(tuple(shard.ids[row] for row in rows.tolist()), whole, folded=vectors)
        regions = mapped.regions
        if regions is not None:
            picked.regions = regions.select(rows)
            at = regions.rows_of(rows)
            picked.boxes = None if mapped.boxes is None else mapped.boxes[at]
            picked.keep = None if mapped.keep is None else mapped.keep[at]
            picked.factor = None if mapped.factor is None else factors_at(mapped.factor, regions, rows)
        return picked


class Blocks(Sequence[Tensor]):
    """One block a shard, mapped when it is asked for; the pages stay as the budget allows.

    A block that is still in use when its pages are let go stays good: they are read again.
    """

    def __init__(self, shards: Sequence[Shard], name: str, pages: PageBudget) -> None:
        self._shards = shards
        self._name = name
        self._pages = pages

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Blocks: ...

    def __getitem__(self, index: int | slice) -> Tensor | Blocks:
        if isinstance(index, slice):
            return Blocks(self._shards[index], self._name, self._pages)
        shard = self._shards[index]
        shard.tensors.refuse_changed()
        self._pages.use(shard.tensors, [self._name])
        return shard.vectors(self._name)


_OF_REGIONS = ("regions.values", "regions.scales", "keep", "factor")


def _mapped(shard: Shard) -> ImageFeatures:
    """Return views of a shard; int8 global vectors are left out, being a copy."""
    raw = "global.scales" not in shard.tensors
    whole = shard.tensors["global"] if raw else torch.empty(0, shard.tensors["global"].shape[1])
    keep = shard.tensors.get("keep")
    if keep is not None and bool(keep.all()):
        keep = None  # looked at once, not at every score
    return ImageFeatures(
        shard.ids,
        whole,
        regions=shard.regions(),
        boxes=shard.tensors.get("boxes"),
        keep=keep,
        factor=shard.tensors.get("factor"),
    )
