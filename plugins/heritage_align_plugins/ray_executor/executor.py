"""Encode and search on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ray.exceptions import RayActorError

from heritage_align import ImageFeatures, ImageSource, Pipeline, Searcher
from heritage_align.plugin import BuildContext, ConfigError, ImageError, ShardJob, StoreError, file_digest, moved
from heritage_align_plugins.ray_executor.config import RayExecutorConfig
from heritage_align_plugins.ray_executor.encoding import (
    WINDOW,
    Batch,
    Target,
    encoded_rows,
    read_row,
    written_shards,
)
from heritage_align_plugins.ray_executor.faults import first_line, is_lost, last_line, said_by
from heritage_align_plugins.ray_executor.holders import RayHolders
from heritage_align_plugins.ray_executor.session import connect, most_of
from heritage_align_plugins.ray_executor.work import gpus_of, mark_of, work_of

ATTEMPTS = 3
"""Runs of Ray Data that may end by losses without a shard: each has tried its tasks several times already."""


class RayExecutor:
    """Encodes and searches on a cluster; see `protocols.Executor`.

    Workers build their pipelines from the resolved configuration, of the plugins that they find; every node needs the
    same installation, and sees the collection and the store under the same paths.
    """

    def __init__(self, config: RayExecutorConfig, context: BuildContext) -> None:
        self._settings = config

    def encode_shards(
        self, pipeline: Pipeline, jobs: Iterable[ShardJob], dtype: str, advance: Callable[[int], object]
    ) -> None:
        """Encode shards; `advance` is called when a shard is written."""
        waiting = list(jobs)
        if not waiting:
            return
        self._begin(pipeline)
        size = pipeline.config.runtime.batch_size
        mark, digest = mark_of(waiting[0].file.parent)
        work, lost = work_of(pipeline, self._settings), Losses(str(waiting[0].file.parent))
        while waiting:
            # All have as many batches but for the last one of all, which stays the last.
            batches = len(waiting[0].batches(size))
            window, done = waiting[: max(1, WINDOW // batches)], set[int]()
            target = Target(tuple(str(job.file.resolve()) for job in window), dtype, mark, digest)
            rows = [row for number, job in enumerate(window) for row in _batches_of(number, job, size)]
            try:
                encoded = encoded_rows(pipeline, self._settings, rows, dtype)
                for number in written_shards(encoded, target, work, batches):
                    done.add(number)
                    advance(len(window[number].sources))
            except Exception as error:
                lost.count(error, bool(done))
            waiting = [job for number, job in enumerate(window) if number not in done] + waiting[len(window) :]

    def encode_stream(
        self, pipeline: Pipeline, sources: Sequence[ImageSource], *, on_error: Callable[[str, ImageError], None]
    ) -> Iterator[ImageFeatures]:
        """Encode batch by batch."""
        self._begin(pipeline)
        batches = ShardJob(Path(), sources).batches(pipeline.config.runtime.batch_size)
        done, lost = 0, Losses("encoding")
        while done < len(batches):
            before = done
            rows = [(0, n, 1, _ids_of(batch)) for n, batch in enumerate(batches[done : done + WINDOW])]
            try:
                for row in encoded_rows(pipeline, self._settings, rows, "fp32").iter_rows():
                    done += 1
                    for part in read_row(row).parts:
                        for image_id, reason in part.skipped:
                            on_error(image_id, ImageError(reason))
                        if part.features is not None:
                            yield moved(part.features, pipeline.device)
            except Exception as error:
                lost.count(error, done > before)

    def open_searcher(
        self,
        pipeline: Pipeline,
        path: str | Path,
        *,
        resident: bool = True,
        progress: Callable[[int, int], object] | None = None,
    ) -> Searcher:
        """Open a store that workers hold; queries are encoded here, and the regions of the best answers read here."""
        self._begin(pipeline)
        opened = Searcher.open_here(pipeline, path, resident=False)
        manifest = file_digest(Path(path) / "manifest.json")
        if not len(opened.store):
            return opened  # which says so at the first query
        return Searcher(pipeline, opened.store, holders=RayHolders(pipeline, opened.store, self._settings, manifest))

    def _begin(self, pipeline: Pipeline) -> None:
        connect(self._settings)
        faults = []
        for resource, wanted in (("CPU", float(self._settings.cpus)), ("GPU", gpus_of(pipeline, self._settings))):
            if wanted > most_of(resource):
                key = f"executor.{resource.lower()}s"
                faults.append(
                    f"{key}: a worker takes {wanted:g}, the largest node of the cluster has {most_of(resource):g}"
                )
        if faults:
            raise ConfigError(faults, pipeline.config.source)


class Losses:
    """Tells losses, after which the work goes on, from what ends it.

    Args:
        where: what is lost, for the message.
    """

    def __init__(self, where: str) -> None:
        self._where, self._in_vain = where, 0

    def count(self, error: Exception, progress: bool) -> None:
        """Take note of a loss, after which there is to be another try.

        Args:
            error: what ended a try.
            progress: whether anything was done in it.

        Raises:
            HeritageAlignError: as a worker raised it, or of `ATTEMPTS` tries in vain.
            Exception: the error itself, if nothing was lost.
        """
        told = said_by(error)
        if told is not None:
            raise told from error
        if not is_lost(error):
            if isinstance(error, RayActorError):
                raise StoreError(
                    f"{self._where}: a worker cannot start: {last_line(error)}; every node needs the same installation"
                ) from error
            raise error
        self._in_vain = 0 if progress else self._in_vain + 1
        if self._in_vain == ATTEMPTS:
            raise StoreError(
                f"{self._where}: the cluster lost its workers {ATTEMPTS} times and did nothing between: "
                f"{first_line(error)}; what is written stays, and the same command goes on"
            ) from error


def _batches_of(number: int, job: ShardJob, size: int) -> Iterator[tuple[int, int, int, Batch]]:
    batches = job.batches(size)
    for place, sources in enumerate(batches):
        yield number, place, len(batches), _ids_of(sources, job.contents)


def _ids_of(sources: Sequence[ImageSource], contents: Mapping[str, bytes | None] | None = None) -> Batch:
    ids = tuple(source.id for source in sources)
    return Batch(ids, None if contents is None else tuple(contents[image_id] for image_id in ids))
