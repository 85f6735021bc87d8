"""What an alignment model is trained on: a data set's region features in memory, its captions and their fragments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from heritage_align.encoding import ImageStage, encode_images
from heritage_align.ops import Ragged
from heritage_align.plugin import (
    DataError,
    Dataset,
    FeatureEncoder,
    FeatureReader,
    Groups,
    ImageError,
    ImageFeatures,
    Regions,
    TextItem,
    concat_images,
    dataset_sources,
)
from heritage_align_plugins.alignment.side import Side


@dataclass(frozen=True)
class Collected:
    """A data set's pictures as features, with its texts.

    Attributes:
        images: unprojected features: ``regions`` ``(total, feature_dim)``, ``global_features`` ``(n, feature_dim)``;
            ``boxes`` as fractions of width and height.
        items: texts whose picture is there, in order.
        fragments: of every text.
        groups: of every text, places of fragments that share one vector; None where each has its own.
        rows: row of `images` of every text's first picture.
    """

    images: ImageFeatures
    items: tuple[TextItem, ...]
    fragments: tuple[tuple[str, ...], ...]
    rows: Tensor
    groups: tuple[Groups, ...] | None = None

    def digest(self, features: bool) -> str:
        """Return a digest of texts, fragments and, where `features`, the numbers; those of an encoder's forward pass
        may come out otherwise in the last bit."""
        digest = hashlib.sha256()
        texts = [(item.id, item.text, self.images.ids[row]) for item, row in zip(self.items, self.rows.tolist())]
        digest.update(json.dumps([self.images.ids, texts, self.fragments, self.groups]).encode())
        if features:
            assert self.images.regions is not None
            images, regions = self.images, self.images.regions
            for part in (images.global_features, regions.values, regions.offsets, images.boxes, images.keep):
                digest.update(b"" if part is None else np.ascontiguousarray(part.numpy()).data)
        return digest.hexdigest()

    def groups_of(self, captions: Sequence[int]) -> list[Groups] | None:
        """Return the groups of some texts."""
        return None if self.groups is None else [self.groups[row] for row in captions]

    def pictures(self, rows: Tensor) -> ImageFeatures:
        """Return the features of some pictures."""
        images = self.images
        assert images.regions is not None
        chosen = images.regions.rows_of(rows)
        keep = None if images.keep is None else images.keep[chosen]
        boxes = None if images.boxes is None else images.boxes[chosen]
        ids = tuple(images.ids[int(row)] for row in rows)
        return ImageFeatures(ids, images.global_features[rows], images.regions.select(rows), boxes=boxes, keep=keep)


def collect(dataset: Dataset, side: Side, *, batch_size: int, workers: int, quiet: bool) -> Collected:
    """Make the features of a data set; pictures that cannot be read are left out with their texts, and named.

    Raises:
        DataError: no picture could be read, no text is left, a picture has no regions, or a feature is not finite.
    """
    images = (
        _looked_up(dataset, side) if not side.stage.pictures else _encoded(dataset, side, batch_size, workers, quiet)
    )
    _check(images, dataset.name)
    if side.raw:  # the encoder refuses features of another width than it says
        assert isinstance(side.stage.encoder, FeatureEncoder)
        side.stage.encoder.encode_features(images.global_features[:1])
    row = {image_id: i for i, image_id in enumerate(images.ids)}
    items = tuple(item for item in dataset.texts if item.image_ids and item.image_ids[0] in row)
    if not items:
        raise DataError(f"{dataset.name}: has no text of a picture that could be read")
    rows = torch.tensor([row[item.image_ids[0]] for item in items])
    fragments = tuple(side.fragments(items))
    return Collected(images, items, fragments, rows, side.groups(fragments))


def _looked_up(dataset: Dataset, side: Side) -> ImageFeatures:
    """Read region features by id: of all pictures at once, so that one error names the first ids that are missing."""
    assert isinstance(side.stage.proposer, FeatureReader)
    regions = side.stage.proposer.lookup(dataset.image_ids)
    boxes = torch.from_numpy(np.concatenate([found.boxes for found in regions]).astype("float32").reshape(-1, 4))
    return _as_given(dataset.image_ids, regions, boxes)


def _as_given(ids: Sequence[str], regions: Sequence[Regions], boxes: Tensor) -> ImageFeatures:
    rows, whole = [], []
    for image_id, found in zip(ids, regions):
        if found.features is None or found.global_feature is None:
            raise DataError(f"image {image_id!r}: its regions came without features")
        rows.append(torch.from_numpy(np.asarray(found.features, dtype=np.float32)))
        whole.append(torch.from_numpy(np.asarray(found.global_feature, dtype=np.float32)))
    masks = [np.ones(len(r), dtype=bool) if r.keep is None else r.keep for r in regions]
    keep = None if all(r.keep is None for r in regions) else torch.from_numpy(np.concatenate(masks))
    return ImageFeatures(tuple(ids), torch.stack(whole), Ragged.from_list(rows), boxes=boxes, keep=keep)


def _encoded(dataset: Dataset, side: Side, batch_size: int, workers: int, quiet: bool) -> ImageFeatures:
    skipped: list[tuple[str, ImageError]] = []
    stage = _Raw(side.stage) if side.raw else side.stage
    parts = []
    with tqdm(total=len(dataset.image_ids), desc="features", unit="img", disable=True if quiet else None) as bar:

        def left_out(image_id: str, error: ImageError) -> None:
            skipped.append((image_id, error))
            tqdm.write(f"left out {image_id}: {error}")

        with torch.inference_mode():
            for features in encode_images(
                stage, dataset_sources(dataset), batch_size=batch_size, workers=workers, on_error=left_out
            ):
                parts.append(features)
                bar.update(len(features))
    if not parts:
        raise DataError(f"{dataset.name}: none of its pictures can be read, the first: {skipped[0][1]}")
    return _detached(concat_images(parts))


class _Raw(ImageStage):
    """A stage that returns a proposer's features as they are, where the usual one has them projected."""

    def __init__(self, stage: ImageStage) -> None:
        super().__init__(stage.encoder, stage.proposer, stage.filters, features=True)

    def project(self, ids: Sequence[str], regions: Sequence[Regions], boxes: Tensor) -> ImageFeatures:
        """Return the features that came with the regions."""
        return _as_given(ids, regions, boxes)


def _detached(images: ImageFeatures) -> ImageFeatures:
    """Return plain tensors on the CPU: those of inference mode cannot be saved for a backward pass."""
    assert images.regions is not None
    regions = Ragged(images.regions.values.clone().cpu(), images.regions.offsets.clone().cpu())
    keep = None if images.keep is None else images.keep.clone().cpu()
    boxes = None if images.boxes is None else images.boxes.clone().cpu()
    return ImageFeatures(images.ids, images.global_features.clone().cpu(), regions, boxes=boxes, keep=keep)


def _check(images: ImageFeatures, name: str) -> None:
    assert images.regions is not None
    empty = (images.regions.lengths == 0).nonzero().flatten().tolist()
    if empty:
        raise DataError(f"{name}: {len(empty)} pictures have no regions, the first: {images.ids[empty[0]]!r}")
    bad = (~images.regions.values.isfinite().all(dim=1)).nonzero().flatten()
    if len(bad):
        owner = int(torch.searchsorted(images.regions.offsets, bad[0], right=True)) - 1
        raise DataError(f"{name}: picture {images.ids[owner]!r}: its region features are not finite")
    whole = (~images.global_features.isfinite().all(dim=1)).nonzero().flatten()
    if len(whole):
        raise DataError(f"{name}: picture {images.ids[int(whole[0])]!r}: its whole-image feature is not finite")
