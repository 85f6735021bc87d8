"""What a model is trained on: features of a data set's pictures, its texts and their fragments.

Features of an encoder are made once, by the store's own writer, into the run's folder: process i of n encodes share
i/n, a killed run goes on without encoding a picture again, and one that cannot be read is left out, named and counted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from heritage_align.config import StoreSettings
from heritage_align.data.problems import left_out
from heritage_align.encoding.sources import dataset_sources
from heritage_align.errors import DataError, ImageError, StoreError
from heritage_align.features import concat_images
from heritage_align.fragment_groups import Groups
from heritage_align.front_end import FrontEnd
from heritage_align.indexing import build_index
from heritage_align.protocols import Dataset, FeatureEncoder, Fragmenter, FragmentGrouper
from heritage_align.store import Store
from heritage_align.store.files import write_json
from heritage_align.store.layout import read_manifest, sources_digest
from heritage_align.store.shard import read_shard
from heritage_align.training import distributed
from heritage_align.training.loop import run_identity
from heritage_align.types import ImageFeatures, TextItem

FEWEST, MOST, SHARDS = 16, 512, 64
"""Pictures in a shard of training features, and how many shards there are between these bounds: enough that eight
processes share the work evenly, and that a killed run loses little of it."""
LOOKED_AT = 1024
"""Pictures whose readability is kept in one file."""


@dataclass(frozen=True)
class Material:
    """A data set's pictures as features, with its texts.

    Attributes:
        images: of the pictures that could be read, fp32 on the CPU: ``global_features`` ``(n, dim)``, with a proposer
            ``regions`` ``(total, dim)`` and ``boxes`` as fractions of width and height.
        items: texts whose first picture is there, in order.
        fragments: of every text; without a fragmenter a text is its only one.
        rows: row of `images` of every text's first picture.
        groups: of every text, places of fragments that share one vector; None where each has its own.
    """

    images: ImageFeatures
    items: tuple[TextItem, ...]
    fragments: tuple[tuple[str, ...], ...]
    rows: Tensor
    groups: tuple[Groups, ...] | None = None

    def digest(self, features: bool) -> str:
        """Return a digest of texts, fragments and, where `features`, the numbers; those of an encoder's forward pass
        may come out otherwise in the last bit."""
        texts = [(item.id, item.text, self.images.ids[row]) for item, row in zip(self.items, self.rows.tolist())]
        numbers: list[Tensor | None] = []
        if features:
            images, regions = self.images, self.images.regions
            numbers = [images.global_features, images.boxes, images.keep]
            numbers += [] if regions is None else [regions.values, regions.offsets]
        return run_identity([self.images.ids, texts, self.fragments, self.groups], *numbers)

    def joined(self, other: Material) -> Material:
        """Return both, of pictures that are not in both, for example a part that was held out and the rest."""
        groups = self.groups, other.groups
        return Material(
            concat_images([self.images, other.images]),
            self.items + other.items,
            self.fragments + other.fragments,
            torch.cat([self.rows, other.rows + len(self.images)]),
            None if groups == (None, None) else (*_each(self), *_each(other)),
        )

    def groups_of(self, texts: Sequence[int]) -> list[Groups] | None:
        """Return the groups of some texts."""
        return None if self.groups is None else [self.groups[row] for row in texts]

    def pictures(self, rows: Tensor) -> ImageFeatures:
        """Return the features of some pictures, which have regions."""
        images = self.images
        assert images.regions is not None
        chosen = images.regions.rows_of(rows)
        keep = None if images.keep is None else images.keep[chosen]
        boxes = None if images.boxes is None else images.boxes[chosen]
        ids = tuple(images.ids[int(row)] for row in rows)
        return ImageFeatures(ids, images.global_features[rows], images.regions.select(rows), boxes=boxes, keep=keep)


def material_of(front: FrontEnd, dataset: Dataset, folder: Path, *, quiet: bool = False) -> Material:
    """Return what is trained on; texts of pictures that cannot be read are left out with them.

    Args:
        front: makes the features; with a proposer every picture must have regions.
        dataset: pictures and texts.
        folder: for features that an encoder makes.
        quiet: no progress bar.

    Raises:
        DataError: as `features_of`; no text is left, one has no fragment, or a picture has no regions.
    """
    images = features_of(front, dataset, folder, quiet=quiet)
    if images.regions is not None:
        empty = (images.regions.lengths == 0).nonzero().flatten().tolist()
        if empty:
            names = f"the first: {images.ids[empty[0]]!r}"
            raise DataError(f"{dataset.name}: {len(empty)} pictures have no regions, {names}")
    row = {image_id: i for i, image_id in enumerate(images.ids)}
    items = tuple(item for item in dataset.texts if item.image_ids and item.image_ids[0] in row)
    if not items:
        raise DataError(f"{dataset.name}: has no text of a picture that could be read")
    fragments = fragments_of(front.fragmenter, items)
    rows = torch.tensor([row[item.image_ids[0]] for item in items])
    shared = sum(len(item.image_ids) > 1 for item in items)
    if shared and distributed.rank() == 0:
        print(
            f"{dataset.name}: {shared} texts are of several pictures; each is learned with its first", file=sys.stderr
        )
    return Material(images, items, fragments, rows, _groups_of(front.fragmenter, fragments))


def features_of(front: FrontEnd, dataset: Dataset, folder: Path, *, quiet: bool = False) -> ImageFeatures:
    """Return the features of a data set's pictures, fp32 on the CPU; those that cannot be read are left out.

    Where features come from a file they are looked up, and nothing is written. Else they are encoded into a store in
    `folder`, by all processes of the run, or found there.

    Raises:
        DataError: no picture can be read, a feature is not finite, or the folder holds features of other pictures or
            settings.
    """
    if front.stage.pictures:
        images = _encoded(front, dataset, folder, quiet)
    else:
        images = front.stage.look_up(dataset.image_ids)
    if front.as_given:  # the encoder refuses features of another width than it says
        assert isinstance(front.encoder, FeatureEncoder)
        front.encoder.encode_features(images.global_features[:1])
    _refuse_not_finite(images, dataset.name)
    return images


def fragments_of(fragmenter: Fragmenter | None, items: Sequence[TextItem]) -> tuple[tuple[str, ...], ...]:
    """Split texts; raises DataError that names the first ones without a fragment."""
    if fragmenter is None:
        return tuple((item.text,) for item in items)
    split = tuple(tuple(fragmenter.split(item)) for item in items)
    bare = [item.id for item, fragments in zip(items, split) if not fragments]
    if bare:
        names = ", ".join(map(repr, bare[:3]))
        raise DataError(f"{len(bare)} texts have no fragment, the first: {names}; look at the fragmenter")
    return split


def unreadable(
    dataset: Dataset, image_ids: Sequence[str], folder: Path, *, workers: int, quiet: bool = False
) -> frozenset[str]:
    """Return which pictures cannot be read, for a trainer of encoders, which decodes them again in every epoch.

    Each is decoded once, by one of the run's processes, and what was found is kept in `folder`.

    Args:
        dataset: loads the pictures.
        image_ids: the pictures.
        folder: for what was found.
        workers: threads that decode.
        quiet: no progress bar.

    Raises:
        DataError: none can be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = [image_ids[start : start + LOOKED_AT] for start in range(0, len(image_ids), LOOKED_AT)]
    files = [folder / f"unreadable-{number:05d}.json" for number in range(len(runs))]

    def reason(image_id: str) -> str | None:
        try:
            dataset.load_image(image_id)
        except ImageError as error:
            return str(error)
        return None

    with _bar("pictures", len(image_ids), quiet) as advance, ThreadPoolExecutor(workers) as pool:
        for number in range(distributed.rank(), len(runs), distributed.world_size()):
            run = runs[number]
            if _kept(files[number], run) is None:
                reasons: dict[str, str] = {}
                for image_id, found in zip(run, pool.map(reason, run)):
                    advance(1)
                    if found is not None:
                        reasons[image_id] = found
                write_json(files[number], {"pictures": sources_digest(run), "unreadable": reasons})
            else:
                advance(len(run))
    distributed.barrier()
    left_out = [pair for file, run in zip(files, runs) for pair in (_kept(file, run) or {}).items()]
    _say_left_out(left_out, len(image_ids), dataset.name)
    return frozenset(image_id for image_id, _ in left_out)


