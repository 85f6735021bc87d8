"""Take a collection's changes into its store: what was added or replaced is encoded, what is gone is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heritage_align.encoding import ImageSource
from heritage_align.errors import StoreError
from heritage_align.indexing import keep_index
from heritage_align.pipeline import Pipeline
from heritage_align.repeated import first_repeated
from heritage_align.shards import ShardJob
from heritage_align.store.contents import NO_FILE, Content, contents_of
from heritage_align.store.files import file_digest, write_json
from heritage_align.store.finish import manifest_of
from heritage_align.store.layout import (
    BUILD,
    MANIFEST,
    Manifest,
    ShardEntry,
    read_build,
    read_manifest,
    refuse_identity,
    sources_digest,
)
from heritage_align.store.lock import changing
from heritage_align.store.rewriting import shard_name_of, write_rows
from heritage_align.store.shard import Shard, find_shard, read_shard


@dataclass(frozen=True)
class Changes:
    """How a collection differs from its store, by image id in the order of the collection (of the store for `removed`).

    Attributes:
        added: pictures that the store does not hold, those that could not be read and have changed since among them.
        replaced: pictures whose file holds something else.
        removed: images of the store whose picture is gone, those that the collection still names among them.
        unknown: pictures of which nothing tells whether they changed: they are no files, or the store is older.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]
    unknown: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.replaced or self.removed)


@dataclass(frozen=True)
class UpdateReport:
    """What one `update_index` call did.

    Attributes:
        changes: what differed.
        images: images in the store now.
        skipped: ``(image id, reason)`` of pictures of the store that could not be read.
        written: shards that were written.
    """

    changes: Changes
    images: int
    skipped: tuple[tuple[str, str], ...]
    written: int


def find_changes(shards: Sequence[Shard], sources: Sequence[ImageSource], workers: int) -> Changes:
    """Compare a collection with the shards of its store; reads every file once, decodes none.

    Args:
        shards: of the store.
        sources: the collection.
        workers: threads that read.
    """
    return _changes(shards, _contents(sources, workers))


def update_index(
    pipeline: Pipeline,
    sources: Sequence[ImageSource],
    path: str | Path,
    progress: Callable[[int], object] | None = None,
    *,
    retry: bool = False,
) -> UpdateReport:
    """Make a store hold a collection as it is now; only pictures that were added or replaced are encoded.

    New shards are written beside the old ones and the manifest is replaced last: a run that is killed leaves the store
    as it was, and the next one goes on with the shards that are there. Readers that are open go on with what they
    opened: files that the manifest before this one names stay until the next update, or `compact`. An index that is
    kept is built again over the store as it is now.

    Args:
        pipeline: of the configuration that the store was made with.
        sources: the whole collection in its order.
        path: the store's folder.
        progress: called with the number of pictures encoded since the last call.
        retry: try pictures that could not be read again though their files are the same.

    Raises:
        StoreError: there is no finished store, another configuration made it, another process is changing it, a shard
            that is to be written again is damaged, or none of its images is in the collection.
    """
    folder = Path(path)
    read_manifest(folder)  # says what is wrong with a folder that is no finished store
    with changing(folder):
        report = _update(pipeline, sources, folder, progress or (lambda _: None), retry)
    keep_index(pipeline, folder)
    return report


def _update(
    pipeline: Pipeline, sources: Sequence[ImageSource], folder: Path, progress: Callable[[int], object], retry: bool
) -> UpdateReport:
    before = read_manifest(folder)
    refuse_identity(before.build.identity, pipeline.identity(), folder)
    ids = [source.id for source in sources]
    twice = first_repeated(ids)
    if twice is not None:
        raise StoreError(f"{folder}: image id {twice!r} occurs twice in the collection")
    listed = set(ids)
    # A shard that was lost or cut is no shard: its pictures count as added.
    found = (find_shard(folder / entry.file) for entry in before.shards)
    shards = [shard for shard in found if shard is not None]
    contents = _contents(sources, pipeline.config.runtime.threads())
    changes = _changes(shards, contents, retry)
    build = replace(before.build, sources=len(ids), sources_digest=sources_digest(ids))
    gone = any(image_id not in listed for shard in shards for image_id, _ in shard.skipped)
    if not changes and not gone and len(shards) == len(before.shards):
        # The order alone, pictures that cannot be read, or a run that was killed between the two documents.
        if build != before.build or not (folder / BUILD).exists() or build != read_build(folder):
            _replace_manifest(folder, replace(before, build=build), before)
        return UpdateReport(changes, before.images, _skipped(shards), 0)
    held = sum(map(len, shards))
    if held and len(changes.removed) == held:
        raise StoreError(
            f"{folder}: none of its {held} images is in the collection; is this its collection? "
            "For another one build another store"
        )
    stale = {*changes.added, *changes.replaced, *changes.removed}
    entries = {entry.file: entry for entry in before.shards}
    files: list[Path] = []
    written = 0
    for shard in shards:
        file, fresh = _kept(folder, shard, entries[shard.path.name], stale, listed)
        files += [file] if file is not None else []
        written += fresh
    encode = {*changes.added, *changes.replaced, *changes.removed}
    waiting = [source for source in sources if source.id in encode]
    jobs: list[ShardJob] = []
    for start in range(0, len(waiting), build.shard_images):
        run = waiting[start : start + build.shard_images]
        known = [[source.id, (contents[source.id] or b"").hex()] for source in run]
        file = folder / shard_name_of([build.identity["image_config"], build.dtype, known])
        # What is no file may have changed under its name.
        if find_shard(file) is None or any(contents[source.id] is None for source in run):
            jobs.append(ShardJob(file, run, contents))
        else:
            progress(len(run))
        files.append(file)
    pipeline.executor.encode_shards(pipeline, jobs, build.dtype, progress)
    written += len(jobs)
    after = manifest_of(folder, build, files, entries)
    _replace_manifest(folder, after, before)
    return UpdateReport(changes, after.images, _skipped([read_shard(file) for file in files]), written)


