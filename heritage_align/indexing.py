"""Encode a collection into a store: streaming, resumable after any kill, in shards that several machines can share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from heritage_align.config import StoreSettings
from heritage_align.encoding import ImageSource
from heritage_align.errors import StoreError
from heritage_align.front_end import FrontEnd
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import KeptIndex
from heritage_align.repeated import first_repeated
from heritage_align.shards import ShardJob, encode_shards_here
from heritage_align.store import Store
from heritage_align.store.files import write_json, write_text
from heritage_align.store.finish import finish
from heritage_align.store.kept import Keeper
from heritage_align.store.layout import (
    BUILD,
    CONFIG,
    MANIFEST,
    Build,
    read_build,
    read_manifest,
    shard_name,
    sources_digest,
)
from heritage_align.store.shard import Shard, find_shard, read_shard


@dataclass(frozen=True)
class BuildReport:
    """What one `build_index` call did.

    Attributes:
        written: shards that were encoded and written.
        remade: file names of those among them that were there and not whole: cut by a full disk or a copy, damaged.
        found: shards of this process's share that were there already.
        images: images in the shards of this share.
        skipped: ``(image id, reason)`` of its pictures that could not be read.
        finished: whether the store is complete (other shares may still be missing).
    """

    written: int
    found: int
    images: int
    skipped: tuple[tuple[str, str], ...]
    finished: bool
    remade: tuple[str, ...] = ()


def build_index(
    pipeline: Pipeline | FrontEnd,
    sources: Sequence[ImageSource],
    path: str | Path,
    *,
    share: tuple[int, int] = (1, 1),
    settings: StoreSettings | None = None,
    progress: Callable[[int], object] | None = None,
) -> BuildReport:
    """Encode pictures into a store, or go on with one that was begun.

    A shard holds a fixed run of the sources, so a bad picture shifts nothing and a killed build goes on with the
    first shard that is missing or not whole; what comes out is the same to the byte. A pipeline's executor encodes.

    Args:
        pipeline: encodes; a front end alone folds nothing.
        sources: the whole collection in its order, also for one share of it.
        path: the store's folder.
        share: ``(i, n)``, 1 <= i <= n: this process takes shards i, i + n, i + 2n and so on.
        settings: of the store; by default those of the configuration.
        progress: called with the number of pictures done since the last call.

    The index of a pipeline whose index is kept is built beside the shards by the process that finishes the store.

    Raises:
        StoreError: the folder holds another build or cannot be written, ids occur twice, or no picture can be read.
        ConfigError: as `FrontEnd.require_pictures`, before anything is written.
    """
    folder = Path(path)
    number, of = share
    if not 1 <= number <= of:
        raise StoreError(f"share {number}/{of}: expected i/n with 1 <= i <= n")
    if not (folder / BUILD).exists():
        pipeline.require_pictures(sources)
    build = _begin(pipeline, sources, folder, settings or pipeline.config.store)
    updated = _updated(folder)
    if updated is not None:
        if isinstance(pipeline, Pipeline):
            keep_index(pipeline, folder)
        return updated
    advance = progress or (lambda _: None)
    files = {index: folder / shard_name(index) for index in range(number - 1, build.shards, of)}
    shards: dict[Path, Shard] = {}
    written: list[str] = []
    remade: list[str] = []

    def missing() -> Iterator[ShardJob]:
        for index, file in files.items():
            run = sources[index * build.shard_images : (index + 1) * build.shard_images]
            shard = find_shard(file)
            if shard is not None:
                shards[file] = shard
                advance(len(run))
                continue
            remade.extend([file.name] if file.exists() else [])
            written.append(file.name)
            yield ShardJob(file, run)

    if isinstance(pipeline, Pipeline):
        pipeline.executor.encode_shards(pipeline, missing(), build.dtype, advance)
    else:
        encode_shards_here(pipeline, missing(), build.dtype, advance)
    found = len(shards)
    for file in files.values():
        if file not in shards:
            shards[file] = read_shard(file)
    images = sum(map(len, shards.values()))
    skipped = [skipped for file in files.values() for skipped in shards[file].skipped]
    # What a manifest says of shards that nobody wrote now stays: `verify` compares with it, and would take a shard that
    # has changed on the disk since for sound.
    there = read_manifest(folder).shards if (folder / MANIFEST).exists() else ()
    known = {entry.file: entry for entry in there if entry.file not in written}
    finished = (not written and bool(there)) or finish(folder, build, known) is not None
    if finished and isinstance(pipeline, Pipeline):
        keep_index(pipeline, folder)
    return BuildReport(len(written), found, images, tuple(skipped), finished, tuple(remade))


def keep_index(pipeline: Pipeline, folder: Path) -> None:
    """Build the index of a finished store's first stage where the pipeline's is one that is kept and it is not there.

    Raises:
        StoreError: it cannot be built or written; the store itself is whole.
    """
    if isinstance(pipeline.index, KeptIndex):
        store = Store.open(folder)
        Keeper(pipeline.config.index.spec.name, pipeline.index).keep(store, store.first_stage_name)


def _updated(folder: Path) -> BuildReport | None:
    """Return the report of a store that `index update` has changed since it was built: there is nothing to encode."""
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    names = [entry.file for entry in manifest.shards]
    if names == [shard_name(number) for number in range(manifest.build.shards)]:
        return None
    skipped = tuple(skipped for name in names for skipped in read_shard(folder / name).skipped)
    return BuildReport(0, len(names), manifest.images, skipped, True)


def _begin(
    pipeline: Pipeline | FrontEnd, sources: Sequence[ImageSource], folder: Path, settings: StoreSettings
) -> Build:
    ids = [source.id for source in sources]
    if not ids:
        raise StoreError(f"{folder}: there are no pictures to encode")
    twice = first_repeated(ids)
    if twice is not None:
        raise StoreError(f"{folder}: image id {twice!r} occurs twice in the collection")
    build = Build(
        pipeline.identity(),
        pipeline.config.name,
        settings.dtype,
        settings.shard_images,
        len(ids),
        sources_digest(ids),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror or error}") from error
    # Looked for first: another process may begin between the two, and writes build.json before any shard.
    holds_shards = (folder / MANIFEST).exists() or any(folder.glob("shard-*.safetensors"))
    if (folder / BUILD).exists():
        read_build(folder).refuse_other(build, folder)
    elif holds_shards:
        raise StoreError(f"{folder}: holds shards but no {BUILD}; choose another folder")
    else:
        # build.json last: where it is, a run that is killed in between has left nothing undone.
        data = pipeline.config.data  # its pictures are looked for from other folders too
        write_text(folder / CONFIG, pipeline.config.to_yaml(absolute=[] if data is None else [data]))
        write_json(folder / BUILD, build.asdict())
    return build
