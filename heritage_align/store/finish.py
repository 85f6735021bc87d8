"""Write a finished store's manifest, and merge stores."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from heritage_align.errors import StoreError
from heritage_align.store.files import file_digest, write_json
from heritage_align.store.layout import (
    BUILD,
    CONFIG,
    MANIFEST,
    Build,
    Manifest,
    ShardEntry,
    read_build,
    read_manifest,
    refuse_identity,
    shard_name,
)
from heritage_align.store.shard import Shard, read_shard


class _NothingRead(StoreError):
    """No picture of a whole collection could be read."""


def finish(folder: Path, build: Build, known: Mapping[str, ShardEntry] | None = None) -> Manifest | None:
    """Write the manifest if every shard is there; return it, or None if some are missing.

    Shards of which none holds a picture are removed, so that the next build tries the pictures again.

    Args:
        folder: of the store.
        build: what it is built from.
        known: as of `manifest_of`.

    Raises:
        StoreError: no picture of the whole collection could be read, or shards differ in what they hold.
    """
    files = [folder / shard_name(number) for number in range(build.shards)]
    if not all(file.exists() for file in files):
        return None
    try:
        manifest = manifest_of(folder, build, files, known)
    except _NothingRead:
        for file in files:
            file.unlink(missing_ok=True)
        raise
    write_json(folder / MANIFEST, manifest.asdict())
    return manifest


def merge(paths: Sequence[str | Path], out: str | Path) -> Manifest:
    """Merge stores, or parts of one store that `--shard i/n` built in folders of their own, into a new folder.

    Files are linked where the file system can, else copied. Parts of one build are put in its order; whole stores
    follow each other in the order given.

    Raises:
        StoreError: different encoders or settings, a shard that is missing or there twice, or `out` exists.
    """
    folders, target = [Path(path) for path in paths], Path(out)
    if not folders:
        raise StoreError("merge: expected at least one store")
    if target.exists() and any(target.iterdir()):
        raise StoreError(f"{target}: exists already and is not empty")
    builds = [read_build(folder) for folder in folders]
    for folder, build in zip(folders[1:], builds[1:]):
        refuse_identity(build.identity, builds[0].identity, folder)
        if build.dtype != builds[0].dtype:
            raise StoreError(f"{folder}: stores {build.dtype}, {folders[0]} stores {builds[0].dtype}")
    first = builds[0]
    if len(folders) > 1 and len({b.sources_digest for b in builds}) == 1:
        files = _parts(folders, first)
        build = first
    else:
        files = [folder / entry.file for folder in folders for entry in read_manifest(folder).shards]
        build = replace(first, sources=sum(b.sources for b in builds), sources_digest="merged")
    _refuse_repeated_ids([read_shard(file) for file in files])  # before anything is written
    target.mkdir(parents=True, exist_ok=True)
    if (folders[0] / CONFIG).exists():
        shutil.copyfile(folders[0] / CONFIG, target / CONFIG)
    placed = []
    for number, file in enumerate(files):
        placed.append(target / shard_name(number))
        try:
            os.link(file, placed[-1])
        except OSError:
            shutil.copyfile(file, placed[-1])
    manifest = manifest_of(target, build, placed)
    write_json(target / BUILD, build.asdict())
    write_json(target / MANIFEST, manifest.asdict())
    return manifest


def _parts(folders: Sequence[Path], build: Build) -> list[Path]:
    files = []
    for number in range(build.shards):
        name = shard_name(number)
        found = [folder / name for folder in folders if (folder / name).exists()]
        if len(found) != 1:
            where = ", ".join(str(file.parent) for file in found) or "none of the parts"
            raise StoreError(f"merge: {name} of {build.shards} is in {where}; expected it in exactly one part")
        files.append(found[0])
    return files


def _refuse_repeated_ids(shards: Sequence[Shard]) -> None:
    seen: dict[str, Path] = {}
    for shard in shards:
        for image_id in shard.ids:
            if image_id in seen:
                raise StoreError(f"image id {image_id!r} is in {seen[image_id]} and in {shard.path}")
            seen[image_id] = shard.path


def manifest_of(
    folder: Path, build: Build, files: Sequence[Path], known: Mapping[str, ShardEntry] | None = None
) -> Manifest:
    """Return the manifest of shards that are there.

    Args:
        folder: of the store.
        build: what they were built from.
        files: the shards in their order.
        known: entries of files that need not be read again, by name.

    Raises:
        StoreError: the shards hold no image, or differ in what they hold.
    """
    known = known or {}
    shards = [read_shard(file) for file in files]
    filled = [shard for shard in shards if len(shard)]
    if not filled:
        reasons = [f"; the first: {reason}" for shard in shards for _, reason in shard.skipped]
        first = reasons[0] if reasons else ""
        raise _NothingRead(f"{folder}: not one of {build.sources} pictures could be read{first}")
    _refuse_repeated_ids(shards)
    dim = filled[0].tensors["global"].shape[1]
    kinds = {_kind(shard) for shard in filled}
    if len(kinds) != 1 or any(shard.tensors["global"].shape[1] != dim for shard in filled):
        raise StoreError(f"{folder}: its shards hold different features; build it again")
    entries = tuple(known.get(file.name) or _entry(file, shard) for file, shard in zip(files, shards))
    return Manifest(build, dim, filled[0].folded, entries)


def _entry(file: Path, shard: Shard) -> ShardEntry:
    return ShardEntry(
        file.name,
        len(shard),
        len(shard.tensors["regions.values"]) if "regions.values" in shard.tensors else 0,
        len(shard.skipped),
        file.stat().st_size,
        file_digest(file),
    )


def _kind(shard: Shard) -> tuple[bool, str, str]:
    return "regions.values" in shard.tensors, shard.folded, str(shard.tensors["global"].dtype)