def compact(path: str | Path) -> Manifest:
    """Put a store's images into full shards again, in their order, and remove the files that no manifest names.

    Nothing is encoded; features stay as they are to the bit. Readers that are open must open the store again.

    Raises:
        StoreError: there is no finished store, another process is changing it, or a shard is damaged.
    """
    folder = Path(path)
    read_manifest(folder)
    with changing(folder):
        before = read_manifest(folder)
        shards = [read_shard(folder / entry.file) for entry in before.shards]
        runs = list(_full_runs(shards, before.build.shard_images))
        if [[(shard.path, len(rows)) for shard, rows in run] for run in runs] == [[(s.path, len(s))] for s in shards]:
            _remove_others(folder, before)
            return before
        for shard, entry in zip(shards, before.shards):
            _refuse_damaged(shard, entry)
        skipped = list(_skipped(shards))
        files: list[Path] = []
        for pieces in runs:
            known = [[shard.path.name, rows] for shard, rows in pieces]
            file = folder / shard_name_of(["compact", known, [] if files else skipped])
            if find_shard(file) is None:
                write_rows(file, [*pieces, *((shard, []) for shard in shards)], [] if files else skipped)
            files.append(file)
        after = manifest_of(folder, before.build, files)
        write_json(folder / MANIFEST, after.asdict())
        _remove_others(folder, after)
        return after


def _contents(sources: Sequence[ImageSource], workers: int) -> dict[str, Content | None]:
    return {source.id: content for source, content in zip(sources, contents_of(sources, workers))}


def _changes(shards: Sequence[Shard], contents: Mapping[str, Content | None], retry: bool = False) -> Changes:
    held = {image_id for shard in shards for image_id in shard.ids}
    known = {image_id: content for shard in shards for image_id, content in shard.contents().items()}
    bad = {image_id: shard.skipped_contents.get(image_id) for shard in shards for image_id, _ in shard.skipped}
    added, replaced, unknown, gone = [], [], [], set()
    for image_id, content in contents.items():
        if image_id in held:
            then = known.get(image_id)
            if content == NO_FILE:
                gone.add(image_id)
            elif content is None or then is None:
                unknown.append(image_id)
            elif content != then:
                replaced.append(image_id)
        elif retry or image_id not in bad or content is None or content != bad[image_id]:
            added.append(image_id)
    removed = [i for shard in shards for i in shard.ids if i not in contents or i in gone]
    return Changes(tuple(added), tuple(replaced), tuple(removed), tuple(unknown))


def _kept(folder: Path, shard: Shard, entry: ShardEntry, stale: set[str], listed: set[str]) -> tuple[Path | None, bool]:
    """Return the file of what is left of a shard, None for nothing, and whether it was written."""
    rows = [row for row, image_id in enumerate(shard.ids) if image_id not in stale]
    skipped = [each for each in shard.skipped if each[0] in listed and each[0] not in stale]
    if len(rows) == len(shard.ids) and len(skipped) == len(shard.skipped):
        return shard.path, False
    if not rows and not skipped:
        return None, False
    file = folder / shard_name_of([shard.path.name, rows, skipped])
    if find_shard(file) is not None:
        return file, False
    _refuse_damaged(shard, entry)
    write_rows(file, [(shard, rows)], skipped)
    return file, True


def _refuse_damaged(shard: Shard, entry: ShardEntry) -> None:
    """Raise StoreError if a shard is not what was written: a copy of its rows would pass for sound."""
    if file_digest(shard.path) != entry.sha256:
        raise StoreError(
            f"{shard.path}: its content changed since it was written (heritage-align index verify says how); remove "
            "the file, and index update encodes its pictures again"
        )


def _full_runs(shards: Sequence[Shard], size: int) -> Iterator[list[tuple[Shard, list[int]]]]:
    """Cut the rows of all shards into runs of `size` images."""
    run: list[tuple[Shard, list[int]]] = []
    room = size
    for shard in shards:
        start = 0
        while start < len(shard):
            rows = list(range(start, min(len(shard), start + room)))
            run.append((shard, rows))
            start, room = start + len(rows), room - len(rows)
            if not room:
                yield run
                run, room = [], size
    if run:
        yield run


def _skipped(shards: Sequence[Shard]) -> tuple[tuple[str, str], ...]:
    return tuple(entry for shard in shards for entry in shard.skipped)


def _replace_manifest(folder: Path, after: Manifest, before: Manifest) -> None:
    """Switch to the new manifest, then remove what neither it nor the one before names."""
    write_json(folder / MANIFEST, after.asdict())
    write_json(folder / BUILD, after.build.asdict())
    _remove_others(folder, after, before)


def _remove_others(folder: Path, *manifests: Manifest) -> None:
    named = {entry.file for manifest in manifests for entry in manifest.shards}
    for file in folder.glob("shard-*.safetensors"):
        if file.name not in named:
            file.unlink(missing_ok=True)
