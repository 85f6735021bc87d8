"""Search among regions: parts of pictures, regions of the store and words, each matched with its best region.

A query is a few unit vectors with weights that sum to 1. An image scores ``sum_q w_q max_r <q, r>`` over its regions
that no filter masked (MaxSim, Khattab and Zaharia 2020). The first stage looks at every region of the store in blocks
and hands on the images of the best ones; for a query of one vector that is the exact answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor

from heritage_align.errors import DataError, StoreError
from heritage_align.features import boxes_of
from heritage_align.ops import Ragged, maxsim_score
from heritage_align.protocols import Index
from heritage_align.search.scoring import GATHERED_BYTES, chunks_of, places_in, refuse_not_finite
from heritage_align.store import Store

if TYPE_CHECKING:
    from heritage_align.types import ImageFeatures

RegionAnswer = tuple[str, tuple[float, float, float, float], float]


@dataclass(frozen=True)
class RegionQuery:
    """What is searched among regions.

    Attributes:
        names: of the parts: a detail, a phrase; they name the answers of a hit.
        vectors: ``(n_parts, dim)`` fp32, unit rows.
        weights: ``(n_parts,)`` fp32 of the parts in the score, above 0 and 1 in sum.
    """

    names: tuple[str, ...]
    vectors: Tensor
    weights: Tensor

    @classmethod
    def of(cls, groups: Sequence[tuple[Sequence[str], Tensor, float]]) -> RegionQuery:
        """Join groups of parts: names, vectors, and a weight that a group's parts share equally; 0 leaves it out."""
        taken = [(names, vectors.float(), weight / len(names)) for names, vectors, weight in groups if weight > 0]
        return cls(
            tuple(name for names, _, _ in taken for name in names),
            torch.cat([vectors for _, vectors, _ in taken]),
            torch.tensor([weight for names, _, weight in taken for _ in names]).to(taken[0][1].device),
        )