def _kept(file: Path, run: Sequence[str]) -> dict[str, str] | None:
    """Return what an earlier look at these pictures found, None where there was none."""
    try:
        document = json.loads(file.read_text())
        return dict(document["unreadable"]) if document["pictures"] == sources_digest(run) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # none yet, or not whole: it is only a shortcut


def _encoded(front: FrontEnd, dataset: Dataset, folder: Path, quiet: bool) -> ImageFeatures:
    sources = dataset_sources(dataset)
    settings = StoreSettings(dtype="fp32", shard_images=min(MOST, max(FEWEST, -(-len(sources) // SHARDS))))
    share = (distributed.rank() + 1, distributed.world_size())
    try:
        with _bar("features", len(sources), quiet) as advance, torch.inference_mode():
            build_index(front, sources, folder, share=share, settings=settings, progress=advance)
        distributed.barrier()  # another process may finish the store
        manifest = read_manifest(folder)
    except StoreError as error:
        raise DataError(f"{dataset.name}: {error}") from error
    skipped = [entry for shard in manifest.shards for entry in read_shard(folder / shard.file).skipped]
    _say_left_out(skipped, len(sources), dataset.name)
    store = Store.open(folder)
    try:
        return store.gather(torch.arange(len(store)))
    finally:
        store.close()


@contextmanager
def _bar(label: str, total: int, quiet: bool) -> Iterator[Callable[[int], object]]:
    """Show a bar of the first process's share; yields a function of how many more are done."""
    hidden = True if quiet or distributed.rank() else None
    with tqdm(total=-(-total // distributed.world_size()), desc=label, unit="img", leave=False, disable=hidden) as bar:
        yield bar.update


def _say_left_out(skipped: Sequence[tuple[str, str]], total: int, name: str) -> None:
    """Name what cannot be read, once; raises DataError where that is everything."""
    if len(skipped) == total:
        raise DataError(f"{name}: not one of its {total} pictures can be read; the first: {skipped[0][1]}")
    if distributed.rank() == 0 and skipped:
        for line in left_out(skipped):
            print(line, file=sys.stderr)
        print(f"{name}: {len(skipped)} of {total} pictures cannot be read and are left out", file=sys.stderr)


def _each(material: Material) -> tuple[Groups, ...]:
    """Return the groups of every text, also where each fragment is on its own."""
    return material.groups or tuple(tuple((place,) for place in range(len(split))) for split in material.fragments)


def _groups_of(fragmenter: Fragmenter | None, fragments: Sequence[Sequence[str]]) -> tuple[Groups, ...] | None:
    if not isinstance(fragmenter, FragmentGrouper):
        return None
    groups = tuple(fragmenter.groups(split) for split in fragments)
    shared = any(len(of_text) < len(split) for of_text, split in zip(groups, fragments))
    return groups if shared else None


def _refuse_not_finite(images: ImageFeatures, name: str) -> None:
    if images.regions is not None:
        bad = (~images.regions.values.isfinite().all(dim=1)).nonzero().flatten()
        if len(bad):
            owner = int(torch.searchsorted(images.regions.offsets, bad[0], right=True)) - 1
            raise DataError(f"{name}: picture {images.ids[owner]!r}: its region features are not finite")
    whole = (~images.global_features.isfinite().all(dim=1)).nonzero().flatten()
    if len(whole):
        raise DataError(f"{name}: picture {images.ids[int(whole[0])]!r}: its whole-image feature is not finite")
