"""Encode a collection into a store: streaming, resumable after any kill, in shards that several machines can share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heritage_align.config import StoreSettings
from heritage_align.encoding import ImageSource
from heritage_align.errors import ImageError, StoreError
from heritage_align.features import concat_images
from heritage_align.front_end import FrontEnd
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import KeptIndex
from heritage_align.store import Store
from heritage_align.store.contents import Content, contents_of
from heritage_align.store.files import write_json, write_text
from heritage_align.store.finish import finish
from heritage_align.store.kept import Keeper
from heritage_align.store.layout import (
    BUILD,
    CONFIG,
    MANIFEST,
    Build,
    first_repeated,
    read_build,
    read_manifest,
    shard_name,
    sources_digest,
)
from heritage_align.store.shard import as_stored, find_shard, read_shard, wait_for_copies, write_shard
from heritage_align.types import ImageFeatures


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
    first shard that is missing or not whole; what comes out is the same to the byte.

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
    found = images = 0
    written: list[str] = []
    remade: list[str] = []
    skipped: list[tuple[str, str]] = []
    for index in range(number - 1, build.shards, of):
        file = folder / shard_name(index)
        run = sources[index * build.shard_images : (index + 1) * build.shard_images]
        shard = find_shard(file)
        if shard is not None:
            found += 1
            advance(len(run))
        else:
            remade += [file.name] if file.exists() else []
            encode_shard(pipeline, run, file, build.dtype, advance)
            written.append(file.name)
            shard = read_shard(file)
        images += len(shard)
        skipped += shard.skipped
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
        write_text(folder / CONFIG, pipeline.config.to_yaml())
        write_json(folder / BUILD, build.asdict())
    return build


def encode_shard(
    pipeline: Pipeline | FrontEnd,
    sources: Sequence[ImageSource],
    file: Path,
    dtype: str,
    advance: Callable[[int], object],
    contents: Mapping[str, Content | None] | None = None,
) -> None:
    """Encode pictures into one shard.

    Args:
        pipeline: encodes.
        sources: the shard's pictures.
        file: of the shard.
        dtype: as of `write_shard`.
        advance: called with the number of pictures done since the last call.
        contents: digests of the files by image id, where they are known already.
    """
    if contents is None:
        # Before they are decoded: a file that changes meanwhile is then encoded again by the next update.
        found = contents_of(sources, pipeline.config.runtime.threads())
        contents = {source.id: content for source, content in zip(sources, found)}
    skipped: list[tuple[str, str]] = []

    def on_error(image_id: str, error: ImageError) -> None:
        skipped.append((image_id, str(error)))
        advance(1)

    parts: list[ImageFeatures] = []
    folds_to_global = True
    for features in pipeline.encode_stream(sources, on_error=on_error, factors=False):
        folds_to_global &= features.folded is features.global_features
        parts.append(as_stored(features, dtype, factors=pipeline.factors))
        advance(len(features))
    wait_for_copies()
    features_of_shard = concat_images(parts) if parts else None
    if features_of_shard is not None and folds_to_global:
        features_of_shard.folded = features_of_shard.global_features
    write_shard(file, features_of_shard, skipped, dtype, contents)