class RegionSearch:
    """Finds the images of a store whose regions answer a query; safe in threads.

    Args:
        store: with regions.
        index: of the first stage.
        device: where candidates are scored.

    Raises:
        StoreError: the store has no regions.
    """

    def __init__(self, store: Store, index: Index, device: torch.device) -> None:
        if not store.has_regions:
            raise StoreError(
                f"{store.path}: has no regions that a detail could be matched with; index with a config that has a "
                "proposer (recipe late-interaction or scan), or compare whole pictures (--whole, search_images)"
            )
        self._store, self._index, self._device = store, index, device

    @cached_property
    def _starts(self) -> Tensor:
        """``(n_images + 1,)``: the first of an image's regions among all that no filter masked."""
        lengths = [_kept(self._shard(number)).lengths for number in range(len(self._store.starts) - 1)]
        return torch.nn.functional.pad(torch.cat(lengths).cpu().cumsum(0), (1, 0))

    def candidates(self, query: RegionQuery, depth: int) -> Tensor:
        """Return ascending rows of the images that hold the best `depth` regions of any part of the query.

        Where regions of few images crowd out others, it looks deeper until there are `depth` images for the query, or
        all that have regions.
        """
        total, asked = int(self._starts[-1]), depth
        having = int((self._starts[1:] > self._starts[:-1]).sum())
        while True:
            regions, scores = self._index.search(_KeptRegions(self), query.vectors, min(asked, total))
            rows = torch.searchsorted(self._starts, regions.cpu(), right=True) - 1
            refuse_not_finite(self._store, rows, scores.cpu())
            found = rows.unique()
            if len(found) >= min(depth, having) or asked >= total:
                return found
            asked *= 4

    def score(self, query: RegionQuery, rows: Tensor) -> Tensor:
        """Return fp32 ``(n_rows,)`` on the CPU, the score of images at ascending rows; -inf for one without regions."""
        asked = Ragged(
            query.vectors * query.weights[:, None], torch.tensor([0, len(query.vectors)], device=query.vectors.device)
        )
        scores = torch.empty(len(rows))
        for chunk in chunks_of(rows, self._store.region_bytes(rows), GATHERED_BYTES):
            images = _kept(self._store.gather(chunk, self._device))
            scores[places_in(rows, chunk)] = maxsim_score(asked, images)[:, 0].float().cpu()
        refuse_not_finite(self._store, rows, scores)
        return scores

    def best(self, query: RegionQuery, top_k: int, depth: int, left_out: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return rows and scores of at most `top_k` images, best first, equal scores by ascending row.

        Args:
            query: what is searched.
            top_k: how many.
            depth: images that the first stage finds at least.
            left_out: rows that are no answer.
        """
        rows = self.candidates(query, max(depth, top_k) + len(left_out))
        rows = rows[~torch.isin(rows, torch.tensor(left_out, dtype=torch.int64))]
        scores, order = self.score(query, rows).sort(descending=True, stable=True)
        return rows[order[:top_k]], scores[:top_k]

    def answers(self, query: RegionQuery, rows: Tensor) -> list[tuple[RegionAnswer, ...]]:
        """Say for every image which region answers which part of the query, its box as fractions, and the cosine."""
        if not len(rows):  # the only pictures with regions are those that the query is of
            return []
        ordered, place = rows.sort()
        images = self._store.gather(ordered, self._device)
        assert images.regions is not None
        found: list[tuple[RegionAnswer, ...]] = []
        for image in place.argsort().tolist():
            boxes = boxes_of(images, image)
            first, last = images.regions.host_offsets[image : image + 2].tolist()
            cosines = query.vectors @ images.regions.item(image).float().T
            if images.keep is not None:
                cosines = cosines.masked_fill(~images.keep[first:last], -torch.inf)
            values, numbers = cosines.max(1)
            assert boxes is not None  # a store has boxes wherever it has regions
            found.append(
                tuple(
                    (name, tuple(boxes[number].tolist()), value)
                    for name, number, value in zip(query.names, numbers.tolist(), values.tolist())
                )
            )
        return found

    def region(self, image_id: str, region: int | Sequence[float]) -> tuple[Tensor, int]:
        """Return the vector ``(1, dim)`` of a region, fp32 where candidates are scored, and the row of its image.

        Args:
            image_id: of an image of the store.
            region: its number in the image, from 0, or its box as a hit's answer gives it.

        Raises:
            StoreError: the store has no such image.
            DataError: the image has no such region.
        """
        row = self._store.row(image_id)
        images = self._store.gather(torch.tensor([row]), self._device)
        boxes = boxes_of(images, 0)
        assert images.regions is not None
        assert boxes is not None
        number = _number_of(region, boxes.cpu())
        if number is None:
            raise DataError(
                f"image {image_id!r}: none of its {len(boxes)} regions, from 0, is {region!r}; expected a number, or a "
                "box as a hit's answer gives it, x0, y0, x1, y1 as fractions of width and height"
            )
        vector = images.regions.item(0)[number].float()
        return torch.nn.functional.normalize(vector, dim=0)[None], row

    def _shard(self, number: int) -> ImageFeatures:
        return self._store.shard_features(number, global_features=False)


def _number_of(region: int | Sequence[float], boxes: Tensor) -> int | None:
    """Return a region's number, given as such or by its box; None where there is none."""
    try:
        number = index(region)  # type: ignore[arg-type]  # a whole number of any library is one
    except TypeError:
        box = torch.as_tensor(region, dtype=torch.float32)
        same = ((boxes - box).abs().amax(1) < BOX_TOLERANCE).nonzero() if box.shape == (4,) else boxes[:0]
        return int(same[0]) if len(same) else None
    return number if 0 <= number < len(boxes) else None


BOX_TOLERANCE = 1e-4
"""Of a box that a program read from JSON: a hundredth of a pixel in a picture of 100."""


class _KeptRegions(Sequence[Tensor]):
    """One block a shard: its regions that no filter masked, looked up when they are asked for."""

    def __init__(self, search: RegionSearch) -> None:
        self._search = search

    def __len__(self) -> int:
        return len(self._search._store.starts) - 1

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return _kept(self._search._shard(index)).dequantised()


def _kept(images: ImageFeatures) -> Ragged:
    """Return the regions that no filter masked, without a copy where all are kept."""
    regions = images.regions
    assert regions is not None
    if images.keep is None or bool(images.keep.all()):
        return regions
    before = torch.nn.functional.pad(images.keep.to(torch.int64).cumsum(0), (1, 0))
    scales = None if regions.scales is None else regions.scales[images.keep]
    return Ragged(regions.values[images.keep], before[regions.offsets], scales)
