"""Read a finished store: blocks for the first stage, gathered features for the rerank."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from heritage_align.errors import StoreError
from heritage_align.features import concat_images
from heritage_align.store.layout import Manifest, first_repeated, read_manifest, refuse_identity
from heritage_align.store.shard import Shard, read_shard
from heritage_align.types import ImageFeatures

RESIDENT_SHARDS = 4
"""Shards of a pass over the store whose pages stay in memory."""


class Store:
    """A folder of memory-mapped features; opening reads headers and ids, not features.

    Attributes:
        path: the folder.
        manifest: what it holds and what made it.
        ids: image ids, in the order of the rows.
    """

    def __init__(self, path: Path, manifest: Manifest, shards: Sequence[Shard]) -> None:
        self.path = path
        self.manifest = manifest
        self._shards = [shard for shard in shards if len(shard)]
        self.skipped = tuple(skipped for shard in shards for skipped in shard.skipped)
        self.ids: tuple[str, ...] = tuple(image_id for shard in self._shards for image_id in shard.ids)
        self._starts = torch.tensor([0, *(len(shard) for shard in self._shards)]).cumsum(0)

    @classmethod
    def open(cls, path: str | Path, expect: Mapping[str, str] | None = None) -> Store:
        """Open a store.

        Args:
            path: the folder.
            expect: a pipeline's identity; a store that another encoder or other image settings made is refused.

        Raises:
            StoreError: it is missing, half built, damaged, or made by another encoder; the message says which.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        if expect is not None:
            refuse_identity(manifest.build.identity, dict(expect), folder)
        shards = []
        for entry in manifest.shards:
            shard = read_shard(folder / entry.file)
            if len(shard) != entry.images:
                raise StoreError(f"{shard.path}: holds {len(shard)} images, the manifest says {entry.images}")
            shards.append(shard)
        store = cls(folder, manifest, shards)
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

    def first_stage(self) -> tuple[Blocks, bool]:
        """Return the vectors to search first, row-wise parts ``(n_i, dim)``, and whether their dot product with a
        text's global vector already is the score (a similarity that folds)."""
        folded = self.manifest.folded
        return self.blocks("folded" if folded == "stored" else "global"), folded != "none"

    def blocks(self, name: str) -> Blocks:
        """Return the ``global`` or ``folded`` vectors as memory-mapped parts ``(n_i, dim)``, one a shard."""
        return Blocks(self._shards, name)

    def gather(self, rows: Tensor, device: torch.device | str = "cpu") -> ImageFeatures:
        """Return the features of chosen images; only their rows are read.

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
        numbers = torch.searchsorted(self._starts, rows, right=True) - 1
        for number in numbers.unique().tolist():
            shard = self._shards[number]
            parts.append(_picked(shard, rows[numbers == number] - self._starts[number], self.manifest.folded))
            shard.tensors.release()
        if not parts:
            return ImageFeatures((), torch.empty(0, self.manifest.dim, device=device))
        return _moved(concat_images(parts), torch.device(device))


class Blocks(Sequence[Tensor]):
    """One block a shard, mapped when it is asked for; the pages of the last few stay resident, not of all.

    A block that is still in use when its pages are let go stays good: they are read again.
    """

    def __init__(self, shards: Sequence[Shard], name: str) -> None:
        self._shards = shards
        self._name = name
        self._recent: deque[Shard] = deque()

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Blocks: ...

    def __getitem__(self, index: int | slice) -> Tensor | Blocks:
        if isinstance(index, slice):
            return Blocks(self._shards[index], self._name)
        shard = self._shards[index]
        self._recent.append(shard)
        if len(self._recent) > RESIDENT_SHARDS:
            self._recent.popleft().tensors.release()
        return shard.vectors(self._name)


def _picked(shard: Shard, rows: Tensor, folded: str) -> ImageFeatures:
    whole = shard.vectors("global")[rows].float()
    vectors = {"none": None, "global": whole}.get(folded)
    if folded == "stored":
        vectors = shard.vectors("folded")[rows].float()
    regions = shard.regions()
    picked = ImageFeatures(tuple(shard.ids[row] for row in rows.tolist()), whole, folded=vectors)
    if regions is not None:
        picked.regions = regions.select(rows)
        picked.boxes = _runs(shard.tensors.get("boxes"), regions.offsets, rows)
        picked.keep = _runs(shard.tensors.get("keep"), regions.offsets, rows)
        picked.factor = _runs(shard.tensors.get("factor"), regions.factor_offsets, rows)
    return picked


def _moved(features: ImageFeatures, device: torch.device) -> ImageFeatures:
    def there(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    return ImageFeatures(
        features.ids,
        features.global_features.to(device),
        regions=None if features.regions is None else features.regions.to(device=device),
        boxes=there(features.boxes),
        keep=there(features.keep),
        factor=there(features.factor),
        folded=there(features.folded),
    )


def _runs(values: Tensor | None, offsets: Tensor, rows: Tensor) -> Tensor | None:
    """Return the runs ``values[offsets[r] : offsets[r + 1]]`` of the chosen rows, one after the other."""
    if values is None:
        return None
    return torch.cat([values[int(offsets[row]) : int(offsets[row + 1])] for row in rows.tolist()])
