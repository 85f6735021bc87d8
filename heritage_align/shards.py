"""Shards as work: which pictures one holds, what each batch of them gives, and how that becomes a file.

A shard is the same to the byte wherever its batches were encoded, as long as their pictures are those that one process
would have encoded together: `ShardJob.batches` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from heritage_align.encoding import ImageSource
from heritage_align.errors import ImageError
from heritage_align.features import concat_images
from heritage_align.front_end import FrontEnd
from heritage_align.pipeline import Pipeline
from heritage_align.store.contents import Content, contents_of
from heritage_align.store.shard import as_stored, wait_for_copies, write_shard
from heritage_align.types import ImageFeatures


class ShardJob(NamedTuple):
    """One shard that is to be encoded.

    Attributes:
        file: of the shard.
        sources: its pictures in their order.
        contents: digests of the pictures' files by image id, where they are known already.
    """

    file: Path
    sources: Sequence[ImageSource]
    contents: Mapping[str, Content | None] | None = None

    def batches(self, size: int) -> list[Sequence[ImageSource]]:
        """Return the pictures that are encoded together, `size` of ``runtime.batch_size`` each, the last ones fewer."""
        return [self.sources[start : start + size] for start in range(0, len(self.sources), size)]


class ShardPart(NamedTuple):
    """What a batch of a shard's pictures gave.

    Attributes:
        features: on the CPU, regions rounded as the shard keeps them; None where no picture could be read.
        skipped: ``(image id, reason)`` of pictures that could not be read.
        folds_to_global: whether the similarity's fold is the global vector itself.
    """

    features: ImageFeatures | None
    skipped: tuple[tuple[str, str], ...]
    folds_to_global: bool


def encode_parts(
    pipeline: Pipeline | FrontEnd, sources: Sequence[ImageSource], dtype: str, advance: Callable[[int], object]
) -> Iterator[ShardPart]:
    """Encode pictures of one shard batch by batch, decoding the next batch meanwhile.

    Args:
        pipeline: encodes.
        sources: pictures of one shard, from the first one of a batch on.
        dtype: storage of the features (`StoreSettings.dtype`).
        advance: called with the number of pictures done since the last call.

    Yields:
        A part a batch; features of a GPU may still be on their way (`wait_for_copies`), and pictures that cannot be
        read come with the part after the one that they were found beside, the last ones in a part of their own.
    """
    skipped: list[tuple[str, str]] = []

    def on_error(image_id: str, error: ImageError) -> None:
        skipped.append((image_id, str(error)))
        advance(1)

    for features in pipeline.encode_stream(sources, on_error=on_error, factors=False):
        folds = features.folded is features.global_features
        yield ShardPart(as_stored(features, dtype, factors=pipeline.factors), tuple(skipped), folds)
        skipped.clear()
        advance(len(features))
    if skipped:
        yield ShardPart(None, tuple(skipped), True)


def write_parts(
    file: Path, parts: Iterable[ShardPart], dtype: str, contents: Mapping[str, Content | None] | None = None
) -> None:
    """Write a shard of all its parts, in the order of its pictures.

    Args:
        file: of the shard; it appears under its name when it is whole.
        parts: of the shard.
        dtype: as they were made for.
        contents: digests of the pictures' files by image id.

    Raises:
        StoreError: the file cannot be written.
    """
    parts = list(parts)
    wait_for_copies()
    found = [part.features for part in parts if part.features is not None]
    features = concat_images(found) if found else None
    if features is not None and all(part.folds_to_global for part in parts):
        features.folded = features.global_features
    write_shard(file, features, [each for part in parts for each in part.skipped], dtype, contents)


def encode_shards_here(
    pipeline: Pipeline | FrontEnd, jobs: Iterable[ShardJob], dtype: str, advance: Callable[[int], object]
) -> None:
    """Encode shards in this process, one after the other.

    Args:
        pipeline: encodes.
        jobs: the shards, asked for one by one: a shard that another process has written meanwhile need not be among
            them.
        dtype: as of `encode_parts`.
        advance: as of `encode_parts`.

    Raises:
        StoreError: a shard cannot be written; those before it are whole.
    """
    for job in jobs:
        contents = job.contents
        if contents is None:
            # Before they are decoded: a file that changes meanwhile is then encoded again by the next update.
            found = contents_of(job.sources, pipeline.config.runtime.threads())
            contents = {source.id: content for source, content in zip(job.sources, found)}
        write_parts(job.file, encode_parts(pipeline, job.sources, dtype, advance), dtype, contents)
